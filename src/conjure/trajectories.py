r"""Texts as what a language model would say next: meanings as trajectories (Liu et al., ICLR 2024, arXiv 2310.18348).

From either text n continuations of at most m tokens are drawn, T_u and T_v. With M_u(t) the likelihood of a continuation t after
the text u, as a geometric mean over its tokens,

    d(u, v) = mean over t in T_u and T_v of |log M_u(t) - log M_v(t)|

It is the ancestor of the measure that Conjure computes, with a language model in place of the diffusion model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from conjure.baselines import NO_CODE, located, readable
from conjure.errors import InputError
from conjure.estimate import seed_of
from conjure.identity import digest_of

KEPT = 4096  # texts whose continuations are held


@dataclass(frozen=True)
class Said:
    """Continuations of one text. tokens: (n, m), after the end padded. real: (n, m), True where a token counts. own: mean log
    likelihood a token of each after that text, (n,)."""

    tokens: torch.Tensor
    real: torch.Tensor
    own: torch.Tensor


@dataclass
class Trajectories:
    """Distances by the continuations of a causal language model. number, length: n and m, 20 in the paper. seed: of the draws.

    rows: texts with a continuation in one call of the model.
    """

    name: str
    model: Any
    tokenizer: Any
    number: int = 20
    length: int = 20
    seed: int = 0
    rows: int = 80
    said: OrderedDict[str, Said] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def load(cls, model: str, device: str = "cpu", **options: Any) -> Trajectories:
        """The causal language model `model`, a folder or a Hub name. Errors: `InputError`."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where, revision = located(model)
        with readable(model):
            words = AutoTokenizer.from_pretrained(where, revision=revision, **NO_CODE)
            network = AutoModelForCausalLM.from_pretrained(where, revision=revision, use_safetensors=True, **NO_CODE)
        own = network.to(device).eval()
        return cls(f"trajectories:{model}", own, words, **options)

    def settings(self) -> dict[str, Any]:
        drawn = {"number": self.number, "length": self.length, "seed": self.seed}
        return {"name": self.name, "weights": digest_of(model=self.model, tokenizer=self.tokenizer), **drawn}

    @torch.no_grad()
    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Shape (pairs, 1): the draws of a text are the same in all its pairs."""
        return np.array([[self._distance(*pair)] for pair in pairs])

    def _distance(self, u: str, v: str) -> float:
        there, back = self._continued(u), self._continued(v)
        apart = [said.own - self._likelihoods(other, said.tokens, said.real) for said, other in ((there, v), (back, u))]
        return float(torch.cat(apart).abs().mean())

    def _prompt(self, text: str) -> torch.Tensor:
        tokens = self.tokenizer(text).input_ids
        most = getattr(self.model.config, "max_position_embeddings", None)
        if most is not None and len(tokens) + self.length > most:
            raise InputError(
                f"the text {text[:40]!r} has {len(tokens)} tokens, with a continuation {self.length} more; {self.name!r} takes "
                f"{most}; leave out this baseline, or the pair"
            )
        return torch.tensor(tokens, dtype=torch.long, device=self.model.device)

    def _continued(self, text: str) -> Said:
        """n continuations of `text`, drawn token by token at temperature 1 from the whole vocabulary."""
        if text in self.said:
            self.said.move_to_end(text)
            return self.said[text]
        generator = torch.Generator().manual_seed(seed_of((self.seed, *text.encode())))
        prompt = self._prompt(text)
        told = self.model(prompt.repeat(self.number, 1), use_cache=True, logits_to_keep=1)
        tokens, real = [], []
        going = torch.ones(self.number, dtype=torch.bool)
        for _ in range(self.length):
            likely = told.logits[:, -1].float().softmax(-1).cpu()
            drawn = torch.multinomial(likely, 1, generator=generator)[:, 0]
            tokens.append(drawn)
            real.append(going)
            going = going & (drawn != self.tokenizer.eos_token_id)  # the end itself still counts
            if len(tokens) == self.length or not going.any():
                break
            told = self.model(drawn[:, None].to(prompt.device), past_key_values=told.past_key_values, use_cache=True)
        all_tokens, all_real = torch.stack(tokens, 1), torch.stack(real, 1)
        self.said[text] = Said(all_tokens, all_real, self._likelihoods(text, all_tokens, all_real))
        if len(self.said) > KEPT:
            self.said.popitem(last=False)
        return self.said[text]

    def _likelihoods(self, text: str, tokens: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Mean log likelihood a token of each continuation (n, m) after `text`, shape (n,)."""
        prompt = self._prompt(text)
        answers = []
        for part, counts in zip(tokens.split(self.rows), real.split(self.rows), strict=True):
            rows = torch.cat([prompt.repeat(len(part), 1), part.to(prompt.device)], 1)
            logits = self.model(rows, logits_to_keep=part.shape[1] + 1).logits[:, :-1].float()
            each = logits.log_softmax(-1).gather(-1, rows[:, len(prompt) :, None])[..., 0].cpu()
            answers.append((each * counts).sum(1) / counts.sum(1))
        return torch.cat(answers)

r"""Distances of texts by their continuations under a causal language model (meanings as trajectories).

From either text, $n$ continuations of at most $m$ tokens are sampled, the sets $T_u$ and $T_v$. With $M_u(t)$ the likelihood of a
continuation $t$ after the text $u$, the geometric mean over the tokens of $t$, the distance is

$$d(u, v) = \frac{1}{|T_u| + |T_v|} \sum_{t \in T_u \cup T_v} |\log M_u(t) - \log M_v(t)|.$$

The distance of Liu and Soatto (2026), which Conjure computes, carries this idea over from language models to diffusion models.

Reference:
    Liu et al., Meaning Representations from Trajectories in Autoregressive Models, ICLR 2024, arXiv:2310.18348.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from conjure.baselines.huggingface import NO_REMOTE_CODE, open_model, weights_options
from conjure.diffusion.fingerprint import module_fingerprint
from conjure.diffusion.seeding import derive_seed
from conjure.diffusion.tokenizers import check_vocabulary
from conjure.errors import InputError

MAX_CACHED_CONTINUATIONS = 4096  # texts


@dataclass(frozen=True)
class Continuations:
    """Continuations of one text.

    Attributes:
        tokens: Token ids, shape (n, m), padded after the end of a continuation.
        mask: True for the tokens of a continuation, False for padding, shape (n, m).
        log_likelihood: Mean log likelihood per token of each continuation after its text, shape (n,).
    """

    tokens: Int[torch.Tensor, "continuations tokens"]
    mask: Bool[torch.Tensor, "continuations tokens"]
    log_likelihood: Float[torch.Tensor, " continuations"]


@dataclass
class ContinuationDistance:
    """Distance of texts by their continuations under a causal language model.

    Attributes:
        name: Name of the baseline.
        model: Causal language model of transformers.
        tokenizer: Tokenizer of the model.
        num_continuations: Continuations per text, $n$; 20 in the paper.
        max_tokens: Largest number of tokens of a continuation, $m$; 20 in the paper.
        seed: Seed of the continuations.
        batch_size: Continuations per call of the model.
        cache: The last `MAX_CACHED_CONTINUATIONS` texts used, with their continuations.
    """

    name: str
    model: Any
    tokenizer: Any
    num_continuations: int = 20
    max_tokens: int = 20
    seed: int = 0
    batch_size: int = 80
    cache: OrderedDict[str, Continuations] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def load(cls, model: str, device: str = "cpu", **options: Any) -> ContinuationDistance:
        """Return the baseline of a causal language model.

        Args:
            model: A folder, or a Hub name with an optional `@revision`.
            device: Device of the model.
            **options: Further fields of this class.

        Raises:
            InputError: If the model cannot be loaded.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        with open_model(model) as folder:
            tokenizer = AutoTokenizer.from_pretrained(folder, **NO_REMOTE_CODE)
            check_vocabulary(tokenizer, model)
            network = AutoModelForCausalLM.from_pretrained(folder, **weights_options(folder, model), **NO_REMOTE_CODE)
        return cls(f"trajectories:{model}", network.to(device).eval(), tokenizer, **options)

    def settings(self) -> dict[str, Any]:
        """Return the model and the settings of the continuations; see `Baseline.settings`."""
        # hashed into store keys: keys and values must not change
        sampling = {"number": self.num_continuations, "length": self.max_tokens, "seed": self.seed}
        return {"name": self.name, "weights": module_fingerprint(model=self.model, tokenizer=self.tokenizer), **sampling}

    @torch.no_grad()
    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs 1"]:
        """Return the distances of `pairs`, shape (pairs, 1). The continuations of a text are the same in all its pairs.

        Raises:
            InputError: If a text with its continuations is longer than the context of the model.
        """
        return np.array([[self._distance(*pair)] for pair in pairs])

    def _distance(self, u: str, v: str) -> float:
        differences = []
        for text, partner in ((u, v), (v, u)):
            continuations = self.continuations(text)
            likelihood = self._log_likelihood(partner, continuations.tokens, continuations.mask)
            differences.append(continuations.log_likelihood - likelihood)
        return float(torch.cat(differences).abs().mean())

    def _prompt(self, text: str) -> Int[torch.Tensor, " tokens"]:
        """Return the token ids of `text`."""
        token_ids = self.tokenizer(text).input_ids
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and len(token_ids) + self.max_tokens > limit:
            raise InputError(
                f"the text {text[:40]!r} has {len(token_ids)} tokens, and a continuation {self.max_tokens} more; {self.name!r} "
                f"takes at most {limit}; leave out this baseline, or the pair"
            )
        return torch.tensor(token_ids, dtype=torch.long, device=self.model.device)

    @torch.no_grad()
    def continuations(self, text: str) -> Continuations:
        """Return $n$ continuations of `text`, sampled token by token at temperature 1 from the full vocabulary.

        Raises:
            InputError: If the text with its continuations is longer than the context of the model.
        """
        if text in self.cache:
            self.cache.move_to_end(text)
            return self.cache[text]
        generator = torch.Generator().manual_seed(derive_seed((self.seed, *text.encode())))
        prompt = self._prompt(text)
        output = self.model(prompt.repeat(self.num_continuations, 1), use_cache=True, logits_to_keep=1)
        tokens, mask = [], []
        is_running = torch.ones(self.num_continuations, dtype=torch.bool)
        for _ in range(self.max_tokens):
            probabilities = output.logits[:, -1].float().softmax(-1).cpu()
            next_tokens = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            tokens.append(next_tokens)
            mask.append(is_running)
            is_running = is_running & (next_tokens != self.tokenizer.eos_token_id)  # the end token itself is included
            if len(tokens) == self.max_tokens or not is_running.any():
                break
            output = self.model(next_tokens[:, None].to(prompt.device), past_key_values=output.past_key_values, use_cache=True)
        all_tokens, full_mask = torch.stack(tokens, 1), torch.stack(mask, 1)
        self.cache[text] = Continuations(all_tokens, full_mask, self._log_likelihood(text, all_tokens, full_mask))
        if len(self.cache) > MAX_CACHED_CONTINUATIONS:
            self.cache.popitem(last=False)
        return self.cache[text]

    def _log_likelihood(
        self, text: str, tokens: Int[torch.Tensor, "continuations tokens"], mask: Bool[torch.Tensor, "continuations tokens"]
    ) -> Float[torch.Tensor, " continuations"]:
        """Return the mean log likelihood per token of each continuation after `text`, shape (n,)."""
        prompt = self._prompt(text)
        batches = []
        for batch, batch_mask in zip(tokens.split(self.batch_size), mask.split(self.batch_size), strict=True):
            rows = torch.cat([prompt.repeat(len(batch), 1), batch.to(prompt.device)], 1)
            logits = self.model(rows, logits_to_keep=batch.shape[1] + 1).logits[:, :-1].float()
            per_token = logits.log_softmax(-1).gather(-1, rows[:, len(prompt) :, None])[..., 0].cpu()
            batches.append((per_token * batch_mask).sum(1) / batch_mask.sum(1))
        return torch.cat(batches)

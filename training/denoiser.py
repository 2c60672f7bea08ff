"""Stage two: a diffusion transformer over the latents, which sees a text as the token states of all-MiniLM-L6-v2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from rich.progress import track

import loop
from conjure.default_model import text_encoder, tokenizer
from left_out import Allowed
from views import Views

LIMIT = 64  # tokens a text may have
DROPPED = 0.1  # share of texts replaced by the empty one, which classifier-free guidance needs


SCHEDULE = loop.Schedule(samples=560_000, batch=128, rate=1e-3, warmup=300)


@dataclass(frozen=True)
class Recipe:
    """What can be varied. shares: of a batch, single pictures, scenes by templates, scenes for sentences, words. blur: noise on
    the texts' token states, as a share of their spread. heads: of 64 dimensions each. layers: of the transformer."""

    schedule: loop.Schedule = SCHEDULE
    shares: tuple[float, float, float, float] = (0.3, 0.25, 0.2, 0.25)
    blur: float = 0.0
    heads: int = 5
    layers: int = 8


RECIPE = Recipe()


def build(recipe: Recipe = RECIPE) -> PixArtTransformer2DModel:
    """Sixteen tokens of 2x2 latents: on a CPU, few tokens and matrix products are the way."""
    model = PixArtTransformer2DModel(
        num_attention_heads=recipe.heads, attention_head_dim=64, num_layers=recipe.layers, in_channels=16, out_channels=16,
        sample_size=8, patch_size=2, cross_attention_dim=64 * recipe.heads, caption_channels=384, interpolation_scale=1,
        use_additional_conditions=False,
    )  # fmt: skip
    torch.nn.init.zeros_(model.proj_out.weight)  # starts by predicting nothing, as diffusion transformers train best
    torch.nn.init.zeros_(model.proj_out.bias)
    return model


def scheduler() -> DDPMScheduler:
    """The noise of Stable Diffusion, with velocity as the target."""
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction")


class Captions:
    """The frozen encoder's states of every caption, computed once. Number 0 is the empty text."""

    def __init__(self, texts: Iterable[str], cache: Path) -> None:
        self.texts = ["", *sorted(set(texts))]
        self._number = {text: i for i, text in enumerate(self.texts)}
        store = cache / f"captions-{LIMIT}-{hashlib.sha256(chr(0).join(self.texts).encode()).hexdigest()[:12]}.pt"
        if not store.exists():
            torch.save(self._encode(), store.with_suffix(".partial"))
            store.with_suffix(".partial").rename(store)
        self._states, self._starts = torch.load(store, weights_only=True, mmap=True)

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """The numbers of those of `texts` that are here."""
        return [self._number[text] for text in texts if text in self._number]

    @torch.inference_mode()
    def _encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """States of all texts one after the other, float16 (tokens of all, 384); where each starts, and the last ends."""
        encoder, words = text_encoder().to(loop.DEVICE), tokenizer()
        found = [torch.empty(0)] * len(self.texts)
        by_length = sorted(range(len(self.texts)), key=lambda i: len(self.texts[i]))
        for at in track(range(0, len(by_length), 128), "encoding captions"):
            part = by_length[at : at + 128]
            batch = words([self.texts[i] for i in part], padding=True, truncation=True, max_length=LIMIT, return_tensors="pt")
            with loop.autocast():
                states = encoder(batch.input_ids.to(loop.DEVICE), attention_mask=batch.attention_mask.to(loop.DEVICE))[0]
            for i, state, mask in zip(part, states.half().cpu(), batch.attention_mask, strict=True):
                found[i] = state[: int(mask.sum())].clone()
        return torch.cat(found), torch.tensor([0, *np.cumsum([len(states) for states in found])])

    @cached_property
    def spread(self) -> float:
        """The standard deviation of a state's numbers."""
        return float(self._states[:: max(1, len(self._states) // 10_000)].float().std())

    def batch(self, numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts `numbers`: states (len(numbers), tokens, 384), and their mask."""
        each = [self._states[self._starts[i] : self._starts[i + 1]].float() for i in numbers]
        states = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
        lengths = torch.tensor([len(one) for one in each])
        return states, (torch.arange(states.shape[1]) < lengths[:, None]).float()


@dataclass
class Draw:
    """Views of three sorts and words (if any), each a share of every batch, with one of their captions, or with none."""

    sorts: tuple[np.ndarray, np.ndarray, np.ndarray]
    words: list[tuple[np.ndarray, list[int]]]
    shares: tuple[float, ...]
    of_view: list[list[int]]

    def __call__(self, rng: np.random.Generator, many: int) -> tuple[np.ndarray, list[int]]:
        """`many` views, and the numbers of their captions."""
        views, captions = [], []
        shares = np.array(self.shares if self.words else self.shares[:3])
        for sort in rng.choice(len(shares), many, p=shares / shares.sum()):
            if sort < 3:
                view = int(rng.choice(self.sorts[sort]))
                told = self.of_view[view]
            else:
                rows, told = self.words[rng.integers(len(self.words))]
                view = int(rng.choice(rows))
            views.append(view)
            captions.append(0 if not told or rng.random() < DROPPED else told[rng.integers(len(told))])
        return np.array(views), captions


def train(
    data: Views, latents: torch.Tensor, told: list[list[str]], cache: Path, folder: Path, recipe: Recipe = RECIPE
) -> PixArtTransformer2DModel:
    """A trained denoiser of scaled `latents`, (views, 16, 8, 8), that answer to the texts `told`."""
    allowed = Allowed(data.data)
    texts = {text for texts in told for text in texts} | {text for word in data.words for text in word.captions}
    captions = Captions(filter(allowed, texts), cache)
    of_view = [captions.numbers(texts) for texts in told]
    words = [(word.rows, numbers) for word in data.words if (numbers := captions.numbers(word.captions))]
    torch.manual_seed(recipe.schedule.seed)
    model, noising = build(recipe).to(loop.DEVICE), scheduler()

    def loss_on(draw: Draw) -> loop.Loss:
        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            views, numbers = draw(choose, recipe.schedule.batch)
            states, mask = captions.batch(numbers)
            states += recipe.blur * captions.spread * torch.randn(states.shape, generator=noise)
            x0 = latents[views].float()
            eps = torch.randn(x0.shape, generator=noise)
            t = torch.randint(0, noising.config.num_train_timesteps, (len(x0),), generator=noise)
            noisy, states, mask, t, v = (
                tensor.to(loop.DEVICE)
                for tensor in (noising.add_noise(x0, eps, t), states, mask, t, noising.get_velocity(x0, eps, t))
            )
            said = model(noisy, encoder_hidden_states=states, encoder_attention_mask=mask, timestep=t).sample
            return (said.float() - v).square().mean()

        return loss

    seen, held_out = (
        Draw(data.train, words, recipe.shares, of_view),
        Draw(data.held_out, [], recipe.shares, of_view),
    )  # words show training pictures
    loop.fit(model, recipe.schedule, loss_on(seen), loss_on(held_out), folder)
    return model.eval()

"""Stage two: a diffusion transformer over the latents, which hears a text as one vector of all-MiniLM-L6-v2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from diffusers.models.embeddings import PixArtAlphaTextProjection

import likeness
import loop
from captions import Captions
from left_out import Allowed
from likeness import Likeness
from views import Views
from words import WordNet

DROPPED = 0.1  # share of texts replaced by the empty one, which classifier-free guidance needs
STRAIGHT = 8.0  # where GELU is the identity, for numbers of unit variance around it

SCHEDULE = loop.Schedule(samples=560_000, batch=128, rate=1e-3, warmup=300)


@dataclass(frozen=True)
class Recipe:
    """What can be varied. shares: of a batch, single pictures, scenes, texts that no picture is named by. free: whether the
    projection of captions is trained. heads: of 64 dimensions each. layers: of the transformer."""

    schedule: loop.Schedule = SCHEDULE
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3)
    free: bool = False
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
    if not recipe.free:
        _keep_distances(model.caption_projection)
    return model


def _keep_distances(projection: PixArtAlphaTextProjection) -> None:
    """Make the projection of captions a random rotation (to fewer dimensions), for good.

    Trained, it narrows to the few directions in which the names of pictures differ most, and texts that differ otherwise come to
    mean the same: of an agreement with people of 0.88 (the vectors, STS-B dev) 0.74 is left behind it, and no more in the end.
    """
    first, second = projection.linear_1, projection.linear_2
    torch.nn.init.orthogonal_(first.weight)
    torch.nn.init.eye_(second.weight)
    torch.nn.init.constant_(first.bias, STRAIGHT)
    torch.nn.init.constant_(second.bias, -STRAIGHT)
    projection.requires_grad_(False)


def scheduler() -> DDPMScheduler:
    """The noise of Stable Diffusion, with velocity as the target."""
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction")


@dataclass
class Draw:
    """Views of two sorts, and texts with what they look like, each a share of every batch; now and then without a text."""

    sorts: tuple[np.ndarray, np.ndarray]
    likeness: Likeness | None
    shares: tuple[float, ...]
    of_view: list[list[int]]

    def __call__(self, rng: np.random.Generator, many: int) -> tuple[np.ndarray, list[int]]:
        """`many` views, and the numbers of their captions."""
        views, captions = [], []
        shares = np.array(self.shares if self.likeness else self.shares[:2])
        for sort in rng.choice(len(shares), many, p=shares / shares.sum()):
            if sort < 2:
                view = int(rng.choice(self.sorts[sort]))
                told = self.of_view[view]
                caption = told[rng.integers(len(told))] if told else 0
            else:
                assert self.likeness
                view, caption = self.likeness.draw(rng)
            views.append(view)
            captions.append(0 if rng.random() < DROPPED else caption)
        return np.array(views), captions


def train(
    data: Views, latents: torch.Tensor, told: list[list[str]], cache: Path, folder: Path, recipe: Recipe = RECIPE
) -> PixArtTransformer2DModel:
    """A trained denoiser of scaled `latents`, (views, 16, 8, 8), that answer to the texts `told`."""
    allowed, net = Allowed(data.data), WordNet(cache)
    captions = Captions(filter(allowed, set(likeness.texts(net)).union(*told)), cache)
    of_view = [captions.numbers(texts) for texts in told]
    torch.manual_seed(recipe.schedule.seed)
    model, noising = build(recipe).to(loop.DEVICE), scheduler()

    def loss_on(draw: Draw) -> loop.Loss:
        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            views, numbers = draw(choose, recipe.schedule.batch)
            vectors = captions.vectors[numbers].float()[:, None]
            x0 = latents[views].float()
            eps = torch.randn(x0.shape, generator=noise)
            t = torch.randint(0, noising.config.num_train_timesteps, (len(x0),), generator=noise)
            noisy, vectors, t, v = (
                tensor.to(loop.DEVICE) for tensor in (noising.add_noise(x0, eps, t), vectors, t, noising.get_velocity(x0, eps, t))
            )
            predicted = model(noisy, encoder_hidden_states=vectors, timestep=t).sample
            return (predicted.float() - v).square().mean()

        return loss

    # the texts show training pictures, so there is no held-out sort of them
    seen = Draw(data.train, Likeness(captions, net, data.data), recipe.shares, of_view)
    held_out = Draw(data.held_out, None, recipe.shares, of_view)
    loop.fit(model, recipe.schedule, loss_on(seen), loss_on(held_out), folder)
    return model.eval()

"""Stages two and three: a diffusion transformer over the latents, which hears a text as one vector of all-MiniLM-L6-v2.

Stage two learns to remove noise. What a text has to say is a small part of that: under a wrong text the loss is higher by a
thirtieth only, and a model that has learnt much of pictures may have learnt little of texts. So stage three asks for both: to
remove noise, and to remove it better under the text of a picture than under the texts of others, as a cross-entropy between
them (Lee et al. 2025, arXiv 2503.08250, who train tokens of texts so; here it is the whole denoiser). It goes over the pictures
often enough to know them, and comes to hear texts through the few directions in which those of pictures differ. So then
the first layers are given back the cross-attention that they had after stage two, and the others learn on for a while behind it
("mending"), now with a third wish: that texts differ from each other as they did after stage two. Of what came before that and
what came of it the mean is taken, weight by weight (Wortsman et al. 2022, arXiv 2109.01903). In the end the layers are made to
hear all directions of texts more evenly than they learnt to (`even`).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from diffusers.models.embeddings import PixArtAlphaTextProjection

import likeness
import loop
from captions import Captions
from conjure.sentence_encoder import hear_one_vector
from left_out import Allowed
from likeness import Likeness
from views import Views
from words import WordNet

DROPPED = 0.1  # share of texts replaced by the empty one, which classifier-free guidance needs
STRAIGHT = 8.0  # where GELU is the identity, for numbers of unit variance around it

WRONG = 3  # texts of other pictures under which a picture is denoised beside its own in stage three
ASKED = 4  # texts of WordNet a view whose distances mending keeps, and half as many between them
KEEPING = 1.0  # weight of what these have drifted
CONTRAST = 0.1  # weight of the cross-entropy beside the loss of denoising
EVIDENCE = 0.05  # nats by which a text is likelier for a squared error smaller by one, about what one draw of noise can tell

SCHEDULE = loop.Schedule(samples=560_000, batch=128, rate=1e-3, warmup=300)
TELLING = (
    loop.Schedule(samples=3_300_000, batch=512, rate=1e-3),
    loop.Schedule(samples=1_650_000, batch=512, rate=1e-3, warmup=100, seed=1),
)
MENDING = loop.Schedule(samples=24_000, batch=24, rate=5e-4, warmup=50, average=0.998, seed=2)
KEPT = 3  # first layers that hear texts during mending as they did before stage three
MENDED = 0.5  # of the way from the weights before the first layers were given back theirs to those after mending
EVENED = 0.2  # power of the singular values by which layers hear texts


@dataclass(frozen=True)
class Recipe:
    """What can be varied. schedule: of stage two. telling, mending: of stage three, in parts that begin anew, and of its end,
    once the first layers hear as before; or none. evened: power of the singular values by which layers hear texts in the end, or
    none. shares: of a batch, single pictures, scenes, texts that no picture is named by. free: whether the projection of captions
    is trained. heads: of 64 dimensions each. layers: of the transformer."""

    schedule: loop.Schedule = SCHEDULE
    telling: tuple[loop.Schedule, ...] = TELLING
    mending: loop.Schedule | None = MENDING
    evened: float | None = EVENED
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
    copy: Callable[[int, np.random.Generator], int] | None = None  # of single pictures, if there are to be any

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
            views.append(self.copy(view, rng) if self.copy else view)
            captions.append(0 if rng.random() < DROPPED else caption)
        return np.array(views), captions


@dataclass
class Task:
    """What the stages train on: scaled `latents`, (views, 16, 8, 8), `vectors` of the captions, and the numbers of the captions
    that view i answers to. Tensors lie on `loop.DEVICE`."""

    model: PixArtTransformer2DModel
    latents: torch.Tensor
    vectors: torch.Tensor
    of_view: list[list[int]]

    def errors(self, views: np.ndarray, texts: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """Mean squared errors (views, texts a view) of noisy `views` under the numbers of `texts`, one draw of noise a view."""
        noisy, t, v = self.noised(views, noise)
        said = answers(self.model, noisy, t, self.vectors[loop.given(texts)].float())
        return (said - v[:, None]).square().mean((2, 3, 4))

    def noised(self, views: np.ndarray, noise: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The `views` with noise, each at a time of its own, these times, and the velocities: what a denoiser is asked."""
        noising = scheduler()
        x0 = self.latents[loop.given(torch.from_numpy(views))].float()
        eps = loop.given(torch.randn(x0.shape, generator=noise))
        t = loop.given(torch.randint(0, noising.config.num_train_timesteps, (len(x0),), generator=noise))
        return noising.add_noise(x0, eps, t), t, noising.get_velocity(x0, eps, t)

    def denoising(self, draw: Draw, batch: int) -> loop.Loss:
        """The loss of stage two."""

        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            views, own = draw(choose, batch)
            return self.errors(views, torch.tensor(own)[:, None], noise).mean()

        return loss

    def telling(self, draw: Draw, batch: int) -> loop.Loss:
        """The loss of stage three. A view without a text is denoised, and nothing is asked of it."""

        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            views, own = draw(choose, batch)
            texts = torch.stack([torch.tensor(own).roll(-shift) for shift in range(1 + WRONG)], 1)
            errors = self.errors(views, texts, noise)
            fine = [{0, text, *self.of_view[view]} for view, text in zip(views, own, strict=True)]  # no wrong texts for a view
            unasked = [[False, *(text in known for text in row[1:])] for known, row in zip(fine, texts.tolist(), strict=True)]
            likely = -EVIDENCE * self.latents[0].numel() * errors
            asked = torch.tensor([row for row, text in enumerate(own) if text], dtype=torch.long)
            likely = likely.masked_fill(loop.given(torch.tensor(unasked)), -torch.inf)[loop.given(asked)]
            chosen = torch.nn.functional.cross_entropy(likely, likely.new_zeros(len(likely), dtype=torch.long))
            return errors[:, 0].mean() + CONTRAST * chosen

        return loss

    def mending(self, draw: Draw, batch: int, before: PixArtTransformer2DModel, sentences: np.ndarray) -> loop.Loss:
        """The loss of telling texts apart without forgetting how the model took texts `before`, which numbers of `sentences` ask.

        The old model's answers are kept, as by Li and Hoiem 2016 (arXiv 1606.09282), but to texts that the new task does not ask
        for; and of these answers the distances (Park et al. 2019, arXiv 1904.05068), up to a common factor: texts may come to
        matter more, all in proportion.
        """
        telling = self.telling(draw, batch)

        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            told = telling(choose, noise)
            views, _ = draw(choose, batch // 2)
            noisy, t, _ = self.noised(views, noise)
            asked = self.vectors[loop.given(torch.from_numpy(choose.choice(sentences, (len(views), ASKED))))].float()
            # texts drawn by chance lie far apart, so there are some between them
            between = loop.given(0.2 + 0.6 * torch.rand((len(views), ASKED // 2, 1), generator=noise))
            asked = torch.cat([asked, torch.lerp(asked[:, ::2], asked[:, 1::2], between)], 1)
            asked = asked / asked.square().mean(-1, keepdim=True).sqrt()
            with torch.no_grad():
                once = log_distances(before, noisy, t, asked)
            drift = log_distances(self.model, noisy, t, asked) - once
            return told + KEEPING * drift.var(1).mean()

        return loss


def answers(model: PixArtTransformer2DModel, noisy: torch.Tensor, t: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """What `model` says of each of the `noisy` latents, (views, 16, 8, 8), at times `t` under its texts, `vectors` of shape
    (views, texts, 384): (views, texts, 16, 8, 8)."""
    texts = vectors.shape[1]
    noisy, t = noisy.repeat_interleave(texts, 0), t.repeat_interleave(texts)
    said = model(noisy, encoder_hidden_states=vectors.flatten(0, 1)[:, None], timestep=t).sample
    return said.float().unflatten(0, (-1, texts))


def log_distances(model: PixArtTransformer2DModel, noisy: torch.Tensor, t: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Logarithms of the squared distances between the `answers` to the texts of a view: (views, pairs of texts)."""
    with torch.autocast(loop.DEVICE.type, enabled=False):  # small differences of large numbers
        said = answers(model, noisy, t, vectors)
    one, other = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1)
    return (said[:, one] - said[:, other]).square().sum((2, 3, 4)).clamp_min(1e-6).log()  # two texts may have one vector


def train(
    data: Views,
    latents: torch.Tensor,
    told: list[list[str]],
    cache: Path,
    runs: Path,
    recipe: Recipe = RECIPE,
    start: PixArtTransformer2DModel | None = None,
) -> PixArtTransformer2DModel:
    """A trained denoiser of scaled `latents`, (views, 16, 8, 8), that answer to the texts `told`; what it leaves goes to `runs`.

    start: a denoiser that has gone through stage two already.
    """
    allowed, net = Allowed(data.data), WordNet(cache)
    captions = Captions(filter(allowed, set(likeness.texts(net)).union(*told)), cache)
    of_view = [captions.numbers(texts) for texts in told]
    torch.manual_seed(recipe.schedule.seed)
    model = start or build(recipe)
    model.requires_grad_(True).caption_projection.requires_grad_(recipe.free)
    hear_one_vector(model)
    task = Task(model, latents.to(loop.DEVICE), captions.vectors.to(loop.DEVICE), of_view)
    # the texts show training pictures, so there is no held-out sort of them
    unnamed = Likeness(captions, net, data.data)
    seen = Draw(data.train, unnamed, recipe.shares, of_view)
    held_out = Draw(data.held_out, None, recipe.shares, of_view)

    def stage(name: str, schedule: loop.Schedule, loss: Callable[[Draw, int], loop.Loss], draw: Draw) -> None:
        loop.fit(model.to(loop.DEVICE), schedule, loss(draw, schedule.batch), loss(held_out, schedule.batch), runs / name)

    if not start:
        stage("denoiser", recipe.schedule, task.denoising, seen)
    before = deepcopy(model).requires_grad_(False)
    for part, schedule in enumerate(recipe.telling, 1):
        stage(f"telling-{part}", schedule, task.telling, replace(seen, copy=data.copy))
    if recipe.mending:
        told_apart = deepcopy(model.state_dict())
        model.load_state_dict({name: weights for name, weights in before.state_dict().items() if _is_kept(name)}, strict=False)
        for name, weights in model.named_parameters():
            weights.requires_grad_(weights.requires_grad and not _is_kept(name))
        before.to(loop.DEVICE)
        stage("mending", recipe.mending, partial(task.mending, before=before, sentences=unnamed.texts), seen)
        model.load_state_dict({name: told_apart[name].lerp(weights, MENDED) for name, weights in model.state_dict().items()})
    if recipe.evened is not None:
        even(model, captions.vectors, recipe.evened)
    return model.eval()


@torch.no_grad()
def even(model: PixArtTransformer2DModel, vectors: torch.Tensor, power: float) -> None:
    """Let every layer of `model` hear the directions in which texts differ more evenly; what it hears of the mean text stays.

    To a text that is one vector cross-attention answers by a matrix, the product of its output and its value. Training
    narrows it to some 17 to 32 directions of 320, and texts that differ otherwise come to mean nearly the same. Its singular
    values are taken to a `power` between 0 (all alike) and 1 (as they are), and its Frobenius norm is kept. That counts all
    directions alike, while texts spread along some more than along others, so distances of texts may grow.

    vectors: of captions, shape (captions, 384).
    """
    middle = model.caption_projection(vectors.float().mean(0))
    for block in model.transformer_blocks:
        value, out = block.attn2.to_v, block.attn2.to_out[0]
        before = out(value(middle))
        left, singular, right = torch.linalg.svd(out.weight @ value.weight)
        evened = singular**power
        root = (evened * singular.norm() / evened.norm()).sqrt()
        value.weight.copy_(root[:, None] * right)
        out.weight.copy_(left * root)
        value.bias.zero_()  # what it adds to every answer is said by the other bias as well
        out.bias.add_(before - out(value(middle)))


def _is_kept(name: str) -> bool:
    """Whether a tensor of the denoiser belongs to the cross-attention of one of its first layers."""
    return any(name.startswith(f"transformer_blocks.{layer}.attn2.") for layer in range(KEPT))

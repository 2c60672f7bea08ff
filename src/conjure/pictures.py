r"""Texts as sets of finished pictures: how far apart are the distributions of what a process draws for them?

Every text gets n pictures from the same n draws of noise, each seen as a vector of d features, X and Y of shape (n, d).

    gaussian             Jeffreys divergence of two Gaussians fitted to X and Y, their covariances drawn halfway to a ball
    frechet              |m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^1/2)            (Heusel et al. 2017)
    mmd                  unbiased, with the kernel (x y / d + 1)^3                  (Binkowski et al. 2018)
    energy               2 E|x - y| - E|x - x'| - E|y - y'|, unbiased               (Szekely and Rizzo 2013)
    sliced-wasserstein   squared 2-Wasserstein distance along 256 random lines, their mean  (Bonneel et al. 2015)

Pictures x_i and y_i come from the same noise, so unbiased means leave out i = j between the sets as well as within them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from conjure.baselines import KEPT, NO_CODE, located, pooled, readable
from conjure.errors import InputError
from conjure.estimate import noise_seed
from conjure.identity import digest_of
from conjure.memory import Rows, in_batches
from conjure.once import Encoded
from conjure.process import Process

SIDE = 8  # colours are averages over this many fields a side
LINES = 256
SHRINK = 0.5
BATCH = 16  # pictures in one call of the pipeline


@dataclass(frozen=True)
class Features:
    """What sees pictures (rows, height, width, 3) in 0..1 as vectors (rows, d). about: all that changes them."""

    name: str
    about: dict[str, Any]
    of: Callable[[np.ndarray], np.ndarray]


def colours(pictures: np.ndarray) -> np.ndarray:
    """Mean colours of 8x8 fields, (rows, 192)."""
    rows = torch.from_numpy(np.ascontiguousarray(pictures)).movedim(-1, 1).float()
    return torch.nn.functional.adaptive_avg_pool2d(rows, SIDE).flatten(1).numpy()


def seen_by(model: str | None, device: str = "cpu") -> Features:
    """Features of a vision model of transformers (CLIP, DINOv2, ...), its image embedding or pooled state; colours for None.

    Errors: `InputError`.
    """
    if model is None:
        return Features("colours", {"side": SIDE}, colours)
    from transformers import AutoImageProcessor, AutoModel

    where, revision = located(model)
    with readable(model):
        prepare = AutoImageProcessor.from_pretrained(where, revision=revision, **NO_CODE)
        own = AutoModel.from_pretrained(where, revision=revision, use_safetensors=True, **NO_CODE).to(device).eval()

    @torch.no_grad()
    def embed(pictures: np.ndarray) -> np.ndarray:
        pixels = prepare(list((pictures * 255).round().astype(np.uint8)), return_tensors="pt").pixel_values.to(device)
        told = own.get_image_features(pixel_values=pixels) if hasattr(own, "get_image_features") else own(pixel_values=pixels)
        told = told if isinstance(told, torch.Tensor) else pooled(told, None)
        return told.flatten(1).float().cpu().numpy()

    return Features(model, {"weights": digest_of(model=own), "prepare": str(prepare.to_dict())}, embed)


@dataclass
class Drawings:
    """What a process draws for texts, as features: `number` pictures a text, from the noise of `seed`, drawn once.

    Errors: `InputError` for fewer than two pictures, of which no distribution is known.
    """

    process: Process
    features: Features
    number: int = 16
    seed: int = 0
    known: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    encoded: Encoded = field(default_factory=Encoded, repr=False)

    def __post_init__(self) -> None:
        if self.number < 2:
            raise InputError(f"{self.number} pictures a text; allowed are whole numbers from 2 on")

    def of(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Features (number, d) of each of `texts`."""
        if len(self.known) > KEPT:
            self.known.clear()
        fresh = [text for text in dict.fromkeys(texts) if text not in self.known]
        seeds = [noise_seed(self.seed, sample) for sample in range(self.number)]
        rows = [(text, seed) for text in fresh for seed in seeds]
        size = Rows(self.process.pipeline.device, 1 if self.process.alone else BATCH)  # some texts must have no company
        seen = list(in_batches(size, rows, self._draw))
        if seen:
            vectors = np.concatenate(seen).astype(np.float64).reshape(len(fresh), self.number, -1)
            self.known.update(zip(fresh, vectors, strict=True))
        return self.known

    def _draw(self, rows: Sequence[tuple[str, int]]) -> np.ndarray:
        drawn = self.process.run([text for text, _ in rows], [seed for _, seed in rows], "np", self.encoded)
        return self.features.of(np.asarray(drawn, dtype=np.float32))


@dataclass
class Pictures:
    """Distances between sets of pictures. metric: of `METRICS`, by which it is called as well."""

    metric: str
    drawings: Drawings

    def __post_init__(self) -> None:
        seen = self.drawings.features.name
        self.name = self.metric if seen == "colours" else f"{self.metric}:{seen}"

    def settings(self) -> dict[str, Any]:
        used = self.drawings
        drawn = {"process": used.process.identity(), "number": used.number, "seed": used.seed}
        return {"name": self.name, **drawn, **used.features.about}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Shape (pairs, 1)."""
        seen, measure = self.drawings.of([text for pair in pairs for text in pair]), METRICS[self.metric]
        return np.array([[measure(seen[a], seen[b])] for a, b in pairs])


def gaussian(x: np.ndarray, y: np.ndarray) -> float:
    """Jeffreys divergence in nats, half the sum of both directions as in `conjure.divergence`, in the space that x and y span."""
    both = np.concatenate([x, y])
    _, sizes, axes = np.linalg.svd(both - both.mean(0), full_matrices=False)
    axes = axes[sizes > 1e-9 * max(sizes[0], 1e-300)]
    if not len(axes):
        return 0.0
    (mx, sx), (my, sy) = (_fitted(one @ axes.T) for one in (x, y))
    if not (np.trace(sx) and np.trace(sy)):  # all pictures of a text are one: a Gaussian without width
        return 0.0 if np.allclose(mx, my) else np.finfo(float).max
    ix, iy = np.linalg.inv(sx), np.linalg.inv(sy)
    step = mx - my
    return float((np.trace(iy @ sx) + np.trace(ix @ sy) - 2 * len(mx) + step @ (ix + iy) @ step) / 4)


def _fitted(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cov = np.atleast_2d(np.cov(x, rowvar=False))
    return x.mean(0), (1 - SHRINK) * cov + SHRINK * np.trace(cov) / len(cov) * np.eye(len(cov))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """With the covariances as they are: the trace of the root of their product is the nuclear norm of an n x n matrix."""
    cx, cy = x - x.mean(0), y - y.mean(0)
    root = np.linalg.norm(cx @ cy.T, "nuc") / np.sqrt((len(x) - 1) * (len(y) - 1))
    spread = (cx**2).sum() / (len(x) - 1) + (cy**2).sum() / (len(y) - 1)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2 * root)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    d = x.shape[1]
    xx, yy, xy = ((one @ other.T / d + 1) ** 3 for one, other in ((x, x), (y, y), (x, y)))
    return _off_diagonal(xx) + _off_diagonal(yy) - 2 * _off_diagonal(xy)


def energy(x: np.ndarray, y: np.ndarray) -> float:
    xx, yy, xy = (np.linalg.norm(one[:, None] - other[None], axis=-1) for one, other in ((x, x), (y, y), (x, y)))
    return 2 * _off_diagonal(xy) - _off_diagonal(xx) - _off_diagonal(yy)


def sliced_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    lines = np.random.default_rng(0).normal(size=(x.shape[1], LINES))
    lines /= np.linalg.norm(lines, axis=0)
    return float(((np.sort(x @ lines, 0) - np.sort(y @ lines, 0)) ** 2).mean())


def _off_diagonal(matrix: np.ndarray) -> float:
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "gaussian": gaussian, "frechet": frechet, "mmd": mmd, "energy": energy, "sliced-wasserstein": sliced_wasserstein,
}  # fmt: skip

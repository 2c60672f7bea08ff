"""The designs of the initial noise, and the numbers of steps, that variance.py compares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import norm, qmc

from conjure.diffusion.seeding import noise_seed

NUM_SEEDS = 32  # samples per pair
NET_SIZE = 8  # points of a Sobol net
LATENT_SHAPE = (16, 8, 8)  # of the default model


def negated_samples(pair: int) -> list[int]:
    """Return the eight samples whose noise is negated for a pair; they differ from pair to pair, so that all are used."""
    return [(8 * pair + i) % NUM_SEEDS for i in range(8)]


def gaussian(samples: range | list[int]) -> torch.Tensor:
    """Return the noise of `samples` as `conjure.distance` draws it with seed 0."""
    return torch.stack([torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(noise_seed(0, i))) for i in samples])


def sobol(pair: int) -> torch.Tensor:
    """Return the points of three scrambled nets of eight points, in all 1024 dimensions."""
    nets = [qmc.Sobol(1024, seed=np.random.default_rng((1, pair, net))).random(NET_SIZE) for net in range(3)]
    points = norm.ppf(np.clip(np.concatenate(nets), 1e-7, 1 - 1e-7))
    return torch.tensor(points, dtype=torch.float32).reshape(-1, *LATENT_SHAPE)


DESIGNS: dict[str, tuple[int, Callable[[int], torch.Tensor]]] = {  # name: number of steps, and the noise samples of a pair
    "plain": (10, lambda pair: gaussian(range(NUM_SEEDS))),
    "negated": (10, lambda pair: -gaussian(negated_samples(pair))),
    "sobol": (10, sobol),
    "T5": (5, lambda pair: gaussian(range(16))),
    "T3": (3, lambda pair: gaussian(range(8))),
}


def rows_per_sample(steps: int, shared_noise: bool = True) -> int:
    """Return the denoiser rows of a sample; directions that share their noise also share the three rows of the first step."""
    return 6 * steps - 3 * shared_noise

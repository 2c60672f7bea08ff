"""What differs and when: the pictures behind a distance, as in Figure 1 of Liu and Soatto (2026)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conjure.divergence import Contributions, Measure
from conjure.estimate import Estimate
from conjure.memory import Rows, in_batches
from conjure.process import Process
from conjure.run import Measured, Progress
from conjure.similarity import Noise, estimate_of, record_of, sample

DECODED = 16  # pictures in one call of the autoencoder, which takes far more memory a row than the denoiser


@dataclass(frozen=True)
class Direction:
    """One text's trajectory, judged by both. All pictures are (T, height, width, 3) in 0..1.

    text: whose trajectory. noisy: its x_t, scaled to unit variance. first, second: what each text of the pair takes x_t for (x0).
    per_step: what each step adds to the directed divergence, shape (T,), in the sample that is shown.
    """

    text: str
    noisy: np.ndarray
    first: np.ndarray
    second: np.ndarray
    per_step: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """An estimate with the pictures of its first sample, along the first text's trajectory and along the second's."""

    estimate: Estimate
    forward: Direction
    backward: Direction

    def save(self, path: str | Path) -> None:
        """Write the figure to `path`, as PNG, SVG or PDF, or as one HTML file that needs no other.

        Errors: `InputError` for another ending and for a place that cannot be written.
        """
        from conjure.render import save

        save(self, path)

    def _repr_png_(self) -> bytes:
        from conjure.render import figure_bytes

        return figure_bytes(self, "png")


def explain(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    precision: float | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """The distance of `a` and `b` (see `conjure.distance`) together with the pictures of its first sample."""
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    results, samples, first = sample(
        process, a, b, samples, noise, measure, precision=precision, pictures=True, progress=progress
    )
    seen = results.seen(a, b, samples)
    estimate = estimate_of(seen, measure, (a, b), record_of(process, measure, noise))
    forward, backward = _directions(process, first, measure.contributions(seen))
    return Explanation(estimate, forward, backward)


def _directions(process: Process, first: Sequence[Measured], shares: Contributions) -> tuple[Direction, Direction]:
    there, back = first[0], first[-1]  # one and the same where a text is compared with itself
    looks_there, looks_back = there.pictures, back.pictures
    assert looks_there is not None
    assert looks_back is not None
    latents = [
        looks_there.x_t, looks_there.x0[:, 0], looks_there.x0[:, 1],
        looks_back.x_t, looks_back.x0[:, 1], looks_back.x0[:, 0],
    ]  # fmt: skip
    stack = torch.cat(latents).to(process.pipeline.device, process.pipeline.dtype)
    pictures = np.concatenate(list(in_batches(Rows(process.pipeline.device, DECODED), stack, process.decode)))
    parts = np.split(pictures, len(latents))
    return (
        Direction(there.source.text, parts[0], parts[1], parts[2], shares.forward[0]),
        Direction(back.source.text, parts[3], parts[4], parts[5], shares.backward[0]),
    )

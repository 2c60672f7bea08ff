"""What differs and when: the pictures behind a distance, as in Figure 1 of Liu and Soatto (2026)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conjure.estimate import Estimate
from conjure.process import Process
from conjure.run import Measured, Progress, run
from conjure.similarity import check, estimate_of, pair, seen


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
    progress: Progress | None = None,
) -> Explanation:
    """The distance of `a` and `b` (see `conjure.distance`) together with the pictures of its first sample."""
    check(process, (a, b), samples, seed, divergence, weighting)
    sources = pair(a, b, samples, seed)
    measured = list(run(process, sources, pictures=sources[:2], progress=progress))
    estimate = estimate_of(process, measured, seed=seed, divergence=divergence, weighting=weighting)
    forward, backward = _directions(process, measured[:2], weighting)
    return Explanation(estimate, forward, backward)


def _directions(process: Process, measured: Sequence[Measured], weighting: str) -> tuple[Direction, Direction]:
    looks = [one.pictures for one in measured]
    assert looks[0] is not None
    assert looks[1] is not None
    (x_a, x0_a), (x_b, x0_b) = ((look.x_t, look.x0) for look in looks if look is not None)
    latents = [x_a, x0_a[:, 0], x0_a[:, 1], x_b, x0_b[:, 1], x0_b[:, 0]]
    stack = torch.cat(latents).to(process.pipeline.device, process.pipeline.dtype)
    pictures = np.concatenate([process.decode(part) for part in stack.split(process.rows)])
    parts = np.split(pictures, len(latents))
    shares = seen(process, measured, weighting)
    return (
        Direction(measured[0].source.text, parts[0], parts[1], parts[2], (shares.forward * shares.weights)[0]),
        Direction(measured[1].source.text, parts[3], parts[4], parts[5], (shares.backward * shares.weights)[0]),
    )

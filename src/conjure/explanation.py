"""What differs, where and when: the pictures behind a distance, as in Figure 1 of Liu and Soatto (2026)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from conjure.attribution import Attribution, attribute
from conjure.checks import check, check_words
from conjure.divergence import Measure
from conjure.errors import InputError
from conjure.estimate import Estimate, Noise
from conjure.memory import Rows, in_batches
from conjure.once import Encoded
from conjure.process import Process
from conjure.run import Measured, Progress
from conjure.similarity import Results, estimate_of, record_of, sample, sources_of

DECODED = 16  # pictures in one call of the autoencoder, which takes far more memory a row than the denoiser
SHOWN = 3  # samples whose pictures are kept, unless more are asked for


@dataclass(frozen=True)
class Direction:
    """One text's trajectory in one sample, judged by both. All pictures are (T, height, width, 3) in 0..1.

    text: whose trajectory. noisy: its x_t, scaled to unit variance. first, second: what each text of the pair takes x_t for (x0).
    per_step: what each step adds to the directed divergence, shape (T,).
    places: what each place of the latents adds to it, shape (T, rows, columns), its sums `per_step`; None where the latents
    have no places. final: the picture that the trajectory ends in, (height, width, 3).
    """

    text: str
    noisy: np.ndarray
    first: np.ndarray
    second: np.ndarray
    per_step: np.ndarray
    places: np.ndarray | None
    final: np.ndarray


@dataclass(frozen=True)
class Shown:
    """One sample, along either text's trajectory; both start from the same noise (from opposite noise if antithetic)."""

    forward: Direction
    backward: Direction


@dataclass(frozen=True)
class Explanation:
    """An estimate with the pictures of its first samples, and what single words do, where that was asked for."""

    estimate: Estimate
    shown: tuple[Shown, ...] = field(repr=False)
    words: Attribution | None = None

    @property
    def forward(self) -> Direction:
        """The first sample along the first text's trajectory."""
        return self.shown[0].forward

    @property
    def backward(self) -> Direction:
        """The first sample along the second text's trajectory."""
        return self.shown[0].backward

    def save(self, path: str | Path) -> None:
        """Write the figure to `path`, as PNG, SVG or PDF, or as one HTML page that needs no other, with sliders over steps and
        samples.

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
    shown: int = SHOWN,
    words: bool = False,
    instead: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """The distance of `a` and `b` (see `conjure.distance`) together with the pictures of its first `shown` samples.

    words: find out as well what each word does (see `conjure.attribute`). instead: and what others would do in their place.

    Errors: `InputError`, as `conjure.distance` and `conjure.attribute`.
    """
    if not isinstance(shown, int) or shown < 1:
        raise InputError(f"shown is {shown!r}; allowed are whole numbers of samples from 1 on")
    if words or instead:
        check_words(a, b, instead or {}, divergence)
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    results, samples, looked = sample(
        process, a, b, samples, noise, measure, precision=precision, pictures=shown, progress=progress
    )
    seen = results.seen(a, b, samples)
    estimate = estimate_of(seen, measure, (a, b), record_of(process, measure, noise))
    shares = measure.contributions(seen)
    of = {(measured.source.text, measured.source.seed): measured for measured in looked}
    found = []
    for number in range(min(shown, samples)):
        there, back = of[a, noise.of(number, a, b)], of[b, noise.of(number, b, a)]
        sides = ((there, 0, shares.forward[number]), (back, 1, shares.backward[number]))
        found.append(Shown(*(_direction(process, *side, divergence) for side in sides)))
    told = None
    if words or instead:
        told = attribute(process, a, b, instead=instead, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
                         reduction=reduction, antithetic=antithetic, progress=progress)  # fmt: skip
    return Explanation(estimate, tuple(found), told)


def unfold(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    shown: int = SHOWN,
    progress: Progress | None = None,
) -> Iterator[Explanation]:
    """`explain` (with its defaults) as it comes: sample by sample, and of the first sample step by step as it is decoded.

    What is not decoded yet is white. The last one is what `explain` gives, from the same numbers.

    Errors: `InputError`, as `explain`, when the first is asked for.
    """
    measure, noise = Measure(unit=process.unit), Noise(seed)
    check((a, b), samples, noise, measure)
    results, found = Results(process, noise), list[Shown]()
    record = record_of(process, measure, noise)
    for number in range(samples):
        sources = sources_of([(a, b)], [number], noise)
        looked = sources if number < shown else ()
        walked = results.measure(process, sources, finals=False, pictures=looked, progress=progress)
        seen = results.seen(a, b, number + 1)
        estimate, shares = estimate_of(seen, measure, (a, b), record), measure.contributions(seen)
        if number < shown:
            sides = ((walked[0], 0, shares.forward[number]), (walked[-1], 1, shares.backward[number]))
            for there, back in zip(*(_unfolding(process, *side, whole=number > 0) for side in sides), strict=True):
                yield Explanation(estimate, (*found, Shown(there, back)))
            found.append(Shown(there, back))
        else:
            yield Explanation(estimate, tuple(found))


def _direction(process: Process, measured: Measured, own: int, per_step: np.ndarray, divergence: str) -> Direction:
    """The pictures of a trajectory; own: whether its text is the first (0) of the pair or the second (1)."""
    *_, whole = _unfolding(process, measured, own, per_step, whole=True)
    return replace(whole, places=None) if divergence == "direct" else whole  # it compares ends, not what is said of one place


def _unfolding(process: Process, measured: Measured, own: int, per_step: np.ndarray, whole: bool) -> Iterator[Direction]:
    """The same, with the pictures of ever more steps, or of all of them at once, and in the end with the final one."""
    looks = measured.pictures
    assert looks is not None
    x0 = looks.x0 if own == 0 else looks.x0.flip(1)
    latents = torch.stack([looks.x_t, x0[:, 0], x0[:, 1]], 1)
    steps = len(latents)
    device, dtype = process.pipeline.device, process.pipeline.dtype
    decode = partial(process.decode, encoded=Encoded())

    def decoded(part: torch.Tensor) -> np.ndarray:
        return np.concatenate(list(in_batches(Rows(device, DECODED), part.to(device, dtype), decode)))

    final = decoded(measured.final[None])[0]
    pictures = np.ones((steps, 3, *final.shape), final.dtype)
    places = _places(looks.x0[:, 0] - looks.x0[:, 1], per_step, final.shape[0] / final.shape[1])
    for part in [slice(0, steps)] if whole else [slice(step, step + 1) for step in range(steps)]:
        pictures[part] = decoded(latents[part].flatten(0, 1)).reshape(-1, 3, *final.shape)
        noisy, first, second = pictures.swapaxes(0, 1).copy()
        yield Direction(measured.source.text, noisy, first, second, per_step, places, final)


def _places(difference: torch.Tensor, per_step: np.ndarray, high: float) -> np.ndarray | None:
    """What each place adds to each step. At a step all units differ by a factor alone, so that the difference of x0 tells shares.

    difference: (T, ...), of latents (channels, rows, columns), with frames between, or packed (places, channels); per_step: (T,).
    high: height of the picture over its width, which tells how packed places are laid out.
    """
    squared = difference.double().square().numpy()
    match squared.ndim:
        case 4:
            spread = squared.sum(1)
        case 5:
            spread = squared.sum((1, 2))
        case 3:
            rows = round((squared.shape[1] * high) ** 0.5)
            if rows == 0 or squared.shape[1] % rows:
                return None
            spread = squared.sum(2).reshape(len(squared), rows, -1)
        case _:
            return None
    whole = spread.sum((1, 2), keepdims=True)
    return np.divide(spread, whole, out=np.zeros_like(spread), where=whole > 0) * per_step[:, None, None]

"""The idea on one page: two texts are as similar as what a process conjures for them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from numbers import Integral
from typing import Any

import numpy as np

from conjure.divergence import DIVERGENCES, Seen, contributions
from conjure.errors import InputError
from conjure.estimate import Estimate, estimate, noise_seed
from conjure.process import Process
from conjure.run import Measured, Progress, Source, run
from conjure.units import WEIGHTINGS, output_of, step_weights, unit_gain


def pair(a: str, b: str, samples: int, seed: int) -> list[Source]:
    """The sources of a pair: sample by sample, the trajectory of each text judged by the other, from the same noise."""
    seeds = [noise_seed(seed, sample) for sample in range(samples)]
    return [Source(text, s, (other,)) for s in seeds for text, other in ((a, b), (b, a))]


def check(process: Process, texts: Sequence[str], samples: int, seed: int, divergence: str, weighting: str) -> None:
    """Refuse what cannot be computed before anything is. Errors: `InputError`."""
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text is {text!r}; allowed are strings")
        if not any(character.isprintable() and not character.isspace() for character in text):
            raise InputError(f"the text {text!r} is blank; give a text with at least one visible character")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            raise InputError(f"the text {text!r} is not valid Unicode; give it in UTF-8")
    if not isinstance(samples, Integral) or samples < 1:
        raise InputError(f"samples is {samples!r}; allowed are whole numbers from 1 on")
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed is {seed!r}; allowed are whole numbers from 0 on")
    if divergence not in DIVERGENCES:
        raise InputError(f"unknown divergence {divergence!r}; allowed are {', '.join(DIVERGENCES)}")
    if weighting not in WEIGHTINGS:
        raise InputError(f"unknown weighting {weighting!r}; allowed are {', '.join(WEIGHTINGS)}")
    if weighting == "girsanov" and process.steps < 2:
        raise InputError("the weighting girsanov integrates between visited levels, so steps must be at least 2, not 1")
    if weighting == "girsanov" and divergence in ("initial", "final", "direct"):
        raise InputError(f"divergence {divergence!r} has no value in nats; use it with the weighting uniform")


def seen(process: Process, measured: Sequence[Measured], weighting: str) -> Seen:
    """What the sources of one `pair` gave, ready for a divergence."""
    first, second = measured[::2], measured[1::2]
    scale = in_unit(process, measured[0]) if weighting == "uniform" else 1.0
    finals = [float((one.final - other.final).square().sum()) for one, other in zip(first, second, strict=True)]
    return Seen(
        forward=np.concatenate([one.squared for one in first]) * scale,
        backward=np.concatenate([one.squared for one in second]) * scale,
        direct=np.array(finals),
        weights=step_weights(first[0].levels, output_of(process.scheduler), weighting),
        weighting=weighting,
    )


def in_unit(process: Process, measured: Measured) -> np.ndarray:
    """Factors (T,) that turn squared output differences into those of the process' unit."""
    output = output_of(process.scheduler)
    return np.array([unit_gain(output, process.unit, level) ** 2 for level in measured.levels])


def distance(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    progress: Progress | None = None,
) -> Estimate:
    """How far apart `a` and `b` are in what `process` conjures for them (Liu and Soatto 2026, Algorithm 1).

    samples: Monte-Carlo draws k of the initial noise; the error needs at least two. seed: of all draws.
    divergence: `jeffreys`, or a baseline of the paper: `kl`, `initial`, `final`, `direct` (see `conjure.divergence`).
    weighting: `uniform`, the paper's, or `girsanov`, nats (see `conjure.units.step_weights`).

    Errors: `InputError` for blank texts and values out of range. Warns: `TextCutWarning`.
    """
    check(process, (a, b), samples, seed, divergence, weighting)
    measured = list(run(process, pair(a, b, samples, seed), progress=progress))
    return estimate_of(process, measured, seed=seed, divergence=divergence, weighting=weighting)


def estimate_of(process: Process, measured: Sequence[Measured], *, seed: int, divergence: str, weighting: str) -> Estimate:
    """The estimate that the measured sources of one `pair` give."""
    parts = contributions(seen(process, measured, weighting), divergence)
    record: dict[str, Any] = {
        "texts": (measured[0].source.text, measured[1].source.text),
        "divergence": divergence,
        "weighting": weighting,
        "seed": int(seed),
        "timesteps": measured[0].timesteps,
        "snr": tuple(level.snr for level in measured[0].levels),
        "process": process.settings(),
        "identity": process.identity(),
        "version": version("conjure"),
    }
    return estimate(parts, **record)

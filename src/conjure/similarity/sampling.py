"""Computes the differences between pairs of texts: jobs, their results, and the number of samples for a target error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob, TrajectoryResult
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import NoiseSeeds
from conjure.divergence.intervals import nonnegative_interval
from conjure.io.version import package_version
from conjure.similarity.calibration import find_calibration
from conjure.similarity.options import SamplingOptions
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache

MAX_TARGETS_PER_JOB = 128  # more targets of a source text are split into several jobs, which bounds the rows in memory
MAX_SAMPLES = 10_000


def jobs_for_pairs(pairs: Iterable[tuple[str, str]], samples: Iterable[int], noise: NoiseSeeds) -> list[TrajectoryJob]:
    """Return the jobs of some pairs: for each sample, each text of a pair is evaluated on the trajectory of the other text.

    A text that occurs in many pairs has one trajectory per seed, on which all its partners are evaluated.

    Args:
        pairs: Pairs of texts.
        samples: The indices of the samples.
        noise: The seeds of the noise.
    """
    samples = list(samples)
    targets: dict[tuple[str, int], dict[str, None]] = {}
    for a, b in pairs:
        for sample in samples:
            for text, other in ((a, b), (b, a)):
                targets.setdefault((text, noise.seed_for(sample, text, other)), {})[other] = None
    return [
        TrajectoryJob(text, seed, tuple(others)[start : start + MAX_TARGETS_PER_JOB])
        for (text, seed), others in targets.items()
        for start in range(0, len(others), MAX_TARGETS_PER_JOB)
    ]


def compute_pairs(
    process: Process, pairs: Sequence[tuple[str, str]], options: SamplingOptions, progress: ProgressCallback | None
) -> TrajectoryCache:
    """Run all jobs of some pairs and return a cache with the results. Pairs share trajectories.

    Raises:
        InputError: If a text or an option is invalid, before anything is computed.
    """
    options.validate(text for pair in pairs for text in pair)
    warn_of_indistinct_texts(process, pairs)
    cache = TrajectoryCache(process, options.noise)
    jobs = jobs_for_pairs(pairs, range(options.samples), options.noise)
    cache.compute(jobs, final_latents=options.config.divergence == "direct", progress=progress)
    return cache


def draw_samples(
    process: Process,
    a: str,
    b: str,
    options: SamplingOptions,
    *,
    keep_latents: int = 0,
    progress: ProgressCallback | None = None,
) -> tuple[TrajectoryCache, int, list[TrajectoryResult]]:
    """Draw the samples of a pair: `options.samples`, or as many as the target error of `options` requires.

    Args:
        process: The process.
        a: The first text.
        b: The second text.
        options: The options.
        keep_latents: The number of samples whose latents at every step are returned too.
        progress: Called after every step.

    Returns:
        The results, the number of samples, and the results with the latents of the first `keep_latents` samples.

    Raises:
        InputError: If a text or an option is invalid, before anything is computed.
    """
    options.validate((a, b))
    warn_of_indistinct_texts(process, [(a, b)])
    cache, with_latents = TrajectoryCache(process, options.noise), list[TrajectoryResult]()
    target = options.target_relative_error
    samples, done = options.samples if target is None else max(options.samples, 2), 0
    while done < samples:
        jobs = jobs_for_pairs([(a, b)], range(done, samples), options.noise)
        requested = jobs_for_pairs([(a, b)], range(min(keep_latents, samples)), options.noise)
        final_latents = options.config.divergence == "direct"
        with_latents += cache.compute(jobs, final_latents=final_latents, keep_latents=requested, progress=progress)
        done = samples
        if target is not None:
            samples = required_samples(options.config.per_sample(cache.pair(a, b, done)), target)
    return cache, done, with_latents


def required_samples(values: Float[np.ndarray, " samples"], target_relative_error: float) -> int:
    """Return the number of samples for which half the width of the 95% interval is expected to reach the target error.

    It is at most four times the current number, since the standard error of few samples is itself uncertain.

    Args:
        values: The values of the samples drawn so far.
        target_relative_error: The target for half the width of the interval, as a fraction of the mean.

    Returns:
        The total number of samples; the current number if the target is reached. No samples are added beyond `MAX_SAMPLES`.
    """
    mean, _, (low, high) = nonnegative_interval(values)
    drawn, half, wanted = len(values), (high - low) / 2, target_relative_error * abs(mean)
    if half <= wanted:
        return drawn
    excess = min(half / wanted, 2.0) if wanted else 2.0
    return max(drawn, min(max(drawn + 1, math.ceil(drawn * excess**2)), MAX_SAMPLES))


def run_metadata(process: Process, options: SamplingOptions) -> dict[str, Any]:
    """Return the fields that describe how an estimate, a matrix or a ranking was computed, and the scale of its distances."""
    fingerprint = process.fingerprint()
    calibration = find_calibration(process, fingerprint)
    return {
        "divergence": options.config.divergence,
        "weighting": options.config.weighting,
        "unit": options.config.unit_label,
        "antithetic": options.noise.antithetic,
        "seed": int(options.noise.seed),
        "process": process.settings(),
        "fingerprint": fingerprint,
        "version": package_version(),
        "scale": calibration.scale(options.config) if calibration else None,
    }

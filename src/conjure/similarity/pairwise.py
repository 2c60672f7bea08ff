"""The distance of two texts: the divergence between their reverse diffusion processes, from noise to images, in one model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conjure.deprecation import renamed_keywords
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import Divergence, DivergenceConfig, Reduction
from conjure.divergence.estimates import Estimate
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import compute_pairs, draw_samples, jobs_for_pairs, run_metadata
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache


@renamed_keywords(precision="target_relative_error")
def distance(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    target_relative_error: float | None = None,
    progress: ProgressCallback | None = None,
) -> Estimate:
    """Return the distance of two texts under a process.

    Args:
        process: The process: a model with its settings.
        a: The first text.
        b: The second text.
        samples: The number k of Monte-Carlo samples of the initial noise. A standard error needs at least two.
        seed: The seed of the noise, an integer >= 0. All texts have the same noise, with `antithetic` up to its sign.
        divergence: `jeffreys`, or one of the paper's baselines `kl`, `initial`, `final` and `direct`. See `DivergenceConfig`.
        weighting: `uniform`, as in the paper, or `girsanov`, in nats.
        unit: The unit of the uniform weighting; None for the default of the process.
        reduction: `sum` over the dimensions of the latents, or their `mean`.
        antithetic: Whether the two texts start from opposite noise: a smaller error at nearly the same cost. See `NoiseSeeds`.
        target_relative_error: Draw samples until half the width of the 95% interval is at most this fraction of the distance
            (0.05: ± 5%), or until 10,000 samples are drawn. None: draw `samples` samples.
        progress: Called after every step with the number of finished denoising steps and the total number.

    Returns:
        The distance with its standard error, its 95% interval and the contributions of directions and steps.

    Raises:
        InputError: If a text is blank or a value is out of range.

    Warns:
        IndistinctTextWarning: If the model has no token for a text, or the same tokens for two different texts.
        TextTruncationWarning: If a text is truncated.

    Reference:
        Liu and Soatto 2026, Algorithm 1. `conjure.reference` implements it without batches and caches.
    """
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic, target_relative_error=target_relative_error,
    )  # fmt: skip
    if target_relative_error is not None:
        results, samples, _ = draw_samples(process, a, b, options, progress=progress)
    else:
        options.validate((a, b))
        warn_of_indistinct_texts(process, [(a, b)])
        jobs = jobs_for_pairs([(a, b)], range(samples), options.noise)
        results = TrajectoryCache(process, options.noise)
        results.compute(jobs, final_latents=divergence == "direct", progress=progress)
    return make_estimate(results.pair(a, b, samples), options.config, (a, b), run_metadata(process, options))


def distances(
    process: Process,
    pairs: Iterable[tuple[str, str]],
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    progress: ProgressCallback | None = None,
) -> list[Estimate]:
    """Return the distances of many pairs. Trajectories and text embeddings that several pairs share are computed once.

    Args:
        process: The process.
        pairs: Pairs of texts.
        samples: See `distance`.
        seed: See `distance`.
        divergence: See `distance`.
        weighting: See `distance`.
        unit: See `distance`.
        reduction: See `distance`.
        antithetic: See `distance`.
        progress: See `distance`.

    Returns:
        One estimate per pair, equal to the result of `distance`.

    Raises:
        InputError: If a text is blank or a value is out of range.

    Warns:
        TextTruncationWarning: If a text is truncated.
    """
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic,
    )  # fmt: skip
    pairs = list(pairs)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"a pair is {pair!r}; must be a tuple of two texts")
    results = compute_pairs(process, pairs, options, progress)
    metadata = run_metadata(process, options)
    return [make_estimate(results.pair(a, b, samples), options.config, (a, b), metadata) for a, b in pairs]


def make_estimate(
    differences: PairDifferences, config: DivergenceConfig, texts: tuple[str, str], metadata: dict[str, Any]
) -> Estimate:
    """Return the estimate of a distance.

    Args:
        differences: The differences between the two texts.
        config: The divergence to compute from them.
        texts: The two texts.
        metadata: The fields that `run_metadata` returns.
    """
    snr = tuple(level.snr for level in differences.noise_levels)
    return Estimate.from_per_step(config.per_step(differences), texts=texts, timesteps=differences.timesteps, snr=snr, **metadata)

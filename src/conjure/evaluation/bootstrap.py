r"""Bootstrap of rank correlations over pairs and over Monte-Carlo samples.

Pairs are resampled with replacement. All pairs share the initial noise of a sample, so complete samples are resampled as well
where there are several. The mean of k resampled samples has only (k - 1) / k of the variance of the mean of k new samples, so its
deviation is multiplied by sqrt(k / (k - 1)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

NUM_BOOTSTRAP = 2000  # resamples of every bootstrap
BOOTSTRAP_CHUNK = 100  # resamples that are ranked at once


def bootstrap_correlations(
    measures: Sequence[Float[np.ndarray, "pairs _"]], scores: Float[np.ndarray, " pairs"], seed: int
) -> Float[np.ndarray, "measures resamples"]:
    """Return the rank correlation of each measure with human ratings in NUM_BOOTSTRAP resamples.

    All measures use the same resampled pairs. Measures with the same number of samples also use the same resampled samples.

    Args:
        measures: Distances by each measure, each of shape (pairs, samples).
        scores: Human rating of each pair, shape (pairs,).
        seed: Seed of the resampling.

    Returns:
        Correlations of the negated means over samples, shape (measures, resamples).
    """
    correlations = np.empty((len(measures), NUM_BOOTSTRAP))
    for indices, means, counts in iter_resamples(measures, seed):
        for mean, row in zip(means, correlations, strict=True):
            row[indices] = weighted_spearman(-mean, scores, counts)
    return correlations


def iter_resamples(
    measures: Sequence[Float[np.ndarray, "pairs _"]], seed: int
) -> Iterator[tuple[Int[np.ndarray, " some"], list[Float[np.ndarray, " pairs"]], Int[np.ndarray, "some pairs"]]]:
    """Yield the NUM_BOOTSTRAP resamples, those with the same samples together.

    Args:
        measures: As in `bootstrap_correlations`.
        seed: Seed of the resampling.

    Yields:
        The indices of some resamples, the mean distances of each measure over their samples (with multiplied deviations, see
        above), and how often each pair occurs in each of these resamples.
    """
    rng = np.random.default_rng(seed)
    sizes = sorted({distances.shape[1] for distances in measures})
    drawn = np.concatenate([np.sort(rng.integers(0, size, (NUM_BOOTSTRAP, size)), 1) for size in sizes], 1)
    # resamples that contain the same samples have the same mean distances, so these are ranked only once
    for combination in np.unique(drawn, axis=0):
        indices = np.flatnonzero((drawn == combination).all(1))
        counts = _resample_counts(len(measures[0]), len(indices), rng)
        samples = dict(zip(sizes, np.split(combination, np.cumsum(sizes)[:-1]), strict=True))
        yield indices, [_resampled_mean(distances, samples[distances.shape[1]]) for distances in measures], counts


def _resampled_mean(
    distances: Float[np.ndarray, "pairs samples"], chosen: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, " pairs"]:
    """Return the mean over the chosen samples, with its deviation from the mean of all multiplied by sqrt(k / (k - 1))."""
    mean, k = distances.mean(1), len(chosen)
    return mean + np.sqrt(k / (k - 1)) * (distances[:, chosen].mean(1) - mean) if k > 1 else mean


def centered_bootstrap(
    bootstrap: Float[np.ndarray, " resamples"], estimate: float, samples: int
) -> Float[np.ndarray, " resamples"]:
    """Return the draws from which both the interval and the p-value are computed.

    A resample of k samples has fewer than k distinct ones, so its distances are noisier and correlate less than all samples do.
    In a difference, this lowers the correlation of the measure with more samples. With several samples the draws are therefore
    shifted, so that their mean is `estimate`: the bootstrap gives the spread only.

    Args:
        bootstrap: Value in each resample, a correlation or a difference of two.
        estimate: Value for the data themselves.
        samples: Number of Monte-Carlo samples of the distances, the larger one of two measures.
    """
    return bootstrap + (estimate - bootstrap.mean()) if samples > 1 else bootstrap


def percentile_interval(bootstrap: Float[np.ndarray, " resamples"], estimate: float) -> tuple[float, float]:
    """Return the 95% percentile interval of draws from `centered_bootstrap`; it always contains `estimate`."""
    low, high = np.percentile(bootstrap, [2.5, 97.5])
    return min(float(low), estimate), max(float(high), estimate)


def two_sided_p(bootstrap: Float[np.ndarray, " resamples"]) -> float:
    """Return the two-sided p-value of the value 0, from draws of `centered_bootstrap`.

    It is below 0.05 where the percentile interval of the same draws excludes 0, up to the resolution of the draws.
    """
    return float(min(1.0, 2 * min((bootstrap <= 0).mean(), (bootstrap >= 0).mean()) + 1 / NUM_BOOTSTRAP))


def _resample_counts(pairs: int, resamples: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples pairs"]:
    """Return how often each pair occurs in each resample."""
    flat_indices = rng.integers(0, pairs, (resamples, pairs)) + pairs * np.arange(resamples)[:, None]
    return np.bincount(flat_indices.ravel(), minlength=resamples * pairs).reshape(resamples, pairs)


def weighted_spearman(
    x: Float[np.ndarray, " pairs"], y: Float[np.ndarray, " pairs"], counts: Int[np.ndarray, "resamples pairs"]
) -> Float[np.ndarray, " resamples"]:
    """Return the rank correlation in each resample; 0 where a resample has no variation."""
    correlations = np.empty(len(counts))
    for start in range(0, len(counts), BOOTSTRAP_CHUNK):
        chunk = counts[start : start + BOOTSTRAP_CHUNK]
        mean_rank = (chunk.sum(1, keepdims=True) + 1) / 2
        u, v = _weighted_ranks(x, chunk) - mean_rank, _weighted_ranks(y, chunk) - mean_rank
        norm = np.sqrt((chunk * u * u).sum(1) * (chunk * v * v).sum(1))
        correlations[start : start + BOOTSTRAP_CHUNK] = np.divide(
            (chunk * u * v).sum(1), norm, out=np.zeros(len(chunk)), where=norm > 0
        )
    return correlations


def _weighted_ranks(
    values: Float[np.ndarray, " pairs"], counts: Int[np.ndarray, "resamples pairs"]
) -> Float[np.ndarray, "resamples pairs"]:
    """Return the average rank of each value in each resample; the values are sorted only once for all resamples."""
    order = np.argsort(values, kind="stable")
    tie_starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    tie_sizes = np.add.reduceat(counts[:, order], tie_starts, axis=1)
    tie_ranks = np.cumsum(tie_sizes, 1) - tie_sizes + (tie_sizes + 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, order] = np.repeat(tie_ranks, np.diff(tie_starts, append=len(values)), axis=1)
    return ranks


def rank_correlation(x: Float[np.ndarray, " pairs"], y: Float[np.ndarray, " pairs"]) -> float:
    """Return the rank correlation; 0 where one side has no variation."""
    u, v = stats.rankdata(x), stats.rankdata(y)
    u, v = u - u.mean(), v - v.mean()
    norm = float(np.sqrt((u @ u) * (v @ v)))
    return float(u @ v) / norm if norm else 0.0

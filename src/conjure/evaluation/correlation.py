r"""Rank correlation of distances with human ratings, with its uncertainty.

A correlation is that of negated distances, so that 1 is perfect agreement. Ties get average ranks.

Confidence intervals are 95% bootstrap intervals (`conjure.evaluation.bootstrap`). For fewer than 20 pairs, intervals and p-values
of single correlations are those of `conjure.evaluation.few_pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from conjure.deprecation import deprecated_property
from conjure.errors import InputError
from conjure.evaluation.bootstrap import (
    bootstrap_correlations,
    centered_bootstrap,
    percentile_interval,
    rank_correlation,
    two_sided_p,
)
from conjure.evaluation.few_pairs import FEW_PAIRS, inversion_interval, permutation_p
from conjure.io.formatting import pluralize

NUM_SPLITS = 100  # random splits of the samples into halves


@dataclass(frozen=True)
class Agreement:
    """Correlation of distances with human ratings.

    Attributes:
        spearman: Rank correlation, -1 to 1.
        ci95: 95% confidence interval of `spearman`, by a bootstrap over pairs, and over samples where there are several. With
            fewer than 20 pairs, it is the interval by inversion of the distribution for normal variables; with several samples
            it contains the bootstrap interval too.
        pearson: Linear correlation, -1 to 1.
        p: Two-sided p-value of the hypothesis that there is no rank correlation: by permutation with fewer than 20 pairs, and by
            the t distribution otherwise. With several samples, it is at least that of the bootstrap, which contains their error.
        pairs: Number of pairs.
    """

    spearman: float
    ci95: tuple[float, float]
    pearson: float
    p: float
    pairs: int

    def __str__(self) -> str:
        low, high = (100 * end for end in self.ci95)
        return f"{100 * self.spearman:.1f} (95% CI: {low:.1f} to {high:.1f}), {pluralize(self.pairs, 'pair')}"

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "spearman": 100 * self.spearman,
            "ci95": [100 * end for end in self.ci95],
            "pearson": 100 * self.pearson,
            "p": self.p,
            "pairs": self.pairs,
        }


def agreement(distances: Float[np.ndarray, "pairs samples"], scores: Float[np.ndarray, " pairs"], seed: int = 0) -> Agreement:
    """Return the agreement of distances with human ratings.

    Args:
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        scores: Human rating of each pair, higher for more similar texts, shape (pairs,).
        seed: Seed of the bootstrap.

    Returns:
        The correlations of the negated means over samples, with a confidence interval.

    Raises:
        InputError: If a distance or a score is not finite, their numbers differ, there are fewer than three pairs, or all
            distances or all scores are equal.
    """
    check_scores(scores)
    means = _checked_means(distances, scores)
    result = stats.spearmanr(-means, scores)
    estimate, p, samples = float(result.statistic), float(result.pvalue), distances.shape[1]
    intervals = []
    if len(scores) < FEW_PAIRS:
        p = permutation_p(-means, scores)
        intervals.append(inversion_interval(estimate, len(scores)))
    if len(scores) >= FEW_PAIRS or samples > 1:  # only the bootstrap contains the error over samples
        (bootstrap,) = bootstrap_correlations([distances], scores, seed)
        draws = centered_bootstrap(bootstrap, estimate, samples)
        intervals.append(percentile_interval(draws, estimate))
        if samples > 1:
            p = max(p, two_sided_p(draws))
    lows, highs = zip(*intervals, strict=True)
    pearson = float(stats.pearsonr(-means, scores).statistic)
    return Agreement(estimate, (max(min(lows), -1.0), min(max(highs), 1.0)), pearson, p, len(scores))


@dataclass(frozen=True)
class Difference:
    """Difference between the agreements of two measures with the same human ratings.

    Attributes:
        spearman: Rank correlation of the first measure minus that of the second.
        ci95: 95% confidence interval of `spearman`, by a paired bootstrap over pairs, and over samples where there are several.
        p: Two-sided p-value of the hypothesis that there is no difference, from the same resamples as the interval.
        rank_correlation: Rank correlation between the distances of the two measures.
    """

    spearman: float
    ci95: tuple[float, float]
    p: float
    rank_correlation: float

    ranks = deprecated_property("ranks", "rank_correlation")

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "spearman": 100 * self.spearman,
            "ci95": [100 * end for end in self.ci95],
            "p": self.p,
            "rank_correlation": 100 * self.rank_correlation,
        }


def difference(
    first: Float[np.ndarray, "pairs first_samples"],
    second: Float[np.ndarray, "pairs second_samples"],
    scores: Float[np.ndarray, " pairs"],
    seed: int = 0,
) -> Difference:
    """Return the agreement of `first` with human ratings minus that of `second`.

    Args:
        first: Distances of the first measure, shape (pairs, samples).
        second: Distances of the second measure for the same pairs, shape (pairs, samples).
        scores: Human rating of each pair, shape (pairs,).
        seed: Seed of the bootstrap.

    Returns:
        The difference, with a confidence interval and a p-value of a paired bootstrap.

    Raises:
        InputError: As for `agreement`.
    """
    check_scores(scores)
    means = _checked_means(first, scores), _checked_means(second, scores)
    estimate = rank_correlation(-means[0], scores) - rank_correlation(-means[1], scores)
    draws = np.subtract(*bootstrap_correlations([first, second], scores, seed))
    bootstrap = centered_bootstrap(draws, estimate, max(first.shape[1], second.shape[1]))
    return Difference(
        spearman=estimate,
        ci95=percentile_interval(bootstrap, estimate),
        p=two_sided_p(bootstrap),
        rank_correlation=rank_correlation(*means),
    )


def percentile_ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the average rank of each value, from 0 for the smallest to 100 for the largest."""
    return 100 * (stats.rankdata(values) - 1) / max(len(values) - 1, 1)


def reliability(distances: Float[np.ndarray, "pairs samples"], seed: int = 0) -> tuple[float, float]:
    r"""Return the reliability of the ranks of distances, and the ceiling that it sets.

    The samples are split into random halves. With $r$ the mean rank correlation between two halves and $n$ the number of samples
    divided by the number in a half, the Spearman-Brown formula gives the reliability of all samples together,
    $n r / (1 + (n - 1) r)$. Its square root is the highest correlation that these distances can have with scores without noise.

    Args:
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        seed: Seed of the random splits.

    Returns:
        The reliability and the ceiling; NaN for one sample.
    """
    samples = distances.shape[1]
    if samples < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    size = samples // 2
    correlations = []
    for _ in range(NUM_SPLITS):
        order = rng.permutation(samples)
        first_half, second_half = order[:size], order[size : 2 * size]
        correlations.append(rank_correlation(distances[:, first_half].mean(1), distances[:, second_half].mean(1)))
    r = float(np.mean(correlations))
    n = samples / size
    combined = n * r / (1 + (n - 1) * r) if r > 0 else r  # the formula does not hold for negative correlations
    return combined, float(np.sqrt(max(combined, 0)))


def check_scores(scores: Float[np.ndarray, " pairs"]) -> None:
    """Check that a correlation with human ratings is defined.

    Raises:
        InputError: If there are fewer than three scores, one is not finite, or all are equal.
    """
    if len(scores) < 3:
        raise InputError(f"a rank correlation of {len(scores)} pairs is not meaningful; give at least 3 pairs")
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite; give finite scores")
    if (scores == scores[0]).all():
        raise InputError(f"all scores are {scores[0]:g}, so no correlation is defined; give pairs with different scores")


def has_correlation(distances: Float[np.ndarray, "pairs samples"], scores: Float[np.ndarray, " pairs"]) -> bool:
    """Return whether a correlation is defined: at least three pairs, all finite, with different scores and mean distances."""
    is_finite = np.isfinite(distances).all() and np.isfinite(scores).all()
    return bool(len(scores) >= 3 and is_finite and np.ptp(scores) > 0 and np.ptp(distances.mean(1)) > 0)


def _checked_means(distances: Float[np.ndarray, "pairs samples"], scores: Float[np.ndarray, " pairs"]) -> np.ndarray:
    """Return the means over samples, after a check that their correlation with scores is defined.

    Raises:
        InputError: If a distance is not finite, the numbers of pairs differ, or all means are equal.
    """
    if len(distances) != len(scores):
        raise InputError(f"there are distances of {len(distances)} pairs and {len(scores)} scores; give one score per pair")
    finite = np.isfinite(distances).all(1)
    if not finite.all():
        raise InputError(f"{int((~finite).sum())} of {len(distances)} distances are not finite; leave out these pairs")
    means: np.ndarray = distances.mean(1)
    if (means == means[0]).all():
        raise InputError(f"all distances are {means[0]:g}, so no correlation is defined")
    return means

"""How well distances agree with people, and how well that is known.

Correlations are of negated distances, so that 1 is perfect agreement; ties get average ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from conjure.errors import InputError

DRAWS = 2000  # of every bootstrap


@dataclass(frozen=True)
class Agreement:
    """Rank correlation with people. spearman, pearson: -1 to 1. ci95: bootstrap percentiles of `spearman` over pairs, and over
    samples too where there are several. p: of no rank correlation, two-sided. pairs: how many."""

    spearman: float
    ci95: tuple[float, float]
    pearson: float
    p: float
    pairs: int


def agreement(distances: np.ndarray, scores: np.ndarray, seed: int = 0) -> Agreement:
    """The agreement of `distances` (pairs, samples) with `scores` (pairs,).

    Errors: `InputError` where a distance is not a number, or where one side does not vary, so that nothing correlates.
    """
    means = distances.mean(1)
    _check(means, scores)
    found = stats.spearmanr(-means, scores)
    low, high = np.percentile([_spearman(-one, other) for one, other in _resampled(distances, scores, seed)], [2.5, 97.5])
    pearson = float(stats.pearsonr(-means, scores).statistic)
    return Agreement(float(found.statistic), (float(low), float(high)), pearson, float(found.pvalue), len(scores))


def difference(one: np.ndarray, other: np.ndarray, scores: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float], float]:
    """Spearman of `one` less that of `other`, both distances (pairs, samples) of the same pairs: difference, 95 % interval, p.

    Paired bootstrap over pairs; p is two-sided, of no difference.
    """
    whole = _spearman(-one.mean(1), scores) - _spearman(-other.mean(1), scores)
    draw = np.random.default_rng(seed).integers(0, len(scores), (DRAWS, len(scores)))
    means = one.mean(1), other.mean(1)
    drawn = np.array([_spearman(-means[0][at], scores[at]) - _spearman(-means[1][at], scores[at]) for at in draw])
    low, high = np.percentile(drawn, [2.5, 97.5])
    p = min(1.0, 2 * min((drawn <= 0).mean(), (drawn >= 0).mean()) + 1 / DRAWS)
    return float(whole), (float(low), float(high)), float(p)


def reliability(distances: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Of the ranks of distances (pairs, samples): reliability, and the ceiling it sets to a rank correlation with anything.

    Mean rank correlation between two halves of the samples, stepped up to all of them (Spearman-Brown); its root is what a
    correlation with noiseless scores could reach at most. NaN with one sample.
    """
    samples = distances.shape[1]
    if samples < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(100):
        order = rng.permutation(samples)
        one, other = order[: samples // 2], order[samples // 2 : 2 * (samples // 2)]
        halves.append(_spearman(distances[:, one].mean(1), distances[:, other].mean(1)))
    half = float(np.mean(halves))
    step = samples / (samples // 2)
    whole = step * half / (1 + (step - 1) * half)
    return whole, float(np.sqrt(max(whole, 0)))


def _resampled(distances: np.ndarray, scores: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bootstrap draws over pairs and, since all pairs share the noise of a sample, over samples as a whole."""
    rng = np.random.default_rng(seed)
    pairs, samples = distances.shape
    draws = []
    for _ in range(DRAWS):
        at = rng.integers(0, pairs, pairs)
        means = distances[:, rng.integers(0, samples, samples)].mean(1) if samples > 1 else distances[:, 0]
        draws.append((means[at], scores[at]))
    return draws


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation, 0 where a resample does not vary."""
    x, y = stats.rankdata(one), stats.rankdata(other)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


def _check(means: np.ndarray, scores: np.ndarray) -> None:
    if not np.isfinite(means).all():
        raise InputError(f"{int((~np.isfinite(means)).sum())} of {len(means)} distances are not numbers")
    if len(scores) < 3:
        raise InputError(f"a rank correlation of {len(scores)} pairs means nothing; give at least 3")
    for what, values in (("distances", means), ("scores", scores)):
        if (values == values[0]).all():
            raise InputError(f"all {what} are {values[0]:g}, so nothing correlates with them")

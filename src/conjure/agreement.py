"""How well distances agree with people, and how well that is known.

Correlations are of negated distances, so that 1 is perfect agreement; ties get average ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from conjure.errors import InputError

DRAWS = 2000  # of every bootstrap
AT_ONCE = 100  # of which are ranked together


@dataclass(frozen=True)
class Agreement:
    """Rank correlation with people. spearman, pearson: -1 to 1. ci95: of `spearman`, by a bootstrap over pairs, and over samples
    too where there are several. p: of no rank correlation, two-sided. pairs: how many."""

    spearman: float
    ci95: tuple[float, float]
    pearson: float
    p: float
    pairs: int

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        return {
            "spearman": round(100 * self.spearman, 2),
            "ci95": [round(100 * end, 2) for end in self.ci95],
            "pearson": round(100 * self.pearson, 2),
            "p": self.p,
            "pairs": self.pairs,
        }


def agreement(distances: np.ndarray, scores: np.ndarray, seed: int = 0) -> Agreement:
    """The agreement of `distances` (pairs, samples) with `scores` (pairs,).

    Errors: `InputError` where a distance is not a number, or where one side does not vary, so that nothing correlates.
    """
    means = distances.mean(1)
    _check(means, scores)
    found = stats.spearmanr(-means, scores)
    (drawn,), whole = _bootstrap([distances], scores, seed), float(found.statistic)
    low, high = _interval(drawn, whole, distances.shape[1])
    pearson = float(stats.pearsonr(-means, scores).statistic)
    return Agreement(whole, (max(low, -1.0), min(high, 1.0)), pearson, float(found.pvalue), len(scores))


@dataclass(frozen=True)
class Difference:
    """Of two agreements with the same people. spearman: of the one less that of the other. ci95, p: by a paired bootstrap over
    pairs, and over samples where there are several; p two-sided, of no difference. ranks: rank correlation of the two distances
    with each other."""

    spearman: float
    ci95: tuple[float, float]
    p: float
    ranks: float

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        return {
            "spearman": round(100 * self.spearman, 2),
            "ci95": [round(100 * end, 2) for end in self.ci95],
            "p": self.p,
            "rank correlation": round(100 * self.ranks, 2),
        }


def difference(one: np.ndarray, other: np.ndarray, scores: np.ndarray, seed: int = 0) -> Difference:
    """How much better `one` agrees with `scores` than `other` does, both distances (pairs, samples) of the same pairs.

    Errors: `InputError` as in `agreement`.
    """
    means = one.mean(1), other.mean(1)
    for each in means:
        _check(each, scores)
    first, second = _spearman(-means[0], scores), _spearman(-means[1], scores)
    drawn = np.subtract(*_bootstrap([one, other], scores, seed))
    return Difference(
        spearman=first - second,
        ci95=_interval(drawn, first - second, max(one.shape[1], other.shape[1])),
        p=float(min(1.0, 2 * min((drawn <= 0).mean(), (drawn >= 0).mean()) + 1 / DRAWS)),
        ranks=_spearman(*means),
    )


def places(values: np.ndarray) -> np.ndarray:
    """The average ranks of `values`, from 0 (the least) to 100 (the most)."""
    return 100 * (stats.rankdata(values) - 1) / max(len(values) - 1, 1)


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
    whole = step * half / (1 + (step - 1) * half) if half > 0 else half  # halves that disagree are no more reliable together
    return whole, float(np.sqrt(max(whole, 0)))


def _bootstrap(runs: Sequence[np.ndarray], scores: np.ndarray, seed: int) -> np.ndarray:
    """Rank correlations of draws over pairs and, since all pairs share the noise of a sample, over whole samples: (runs, DRAWS).

    runs: distances (pairs, samples), all drawn alike; those with as many samples share the draws of these, too.
    """
    rng = np.random.default_rng(seed)
    sizes = sorted({run.shape[1] for run in runs})
    drawn = np.concatenate([np.sort(rng.integers(0, size, (DRAWS, size)), 1) for size in sizes], 1)
    found = np.empty((len(runs), DRAWS))
    for chosen in np.unique(drawn, axis=0):
        at = np.flatnonzero((drawn == chosen).all(1))
        counts = _counts(len(scores), len(at), rng)
        samples = dict(zip(sizes, np.split(chosen, np.cumsum(sizes)[:-1]), strict=True))
        for run, into in zip(runs, found, strict=True):
            into[at] = _spearman_of(-run[:, samples[run.shape[1]]].mean(1), scores, counts)
    return found


def _interval(drawn: np.ndarray, whole: float, samples: int) -> tuple[float, float]:
    """The 95 % interval around `whole`, a correlation or a difference of two, from its bootstrap draws.

    Of k resampled samples fewer are distinct, so that draws are noisier than the whole and correlate less: with several samples
    they tell how wide the interval is, not where.
    """
    low, high = np.percentile(drawn + (whole - drawn.mean() if samples > 1 else 0), [2.5, 97.5])
    return min(float(low), whole), max(float(high), whole)


def _counts(pairs: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each pair stands in each of `draws` resamples, (draws, pairs)."""
    at = rng.integers(0, pairs, (draws, pairs)) + pairs * np.arange(draws)[:, None]
    return np.bincount(at.ravel(), minlength=draws * pairs).reshape(draws, pairs)


def _spearman_of(one: np.ndarray, other: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rank correlations of resamples in which pair i stands `counts[:, i]` times; 0 where a resample does not vary."""
    found = np.empty(len(counts))
    for start in range(0, len(counts), AT_ONCE):
        rows = counts[start : start + AT_ONCE]
        middle = (rows.sum(1, keepdims=True) + 1) / 2
        x, y = _ranks(one, rows) - middle, _ranks(other, rows) - middle
        size = np.sqrt((rows * x * x).sum(1) * (rows * y * y).sum(1))
        found[start : start + AT_ONCE] = np.divide((rows * x * y).sum(1), size, out=np.zeros(len(rows)), where=size > 0)
    return found


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average rank of each of `values` in each resample, (draws, pairs): sorted once, however many resamples there are."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)  # of runs of equal values
    size = np.add.reduceat(counts[:, order], starts, axis=1)
    rank = np.cumsum(size, 1) - size + (size + 1) / 2
    ranks = np.empty(counts.shape)
    ranks[:, order] = np.repeat(rank, np.diff(starts, append=len(values)), axis=1)
    return ranks


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation, 0 where a resample does not vary."""
    x, y = stats.rankdata(one), stats.rankdata(other)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


def check_scores(scores: np.ndarray) -> None:
    """Refuse scores that nothing can correlate with. Errors: `InputError`."""
    if len(scores) < 3:
        raise InputError(f"a rank correlation of {len(scores)} pairs means nothing; give at least 3")
    if (scores == scores[0]).all():
        raise InputError(f"all scores are {scores[0]:g}, so nothing correlates with them")


def _check(means: np.ndarray, scores: np.ndarray) -> None:
    check_scores(scores)
    if not np.isfinite(means).all():
        raise InputError(f"{int((~np.isfinite(means)).sum())} of {len(means)} distances are not numbers")
    if (means == means[0]).all():
        raise InputError(f"all distances are {means[0]:g}, so nothing correlates with them")

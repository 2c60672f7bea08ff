"""The partial rank correlation is that of the residuals of ranks, and its interval contains the true value."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conjure.evaluation.partial_correlation import partial_rank_correlation


def by_residuals(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Return the correlation of the residuals of ranks after linear regression on the ranks of `given`."""
    ranks = [stats.rankdata(values) for values in (x, y, given)]
    design = np.stack([np.ones(len(x)), ranks[2]], 1)
    residuals = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in ranks[:2]]
    return float(stats.pearsonr(*residuals).statistic)


def draw(rng: np.random.Generator, pairs: int, own: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, distances by the encoder, and ratings. `own` is what distances and ratings share beside the encoder."""
    similarity, shared = rng.normal(size=(2, pairs))
    distances = -similarity - own * shared + rng.normal(size=pairs)
    ratings = similarity + own * shared + rng.normal(size=pairs)
    return distances[:, None], -similarity[:, None], ratings


@pytest.mark.parametrize(("pairs", "levels"), [(5, 0), (19, 4), (20, 5), (200, 0)])
def test_partial_correlation_is_that_of_residuals(pairs, levels):
    distances, given, ratings = draw(np.random.default_rng(pairs), pairs, 0.7)
    if levels:  # ratings with ties
        ratings = np.floor(levels * stats.rankdata(ratings) / (pairs + 1))
    result = partial_rank_correlation(distances, given, ratings)
    assert result is not None
    assert result.spearman == pytest.approx(by_residuals(-distances[:, 0], ratings, -given[:, 0]))
    assert result.ci95[0] <= result.spearman <= result.ci95[1]
    assert result.pairs == pairs


def test_samples_are_averaged_and_resampled():
    distances, given, ratings = draw(np.random.default_rng(0), 60, 0.7)
    noise = np.random.default_rng(1).normal(scale=3, size=(60, 4))
    several = partial_rank_correlation(distances + noise, given, ratings)
    assert several is not None
    mean = (distances + noise).mean(1)
    assert several.spearman == pytest.approx(by_residuals(-mean, ratings, -given[:, 0]))
    one = partial_rank_correlation(mean[:, None], given, ratings)
    assert one is not None
    assert one.spearman == several.spearman
    assert np.ptp(several.ci95) > np.ptp(one.ci95)  # it contains the error over samples


def test_nothing_remains_of_equal_ranks():
    distances, given, ratings = draw(np.random.default_rng(0), 40, 0.7)
    for measured, other in ((np.exp(given), given), (distances, -ratings[:, None])):
        result = partial_rank_correlation(measured, other, ratings)
        assert result is not None
        assert (result.spearman, result.ci95) == (0.0, (0.0, 0.0))


def test_too_few_pairs():
    distances, given, ratings = draw(np.random.default_rng(0), 4, 0.7)
    assert partial_rank_correlation(distances[:3], given[:3], ratings[:3]) is None
    few = partial_rank_correlation(distances, given, ratings)
    assert few is not None
    assert np.ptp(few.ci95) > 1  # four pairs give almost no information


def test_text_of_a_result():
    distances, given, ratings = draw(np.random.default_rng(0), 40, 0.0)
    result = partial_rank_correlation(distances, given, ratings)
    assert result is not None
    low, high = result.ci95
    assert str(result) == f"{100 * result.spearman:.0f} ({100 * low:.0f} to {100 * high:.0f})"
    assert result.summary()["ci95"] == [pytest.approx(100 * low, abs=0.01), pytest.approx(100 * high, abs=0.01)]


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "own"), [(12, 0.0), (12, 1.0), (65, 0.0), (65, 1.0)])
def test_coverage_of_the_interval(pairs, own):
    """The 95% interval contains the value of a very large number of pairs in about 95% of data sets."""
    x, given, ratings = draw(np.random.default_rng(1), 200_000, own)
    truth = by_residuals(-x[:, 0], ratings, -given[:, 0])
    rng = np.random.default_rng(2)
    results = [partial_rank_correlation(*draw(rng, pairs, own)) for _ in range(200)]
    covered = np.mean([result is not None and result.ci95[0] <= truth <= result.ci95[1] for result in results])
    assert 0.9 <= covered <= 1.0

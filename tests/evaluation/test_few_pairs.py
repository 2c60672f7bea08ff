"""Few pairs: p-values are those of all permutations, and intervals have at least their nominal coverage."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from conjure.evaluation.correlation import agreement
from conjure.evaluation.few_pairs import FEW_PAIRS, few_pairs_notes, inversion_interval, permutation_p


def test_three_pairs_are_not_significant():
    result = agreement(np.array([[3.0], [2.0], [1.0]]), np.array([1.0, 2.0, 3.0]))
    assert (result.spearman, result.p) == (pytest.approx(1), pytest.approx(2 / 6))
    assert result.ci95[0] < -0.7
    assert result.ci95[1] == 1


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]), ([1, 1, 2, 3, 3], [1, 2, 2, 5, 4])])
def test_p_is_that_of_all_permutations(x, y):
    observed = stats.spearmanr(x, y).statistic
    shuffled = np.array([stats.spearmanr(order, y).statistic for order in permutations(x)])
    upper, lower = (shuffled >= observed - 1e-12).mean(), (shuffled <= observed + 1e-12).mean()
    assert permutation_p(np.array(x), np.array(y)) == pytest.approx(min(1, 2 * min(upper, lower)))


def test_p_of_random_permutations_is_positive_and_agrees_with_the_t_distribution():
    x = np.arange(15.0)
    assert 0 < permutation_p(x, x) < 1e-3
    y = np.random.default_rng(0).normal(size=15) + 0.1 * x
    assert permutation_p(x, y) == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)


@pytest.mark.parametrize("pairs", [4, 5, 6, 10])
def test_interval_and_p_agree_for_perfect_correlation(pairs):
    x = np.arange(float(pairs))
    low, high = inversion_interval(1.0, pairs)
    assert high == 1
    assert (low > 0) == (permutation_p(x, x) < 0.05)


@pytest.mark.parametrize("repetitions", [300, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("pairs", "rho"), [(3, 0.5), (6, 0.0), (10, 0.8), (19, 0.6)])
def test_coverage_of_the_interval(pairs, rho, repetitions):
    """The percentile bootstrap, which it replaces, covers less for few pairs."""
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    x, noise = rng.normal(size=(2, repetitions, pairs))
    y = rho * x + (1 - rho**2) ** 0.5 * noise
    correlations = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    intervals = [inversion_interval(float(correlation), pairs) for correlation in correlations]
    assert np.mean([low <= truth <= high for low, high in intervals]) > 0.95 - 3 * (0.05 / repetitions) ** 0.5
    assert all(low <= correlation <= high for (low, high), correlation in zip(intervals, correlations, strict=True))


def test_notes():
    assert few_pairs_notes({"a": 3, "b": FEW_PAIRS}) == [
        "a has only 3 pairs: its correlations are very uncertain; use at least 20 pairs"
    ]

"""Correlations and their intervals: compared with scipy, with simulations whose truth is known, and with plain resampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conjure import InputError
from conjure.evaluation.bootstrap import _resample_counts, iter_resamples, weighted_spearman
from conjure.evaluation.correlation import agreement, difference, percentile_ranks, reliability
from conjure.evaluation.report import format_interval


def test_agreement_equals_scipy():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 300).astype(float)  # with ties
    distances = -scores + rng.normal(size=300)
    result = agreement(distances[:, None], scores)
    expected = stats.spearmanr(-distances, scores)
    assert (result.spearman, result.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert result.pearson == pytest.approx(stats.pearsonr(-distances, scores).statistic)
    assert result.ci95[0] < result.spearman < result.ci95[1]
    half_width = 1.96 * (1 - result.spearman**2) / 300**0.5  # of a correlation in large samples
    assert result.ci95[1] - result.ci95[0] == pytest.approx(2 * half_width, rel=0.35)


def test_random_distances_have_no_agreement():
    rng = np.random.default_rng(1)
    result = agreement(rng.normal(size=(1000, 1)), rng.normal(size=1000))
    assert abs(result.spearman) < 0.1
    assert result.ci95[0] < 0 < result.ci95[1]


def test_results_are_rounded_once():
    """Data keep all digits: 30.95238 is printed as 31.0, and not as 30.9 by way of 30.95."""
    measured = agreement(-np.arange(8.0)[:, None], np.array([1.0, 2.0, 5.0, 8.0, 7.0, 6.0, 4.0, 3.0]))
    assert measured.spearman == pytest.approx(13 / 42)
    measured = replace(measured, ci95=(-0.2, 0.3905238))
    assert str(measured).startswith("31.0 (95% CI: -20.0 to 39.1)")
    summary = measured.summary()
    assert (f"{summary['spearman']:.1f}", format_interval(summary["ci95"])) == ("31.0", "-20.0 to 39.1")


def test_percentile_ranks():
    assert percentile_ranks(np.array([3.0, 1.0, 2.0])).tolist() == [100, 0, 50]
    assert percentile_ranks(np.array([1.0, 1.0, 2.0])).tolist() == [25, 25, 100]
    assert percentile_ranks(np.array([7.0])).tolist() == [0]


def test_samples_widen_the_interval():
    """All pairs share the noise of a sample, so resampling samples is part of the error."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=200)
    noisy = -scores[:, None] + rng.normal(size=(200, 2)) * 0.5 + 2 * rng.normal(size=(200, 2)) * (np.arange(200) % 2)[:, None]
    two_samples, one_sample = agreement(noisy, scores), agreement(noisy.mean(1, keepdims=True), scores)
    assert two_samples.spearman == one_sample.spearman
    assert two_samples.ci95[1] - two_samples.ci95[0] > one_sample.ci95[1] - one_sample.ci95[0]


@pytest.mark.parametrize(
    ("distances", "scores", "message"),
    [
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], "1 of 3 distances are not finite"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "all distances are 1"),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], "all scores are 4"),
        ([1.0, np.inf, 2.0], [1.0, 2.0, 3.0], "1 of 3 distances are not finite"),
        ([1.0, 2.0, 3.0], [1.0, np.nan, 3.0], "1 of 3 scores are not finite"),
        ([1.0, 2.0, 3.0], [-np.inf, 2.0, np.inf], "2 of 3 scores are not finite"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], "distances of 3 pairs and 4 scores"),
        ([1.0, 2.0], [4.0, 5.0], "give at least 3"),
    ],
)
def test_undefined_correlations_are_refused(distances, scores, message):
    with pytest.raises(InputError, match=message):
        agreement(np.array(distances)[:, None], np.array(scores))
    valid = np.arange(float(len(scores)))[:, None]
    for first, second in ((np.array(distances)[:, None], valid), (valid, np.array(distances)[:, None])):
        with pytest.raises(InputError, match=message):
            difference(first, second, np.array(scores))


@pytest.mark.parametrize("repetitions", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_intervals_over_samples_cover_the_true_correlation(repetitions):
    """The interval around the correlation of the means of four samples covers the correlation of the means of four new ones."""
    rng = np.random.default_rng(6)
    below = above = 0
    for _ in range(repetitions):
        scores = rng.normal(size=150)
        noisy = -scores[:, None] + rng.normal(size=(150, 4))
        result = agreement(noisy, scores)
        pearson = 1 / (1 + 1 / 4) ** 0.5  # of means of four, from their variances
        spearman = 6 / np.pi * np.arcsin(pearson / 2)
        below += spearman < result.ci95[0]
        above += spearman > result.ci95[1]
    assert below + above <= repetitions // 5
    assert abs(below - above) <= 6


def test_reliability_of_halves_with_negative_correlation():
    rank_reliability, ceiling = reliability(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]))
    assert (rank_reliability, ceiling) == (-1, 0)


def test_reliability_equals_that_of_the_simulation():
    """Truth with variance 1 and noise with variance 1 per sample: k samples have the reliability k / (k + 1)."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(3000, 1))
    for samples in (2, 3, 8):
        rank_reliability, ceiling = reliability(truth + rng.normal(size=(3000, samples)))
        assert rank_reliability == pytest.approx(samples / (samples + 1), abs=0.04)
        assert ceiling == pytest.approx(rank_reliability**0.5)
    assert np.isnan(reliability(truth)[0])


@pytest.mark.parametrize(("pairs", "samples"), [(60, 2), (60, 3), (12, 2)])
def test_p_of_several_samples_agrees_with_its_interval(pairs, samples):
    """Samples of different quality: the interval contains the error over samples, and so must the p-value."""
    decisions = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(pairs, 1))
        noise = rng.normal(size=(pairs, samples)) * np.linspace(0.3, 6, samples)
        result = agreement(truth + noise, -truth[:, 0])
        excludes = not result.ci95[0] <= 0 <= result.ci95[1]
        if not 0.04 < result.p < 0.06:  # the resolution of the resamples, and of the interval of few pairs
            assert (result.p < 0.05) == excludes, seed
            decisions.add(excludes)
    assert decisions == {True, False}


def test_paired_difference():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=400)
    good, bad = (-scores[:, None] + rng.normal(size=(400, 1)) * noise for noise in (0.5, 2.0))
    result = difference(good, bad, scores)
    assert 0 < result.ci95[0] < result.spearman < result.ci95[1]
    assert result.p < 0.01
    assert result.rank_correlation == pytest.approx(stats.spearmanr(good[:, 0], bad[:, 0]).statistic)
    equally_good = difference(good, -scores[:, None] + rng.normal(size=(400, 1)) * 0.5, scores)
    assert equally_good.ci95[0] < 0 < equally_good.ci95[1]
    assert equally_good.p > 0.05
    assert abs(equally_good.spearman) < 0.1


def null_runs(rng: np.random.Generator, samples: tuple[int, int], pairs: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances by two measures that agree equally well with scores, and the scores.

    The noise of a mean over samples has the same variance for both measures.
    """
    truth = rng.normal(size=pairs)
    first, second = (truth[:, None] + 0.6 * k**0.5 * rng.normal(size=(pairs, k)) for k in samples)
    return first, second, -truth + 0.7 * rng.normal(size=pairs)


def test_p_of_a_difference_agrees_with_its_interval():
    """Four samples against one with the same total noise: a bootstrap that is not centred blames the measure with four."""
    result = difference(*null_runs(np.random.default_rng(104), (4, 1)))
    assert result.ci95[0] < 0 < result.ci95[1]
    assert result.p > 0.2


@pytest.mark.parametrize("samples", [(1, 1), (4, 1), (3, 4)])
def test_p_is_below_5_percent_if_and_only_if_the_interval_excludes_0(samples):
    rng = np.random.default_rng(8)
    decisions = set()
    for shift in np.linspace(0, 0.6, 12):
        first, second, scores = null_runs(rng, samples, pairs=60)
        result = difference(first, second + shift * rng.normal(size=(60, 1)) * 2, scores)
        excludes = not result.ci95[0] <= 0 <= result.ci95[1]
        if not 0.045 < result.p < 0.055:  # the resolution of the resamples
            assert (result.p < 0.05) == excludes
            decisions.add(excludes)
    assert decisions == {True, False}


@pytest.mark.parametrize(
    ("first_samples", "second_samples", "repetitions"),
    [
        (4, 1, 30),
        (1, 4, 30),
        *(pytest.param(a, b, 300, marks=pytest.mark.slow) for a in (1, 3, 4) for b in (1, 3, 4)),
    ],
)
def test_level_of_the_difference(first_samples, second_samples, repetitions):
    """Without a difference, p is below 5% in at most about 5% of the cases, and neither measure is favoured."""
    rng = np.random.default_rng(9)
    pairs = 60 if repetitions < 100 else 200
    results = [difference(*null_runs(rng, (first_samples, second_samples), pairs)) for _ in range(repetitions)]
    rejected = [result.spearman for result in results if result.p < 0.05]
    assert len(rejected) <= stats.binom.ppf(0.999, repetitions, 0.05)
    favoured = sum(value > 0 for value in rejected)
    assert abs(2 * favoured - len(rejected)) <= max(4, 3.3 * len(rejected) ** 0.5)


def test_bootstrap_equals_plain_resampling():
    """Ranks are computed for all resamples at once: each correlation must be that of scipy for the pairs of the resample."""
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 9, 60).astype(float), rng.integers(0, 5, 60).astype(float)  # with many ties
    counts = _resample_counts(60, 250, rng)
    correlations = weighted_spearman(x, y, counts)
    for correlation, count in zip(correlations, counts, strict=True):
        indices = np.repeat(np.arange(60), count)
        assert correlation == pytest.approx(stats.spearmanr(x[indices], y[indices]).statistic, abs=1e-12)
    assert counts.sum(1).tolist() == [60] * 250


@pytest.mark.parametrize("k", [2, 3, 5])
def test_resampled_means_vary_as_much_as_means_of_new_samples(k):
    distances = np.random.default_rng(6).normal(size=(3, k))
    parts = [(len(indices), mean) for indices, (mean,), _ in iter_resamples([distances], 0)]
    numbers, means = (np.array(column) for column in zip(*parts, strict=True))
    variance = np.average((means - distances.mean(1)[None]) ** 2, axis=0, weights=numbers)
    assert variance == pytest.approx(distances.var(1, ddof=1) / k, rel=0.1)


def test_resamples_without_variation_have_correlation_0():
    assert weighted_spearman(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([[2, 0], [1, 1]])).tolist() == [0.0, 1.0]


def test_old_name_of_the_rank_correlation():
    rng = np.random.default_rng(7)
    result = difference(rng.normal(size=(20, 1)), rng.normal(size=(20, 1)), rng.normal(size=20))
    with pytest.warns(DeprecationWarning, match="Difference.ranks was renamed to Difference.rank_correlation"):
        assert result.ranks == result.rank_correlation

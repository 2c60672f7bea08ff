"""Intervals of distances: never negative, with the measured coverage; pooled errors equal those of the model they assume."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conjure.divergence.intervals import (
    MAX_PRIOR_DEGREES,
    MIN_POOLED_PAIRS,
    _inverse_trigamma,
    few_samples_note,
    nonnegative_ends,
    nonnegative_interval,
    pool_errors,
    t_interval,
)


def covered(values: np.ndarray, truth: float) -> float:
    """Return the share of the rows whose interval contains the true mean."""
    k = values.shape[1]
    low, high = nonnegative_ends(values.mean(1), values.std(1, ddof=1) / k**0.5, k - 1)
    assert (low >= 0).all()
    return float(np.mean((low <= truth) & (truth <= high)))


def test_interval_is_that_of_the_square_root():
    values = np.array([9.0, 11.0, 16.0])
    mean, error, (low, high) = nonnegative_interval(values)
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    assert (mean, error) == (12, pytest.approx(stats.sem(values)))
    assert low == pytest.approx((12**0.5 - half / (2 * 12**0.5)) ** 2)
    assert high == pytest.approx((12**0.5 + half / (2 * 12**0.5)) ** 2)
    assert high - low == pytest.approx(np.diff(t_interval(values)[2])[0])


def test_interval_of_two_different_samples_is_not_negative():
    low, high = nonnegative_interval(np.array([109.0, 136.0]))[2]
    assert t_interval(np.array([109.0, 136.0]))[2][0] < 0
    assert 0 <= low < 122.5 < high


def test_intervals_at_the_limits():
    assert nonnegative_interval(np.zeros(3)) == (0, 0, (0, 0))
    assert nonnegative_interval(np.full(3, 0.1))[2] == pytest.approx((0.1, 0.1))
    assert nonnegative_interval(np.array([0.0, 0.0, 5.0]))[2][0] == 0
    assert np.isnan(nonnegative_interval(np.array([3.0]))[2]).all()


@pytest.mark.parametrize("repetitions", [4000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("dimensions", "k", "coverage", "t_coverage"), [(2, 3, 0.915, 0.883), (2, 5, 0.908, 0.882), (1, 3, 0.87, 0.815)]
)
def test_coverage_of_skewed_samples(dimensions, k, coverage, t_coverage, repetitions):
    """The samples of Gaussians in one and two dimensions are chi-squared variables; the t interval misses more often."""
    values = np.random.default_rng(0).chisquare(dimensions, (repetitions, k))
    tolerance = 4 * (0.1 / repetitions) ** 0.5 + 0.004
    assert covered(values, dimensions) == pytest.approx(coverage, abs=tolerance)
    half = stats.t.ppf(0.975, k - 1) * stats.sem(values, 1)
    assert np.mean(abs(values.mean(1) - dimensions) <= half) == pytest.approx(t_coverage, abs=tolerance)


def test_inverse_trigamma():
    from scipy.special import polygamma

    for x in (1e-5, 0.1, 1.0, 7.5, 1e4):
        assert _inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-5)


def test_pooled_errors_recover_the_prior():
    """Variances are drawn from the model of the prior, with 4 degrees of freedom and the relative variance 0.01."""
    rng = np.random.default_rng(1)
    means, prior_degrees = rng.uniform(100, 900, 5000), 4
    deviations = means * np.sqrt(0.01 * prior_degrees / rng.chisquare(prior_degrees, len(means)))
    values = means[:, None] + deviations[:, None] * rng.normal(size=(len(means), 3))
    errors = pool_errors(values)
    assert errors.pooled_pairs == len(means)
    assert errors.degrees_of_freedom == pytest.approx(2 + prior_degrees, rel=0.2)
    true_errors = deviations / 3**0.5
    deviation_of = {name: np.log(getattr(errors, name) / true_errors).std() for name in ("stderr", "raw_stderr")}
    assert deviation_of["stderr"] < 0.75 * deviation_of["raw_stderr"]
    np.testing.assert_allclose(errors.raw_stderr, stats.sem(values, 1))


def test_equal_relative_variances_are_pooled_as_far_as_allowed():
    values = np.arange(1, 501)[:, None] * np.random.default_rng(2).gamma(50, 1, (500, 3))
    errors = pool_errors(values)
    assert errors.degrees_of_freedom == 2 + MAX_PRIOR_DEGREES
    pooled, raw = (np.log(stderr / values.mean(1)).std() for stderr in (errors.stderr, errors.raw_stderr))
    assert pooled < 0.35 * raw


@pytest.mark.parametrize("repetitions", [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_coverage_of_pooled_errors(k, repetitions):
    """The skewness and the spread of the samples are those of the default model, whose distances are close to gamma variables."""
    rng = np.random.default_rng(3)
    covered_pairs, widths = [], []
    for _ in range(repetitions):
        means = rng.uniform(100, 900, 28)
        values = rng.gamma(50, means[:, None] / 50, (28, k))
        errors = pool_errors(values)
        for stderr, degrees in ((errors.stderr, errors.degrees_of_freedom), (errors.raw_stderr, k - 1)):
            low, high = nonnegative_ends(values.mean(1), stderr, degrees)
            covered_pairs.append((low <= means) & (means <= high))
            widths.append(np.median((high - low) / means))
    coverage = np.mean(covered_pairs[::2])
    assert 0.93 < coverage < 0.97
    assert np.mean(widths[::2]) < np.mean(widths[1::2])


def test_errors_that_are_not_pooled():
    rng = np.random.default_rng(4)
    few = rng.gamma(50, 1, (MIN_POOLED_PAIRS - 1, 3))
    errors = pool_errors(few)
    assert (errors.pooled_pairs, errors.degrees_of_freedom) == (0, 2)
    np.testing.assert_array_equal(errors.stderr, errors.raw_stderr)
    one_sample = pool_errors(rng.gamma(50, 1, (30, 1)))
    assert np.isnan(one_sample.stderr).all()
    constant = pool_errors(np.ones((30, 3)))
    assert (constant.pooled_pairs, constant.stderr.max()) == (0, 0)


def test_pairs_with_distance_zero_have_no_error():
    values = np.vstack([np.zeros((2, 3)), np.random.default_rng(5).gamma(50, 1, (12, 3))])
    errors = pool_errors(values)
    assert errors.pooled_pairs == 12
    assert errors.stderr[:2].tolist() == [0, 0]
    assert (errors.stderr[2:] > 0).all()


def test_note_for_few_samples():
    assert few_samples_note(1) == "the error of a distance from 1 sample is unknown; use at least 3 samples"
    assert few_samples_note(2) == "an error from 2 samples is very uncertain; use at least 3 samples"
    assert few_samples_note(3) is None

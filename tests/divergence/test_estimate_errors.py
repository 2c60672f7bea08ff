"""Errors of an estimate: intervals of steps and of the asymmetry are those of their values per sample."""

from __future__ import annotations

import numpy as np
import pytest

from conjure.divergence.differences import PerStepDivergence
from conjure.divergence.estimates import Estimate
from conjure.divergence.intervals import nonnegative_interval, t_interval

FORWARD, BACKWARD = np.array([[1.0, 2], [2, 2], [4, 5]]), np.array([[1.0, 1], [1, 2], [2, 2]])


def estimate_of(forward: np.ndarray, backward: np.ndarray, total: np.ndarray, divergence: str = "jeffreys") -> Estimate:
    """Return an estimate of the values per sample and step."""
    return Estimate.from_per_step(
        PerStepDivergence(forward, backward, total), texts=("a", "b"), divergence=divergence, weighting="",
        unit="", antithetic=False, seed=0, timesteps=(1.0, 0.0), snr=(0.0, 1.0), process={}, fingerprint="", version="",
    )  # fmt: skip


def test_intervals_of_steps_and_of_the_asymmetry():
    estimate = estimate_of(FORWARD, BACKWARD, FORWARD + BACKWARD)
    assert estimate.ci95 == nonnegative_interval(np.array([5.0, 7, 13]))[2]
    assert estimate.per_step_ci95[1] == nonnegative_interval(np.array([3.0, 4, 7]))[2]
    assert estimate.asymmetry == pytest.approx(7 / 3)
    assert estimate.asymmetry_ci95 == t_interval(np.array([1.0, 1, 5]))[2]


def test_intervals_of_a_distance_are_never_negative():
    estimate = estimate_of(FORWARD[:2] * [[1], [3]], BACKWARD[:2], (FORWARD + BACKWARD)[:2] * [[1], [3]])
    assert estimate.asymmetry_ci95[0] < 0
    assert min(estimate.ci95[0], *(low for low, _ in estimate.per_step_ci95)) == 0
    assert "CI: -" not in str(estimate)


def test_equal_values_of_all_samples_can_be_drawn():
    """Rounding must not put the end of an interval on the wrong side of its mean."""
    for seed in range(10):
        values = np.repeat(np.random.default_rng(seed).random((1, 2)) * 50, 8, 0)
        assert len(estimate_of(values, values, values).plot().patches) == 2


def test_only_directions_that_count_are_printed():
    both = estimate_of(FORWARD, BACKWARD, FORWARD + BACKWARD)
    assert [text for _, text in both.directions] == ["a", "b"]
    kl = estimate_of(FORWARD, BACKWARD, FORWARD, "kl")
    assert kl.directions == ((kl.distance, "a"),)
    assert "along the trajectory of “b”" not in kl._repr_html_()
    direct = estimate_of(FORWARD, FORWARD, FORWARD, "direct")
    assert direct.directions == ()
    assert np.isnan([direct.forward, direct.backward, direct.asymmetry, *direct.asymmetry_ci95]).all()
    assert {direct.to_dict()[key] for key in ("forward", "backward", "asymmetry", "asymmetry_ci95")} == {None}
    assert None not in direct.to_dict()["ci95"]
    assert "trajectory" not in direct._repr_html_()

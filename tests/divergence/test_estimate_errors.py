"""Errors of an estimate: intervals of steps and of the asymmetry are those of their values per sample."""

from __future__ import annotations

import numpy as np
import pytest

from conjure.divergence.differences import PerStepDivergence
from conjure.divergence.estimates import Estimate, t_interval


def test_intervals_of_steps_and_of_the_asymmetry():
    forward, backward = np.array([[1.0, 2], [2, 2], [4, 5]]), np.array([[1.0, 1], [1, 2], [2, 2]])
    estimate = Estimate.from_per_step(
        PerStepDivergence(forward, backward, forward + backward), texts=("a", "b"), divergence="jeffreys", weighting="",
        unit="", antithetic=False, seed=0, timesteps=(1.0, 0.0), snr=(0.0, 1.0), process={}, fingerprint="", version="",
    )  # fmt: skip
    assert estimate.per_step_ci95[1] == t_interval(np.array([3.0, 4, 7]))[2]
    assert estimate.asymmetry == pytest.approx(7 / 3)
    assert estimate.asymmetry_ci95 == t_interval(np.array([1.0, 1, 5]))[2]

"""The noise levels at which two processes are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conjure.diffusion.noise_levels import NoiseLevel
from conjure.errors import InputError
from conjure.process_drift.grid import common_grid


def levels(*angles: float) -> list[NoiseLevel]:
    return [NoiseLevel(alpha=math.cos(angle), sigma=math.sin(angle)) for angle in angles]


def test_equal_levels_need_no_interpolation():
    grid = common_grid(levels(1.5, 1.0, 0.1), levels(1.5, 1.00005, 0.1))
    values = np.array([[1.0, 2.0, 3.0]])
    assert grid.is_same
    assert grid.kept == (0, 1, 2)
    assert grid.on_grid(values) is values


def test_values_are_interpolated_to_the_levels_that_b_covers():
    angles_a, angles_b = (1.5, 1.2, 0.7, 0.3, 0.01), (1.3, 0.8, 0.2)
    grid = common_grid(levels(*angles_a), levels(*angles_b))
    assert not grid.is_same
    assert grid.kept == (1, 2, 3)
    values = np.array([[5 + 2 * angle for angle in angles_b]])
    assert grid.on_grid(values)[0] == pytest.approx([5 + 2 * angle for angle in (1.2, 0.7, 0.3)])


def test_pure_noise_of_a_flow_has_a_level():
    assert common_grid([NoiseLevel(0.0, 1.0), NoiseLevel(0.5, 0.5)], [NoiseLevel(0.0, 1.0), NoiseLevel(0.1, 0.9)]).kept == (0,)


def test_processes_without_common_levels_are_refused():
    with pytest.raises(InputError, match="no common grid"):
        common_grid(levels(1.5), levels(0.5, 0.4))

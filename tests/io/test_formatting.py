"""Formatting of numbers."""

from __future__ import annotations

from conjure.io.formatting import format_timesteps


def test_timesteps_have_as_few_decimals_as_keep_them_apart():
    assert format_timesteps([999.0, 951.4, 10.2, 10.2]) == ["999", "951", "10", "10"]  # a repeated timestep of Heun
    assert format_timesteps([0.999, 0.997, 0.382, 0.186]) == ["0.999", "0.997", "0.382", "0.186"]
    assert format_timesteps([1.0, 0.5]) == ["1.00", "0.50"]
    assert format_timesteps([1.0, 1 - 1e-12]) == ["1", "1"]

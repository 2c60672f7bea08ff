"""Weights of the steps: the uniform weighting in every unit, and nats, which do not depend on the parametrisation."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from conjure import InputError
from conjure.diffusion.noise_levels import NoiseLevel, noise_level, unit_scale
from conjure.divergence.weightings import step_weights

PURE_NOISE, NO_NOISE = NoiseLevel(0.0, 1.0), NoiseLevel(1.0, 0.0)


def test_weights_are_those_of_the_definitions():
    levels = [NoiseLevel(0.6, 0.8), NoiseLevel(0.8, 0.6), NoiseLevel(0.98, 0.199)]
    assert step_weights(levels, "sample", "uniform") == pytest.approx([1 / 3] * 3)
    k = [level.noise_to_signal for level in levels]
    trapezoid_rule = [np.log(k[0] / k[1]) / 2, np.log(k[0] / k[2]) / 2, np.log(k[1] / k[2]) / 2]
    assert step_weights(levels, "epsilon", "girsanov") == pytest.approx(trapezoid_rule)
    in_x0 = [level.noise_to_signal**2 / 3 for level in levels]
    assert step_weights(levels, "epsilon", "uniform", "x0") == pytest.approx(in_x0)


@pytest.mark.parametrize(
    ("prediction", "unit", "level"), [("epsilon", "x0", PURE_NOISE), ("sample", "epsilon", NO_NOISE), ("flow", "score", NO_NOISE)]
)
def test_undefined_units_are_refused(prediction, unit, level):
    with pytest.raises(InputError, match=f"the unit '{unit}' is undefined where the process visits"):
        step_weights([NoiseLevel(0.6, 0.8), level], prediction, "uniform", unit)


@given(seed=st.integers(0, 1000))
def test_nats_do_not_depend_on_the_parametrisation(seed):
    """The same differences of denoised latents, expressed as each type of prediction, give the same nats."""
    rng = np.random.default_rng(seed)
    sigmas = np.sort(rng.uniform(0.05, 0.999, 6))[::-1]
    levels = [NoiseLevel(float(np.sqrt(1 - sigma**2)), float(sigma)) for sigma in sigmas]
    squared_x0_differences = rng.exponential(size=6)
    nats = []
    for prediction in ("epsilon", "v_prediction", "sample"):
        squared = squared_x0_differences / np.array([unit_scale(prediction, "x0", level) for level in levels]) ** 2
        nats.append(float(step_weights(levels, prediction, "girsanov") @ squared))
    assert nats == pytest.approx([nats[0]] * 3)
    assert nats[0] > 0


def test_weights_of_a_flow_that_starts_at_pure_noise():
    weights = step_weights([PURE_NOISE, NoiseLevel(0.1, 0.9), NoiseLevel(0.5, 0.5)], "flow", "girsanov")
    assert np.isfinite(weights).all()
    assert (weights > 0).all()


def test_weights_of_zero_terminal_snr():
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing",
        prediction_type="v_prediction", rescale_betas_zero_snr=True,
    )  # fmt: skip
    scheduler.set_timesteps(10)
    levels = [noise_level(scheduler, t) for t in scheduler.timesteps]
    assert levels[0] == PURE_NOISE
    assert np.isfinite(step_weights(levels, "v_prediction", "girsanov")).all()


def test_the_step_to_zero_noise_has_no_weight():
    weights = step_weights([NoiseLevel(0.6, 0.8), NoiseLevel(0.8, 0.6), NO_NOISE], "epsilon", "girsanov")
    assert np.isfinite(weights).all()
    assert weights[2] == 0

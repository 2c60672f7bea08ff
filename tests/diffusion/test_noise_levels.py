"""Levels and units against the conversions table and against the schedulers' own denoised pictures."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, LMSDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from conjure import InputError
from conjure.lockstep import stands_at_a_state
from conjure.units import UNITS, Level, gain, level_of, output_of, step_weights, x0_of

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "linspace"}


OWN_X0 = [
    "DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
    "SASolverScheduler",
]  # fmt: skip
NO_SAMPLE = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "EulerAncestralDiscreteScheduler")


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", OWN_X0)
def test_x0_is_the_scheduler_s_own(name, output):
    """At every state, for every scheduler that tells what it takes for the denoised picture, Karras spacing included."""
    cls = getattr(diffusers, name)
    parameters = inspect.signature(cls).parameters
    if output == "sample" and name in NO_SAMPLE:
        pytest.skip("not implemented by this scheduler")
    solver = {"DEISMultistepScheduler": "deis", "SASolverScheduler": "data_prediction"}.get(name, "dpmsolver++")
    options = SD | {"clip_sample": False, "use_karras_sigmas": True, "algorithm_type": solver}
    settings = {key: value for key, value in options.items() if key in parameters}
    scheduler = cls(prediction_type=output, **settings)
    scheduler.set_timesteps(10)
    assert output_of(scheduler) == output
    told: list[torch.Tensor] = []
    if hasattr(scheduler, "convert_model_output"):
        convert = scheduler.convert_model_output

        def telling(*args: Any, **kwargs: Any) -> torch.Tensor:
            told.append(convert(*args, **kwargs))
            return told[-1]

        scheduler.convert_model_output = telling
    x = torch.randn(2, 4, 8, 8) * scheduler.init_noise_sigma
    compared = 0
    for t in scheduler.timesteps:
        m, at_state = torch.randn(2, 4, 8, 8), stands_at_a_state(scheduler)
        level = level_of(scheduler, t)
        ours = x0_of(output, scheduler.scale_model_input(x, t), m, level)
        step = scheduler.step(m, t, x)
        theirs = getattr(step, "pred_original_sample", None) if not told else told[-1]
        if at_state and theirs is not None:
            if name == "DEISMultistepScheduler":  # which works with noise
                k = level.sigma / level.alpha
                theirs = (x - level.sigma * theirs) / level.alpha if k else theirs
            torch.testing.assert_close(ours, theirs, rtol=5e-3, atol=5e-3)
            compared += 1
        x = step.prev_sample
    assert compared in (0, 10)
    assert compared or name in ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")


def test_flow_levels():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    assert output_of(scheduler) == "flow"
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        level = level_of(scheduler, t)
        assert (level.alpha, level.sigma) == pytest.approx((1 - float(sigma), float(sigma)))


def test_sigmas_of_stable_diffusion():
    """The ten levels of LMS, as k-diffusion lists them."""
    scheduler = LMSDiscreteScheduler(**SD)
    scheduler.set_timesteps(10)
    expected = [14.61, 7.84, 4.61, 2.92, 1.95, 1.34, 0.93, 0.625, 0.369, 0.029]
    assert [level_of(scheduler, t).k for t in scheduler.timesteps] == pytest.approx(expected, rel=5e-3, abs=5e-4)


@given(
    output=st.sampled_from(["epsilon", "v_prediction", "sample", "flow"]),
    sigma=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_gains_are_how_far_two_answers_lie_apart(output, sigma, seed):
    """Against the definitions: two predictions at one x_t, each turned into x0, noise, score and velocity."""
    level = Level(1 - sigma, sigma) if output == "flow" else Level(float(np.sqrt(1 - sigma**2)), sigma)
    x, one, other = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def in_units(m: torch.Tensor) -> dict[str, torch.Tensor]:
        x0 = x0_of(output, x, m, level)
        eps = (x - level.alpha * x0) / level.sigma
        velocity = eps - x0 if output == "flow" else level.alpha * eps - level.sigma * x0
        return {"output": m, "x0": x0, "epsilon": eps, "score": -eps / level.sigma, "velocity": velocity}

    ours, theirs = in_units(one), in_units(other)
    for unit in UNITS:
        apart = float((ours[unit] - theirs[unit]).norm())
        assert apart == pytest.approx(gain(output, unit, level) * float((one - other).norm()), rel=1e-6)
    own = {"epsilon": "epsilon", "v_prediction": "velocity", "sample": "x0", "flow": "velocity"}[output]
    torch.testing.assert_close(ours[own], one)


def test_units_that_do_not_exist_are_refused():
    noise, clean = Level(0.0, 1.0), Level(1.0, 0.0)
    assert gain("flow", "epsilon", noise) == 0
    assert gain("flow", "x0", noise) == 1
    for output, unit, level in (("epsilon", "x0", noise), ("sample", "epsilon", clean), ("flow", "score", clean)):
        with pytest.raises(InputError, match=f"unit '{unit}' does not exist where the process visits"):
            step_weights([Level(0.6, 0.8), level], output, "uniform", unit)


@given(seed=st.integers(0, 1000))
def test_nats_do_not_depend_on_the_parametrisation(seed):
    """One pair of denoised pictures a level, expressed as each kind of output: the same nats."""
    rng = np.random.default_rng(seed)
    sigmas = np.sort(rng.uniform(0.05, 0.999, 6))[::-1]
    levels = [Level(float(np.sqrt(1 - s**2)), float(s)) for s in sigmas]
    apart = rng.exponential(size=6)  # |d_x0|^2
    nats = []
    for output in ("epsilon", "v_prediction", "sample"):
        squared = apart / np.array([gain(output, "x0", level) for level in levels]) ** 2
        nats.append(float(step_weights(levels, output, "girsanov") @ squared))
    assert nats == pytest.approx([nats[0]] * 3)
    assert nats[0] > 0


def test_weights():
    levels = [Level(0.6, 0.8), Level(0.8, 0.6), Level(0.98, 0.199)]
    assert step_weights(levels, "sample", "uniform") == pytest.approx([1 / 3] * 3)
    k = [level.k for level in levels]
    expected = [np.log(k[0] / k[1]) / 2, np.log(k[0] / k[2]) / 2, np.log(k[1] / k[2]) / 2]
    assert step_weights(levels, "epsilon", "girsanov") == pytest.approx(expected)
    in_x0 = [level.k**2 / 3 for level in levels]
    assert step_weights(levels, "epsilon", "uniform", "x0") == pytest.approx(in_x0)


def test_a_flow_starts_at_pure_noise():
    weights = step_weights([Level(0.0, 1.0), Level(0.1, 0.9), Level(0.5, 0.5)], "flow", "girsanov")
    assert np.isfinite(weights).all()
    assert (weights > 0).all()


def test_unknown_output():
    scheduler = DDPMScheduler()
    scheduler.register_to_config(prediction_type="dreams")
    with pytest.raises(InputError, match="'dreams'.*allowed are epsilon"):
        output_of(scheduler)


def test_zero_terminal_snr_starts_at_pure_noise():
    settings = SD | {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    scheduler = DDIMScheduler(**settings, rescale_betas_zero_snr=True)
    scheduler.set_timesteps(10)
    levels = [level_of(scheduler, t) for t in scheduler.timesteps]
    assert (levels[0].alpha, levels[0].sigma) == (0, 1)
    assert np.isfinite(step_weights(levels, "v_prediction", "girsanov")).all()

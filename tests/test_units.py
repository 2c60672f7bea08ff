"""Levels and units against the conversions table and against the schedulers' own denoised pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LMSDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from conjure import InputError
from conjure.units import Level, level_of, output_of, step_weights, x0_gain, x0_of

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "linspace"}


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("cls", [LMSDiscreteScheduler, EulerDiscreteScheduler, DDIMScheduler])
def test_x0_is_the_scheduler_s_own(cls, output):
    kwargs = {"clip_sample": False} if cls is DDIMScheduler else {}
    scheduler = cls(prediction_type=output, **SD, **kwargs)
    scheduler.set_timesteps(10)
    assert output_of(scheduler) == output
    x = torch.randn(2, 4, 8, 8) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        m = torch.randn(2, 4, 8, 8)
        level = level_of(scheduler, t)
        ours = x0_of(output, scheduler.scale_model_input(x, t), m, level)
        step = scheduler.step(m, t, x)
        torch.testing.assert_close(ours, step.pred_original_sample, rtol=2e-3, atol=2e-3)
        x = step.prev_sample


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
def test_gain_is_how_far_denoised_pictures_lie_apart(output, sigma, seed):
    level = Level(1 - sigma, sigma) if output == "flow" else Level(float(np.sqrt(1 - sigma**2)), sigma)
    x, one, other = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    apart = (x0_of(output, x, one, level) - x0_of(output, x, other, level)).norm()
    assert float(apart) == pytest.approx(x0_gain(output, level) * float((one - other).norm()), rel=1e-6)


@given(seed=st.integers(0, 1000))
def test_nats_do_not_depend_on_the_parametrisation(seed):
    """One pair of denoised pictures a level, expressed as each kind of output: the same nats."""
    rng = np.random.default_rng(seed)
    sigmas = np.sort(rng.uniform(0.05, 0.999, 6))[::-1]
    levels = [Level(float(np.sqrt(1 - s**2)), float(s)) for s in sigmas]
    apart = rng.exponential(size=6)  # |d_x0|^2
    nats = []
    for output in ("epsilon", "v_prediction", "sample"):
        squared = apart / np.array([x0_gain(output, level) for level in levels]) ** 2
        nats.append(float(step_weights(levels, output, "girsanov") @ squared))
    assert nats == pytest.approx([nats[0]] * 3)
    assert nats[0] > 0


def test_weights():
    levels = [Level(0.6, 0.8), Level(0.8, 0.6), Level(0.98, 0.199)]
    assert step_weights(levels, "sample", "uniform") == pytest.approx([1 / 3] * 3)
    k = [level.k for level in levels]
    expected = [np.log(k[0] / k[1]) / 2, np.log(k[0] / k[2]) / 2, np.log(k[1] / k[2]) / 2]
    assert step_weights(levels, "epsilon", "girsanov") == pytest.approx(expected)
    with pytest.raises(InputError, match="allowed are uniform, girsanov"):
        step_weights(levels, "sample", "nats")


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

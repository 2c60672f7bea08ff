"""Noise levels, units and denoised latents, compared with their definitions and with the schedulers of diffusers."""

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
from conjure.diffusion.noise_levels import UNITS, NoiseLevel, noise_level, prediction_type, unit_scale
from conjure.diffusion.predictions import predict_x0, squared_differences
from conjure.diffusion.shared_trajectory import is_trajectory_state

STABLE_DIFFUSION = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "linspace",
}  # fmt: skip

SCHEDULERS = [
    "DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
    "SASolverScheduler",
]  # fmt: skip
WITHOUT_SAMPLE_PREDICTION = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "EulerAncestralDiscreteScheduler")
WITHOUT_X0 = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # numpy 2 with tensors, inside diffusers
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_x0_equals_the_x0_of_the_scheduler(name, prediction):
    """At every state, with Karras spacing where the scheduler has it, for all schedulers that expose their denoised latent."""
    cls = getattr(diffusers, name)
    parameters = inspect.signature(cls).parameters
    if prediction == "sample" and name in WITHOUT_SAMPLE_PREDICTION:
        pytest.skip("not implemented by this scheduler")
    algorithm = {"DEISMultistepScheduler": "deis", "SASolverScheduler": "data_prediction"}.get(name, "dpmsolver++")
    options = STABLE_DIFFUSION | {"clip_sample": False, "use_karras_sigmas": True, "algorithm_type": algorithm}
    scheduler = cls(prediction_type=prediction, **{key: value for key, value in options.items() if key in parameters})
    scheduler.set_timesteps(10)
    assert prediction_type(scheduler) == prediction
    converted: list[torch.Tensor] = []
    if hasattr(scheduler, "convert_model_output"):
        convert = scheduler.convert_model_output

        def convert_and_record(*args: Any, **kwargs: Any) -> torch.Tensor:
            converted.append(convert(*args, **kwargs))
            return converted[-1]

        scheduler.convert_model_output = convert_and_record
    x_t = torch.randn(2, 4, 8, 8) * scheduler.init_noise_sigma
    num_compared = 0
    for t in scheduler.timesteps:
        output, is_state = torch.randn(2, 4, 8, 8), is_trajectory_state(scheduler)
        level = noise_level(scheduler, t)
        x0 = predict_x0(prediction, scheduler.scale_model_input(x_t, t), output, level)
        step = scheduler.step(output, t, x_t)
        expected = converted[-1] if converted else getattr(step, "pred_original_sample", None)
        if is_state and expected is not None:
            if name == "DEISMultistepScheduler" and level.noise_to_signal:  # it converts predictions to noise
                expected = (x_t - level.sigma * expected) / level.alpha
            torch.testing.assert_close(x0, expected, rtol=5e-3, atol=5e-3)
            num_compared += 1
        x_t = step.prev_sample
    assert num_compared in (0, 10)
    assert num_compared or name in WITHOUT_X0


def test_squared_differences_are_those_of_the_definition():
    predictions = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    squared = squared_differences(predictions, [0, 0, 0, 3, 3])
    expected = [((predictions[row] - predictions[source]) ** 2).sum().item() for row, source in enumerate((0, 0, 0, 3, 3))]
    assert squared.tolist() == pytest.approx(expected, rel=1e-5)
    assert squared[0] == squared[3] == 0
    assert squared_differences(predictions.bfloat16(), [0] * 5).dtype == torch.float32


def test_levels_of_a_flow():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    assert prediction_type(scheduler) == "flow"
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        level = noise_level(scheduler, t)
        assert (level.alpha, level.sigma) == pytest.approx((1 - float(sigma), float(sigma)))


def test_levels_of_stable_diffusion():
    """The ten levels of LMS have the values that k-diffusion lists."""
    scheduler = LMSDiscreteScheduler(**STABLE_DIFFUSION)
    scheduler.set_timesteps(10)
    expected = [14.61, 7.84, 4.61, 2.92, 1.95, 1.34, 0.93, 0.625, 0.369, 0.029]
    ratios = [noise_level(scheduler, t).noise_to_signal for t in scheduler.timesteps]
    assert ratios == pytest.approx(expected, rel=5e-3, abs=5e-4)


def test_zero_terminal_snr_starts_at_pure_noise():
    settings = STABLE_DIFFUSION | {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    scheduler = DDIMScheduler(**settings, rescale_betas_zero_snr=True)
    scheduler.set_timesteps(10)
    level = noise_level(scheduler, scheduler.timesteps[0])
    assert (level.alpha, level.sigma) == (0, 1)


def test_snr_is_the_inverse_square_of_the_noise_to_signal_ratio():
    assert NoiseLevel(0.6, 0.8).noise_to_signal == pytest.approx(4 / 3)
    assert NoiseLevel(0.6, 0.8).snr == pytest.approx(9 / 16)
    assert (NoiseLevel(0.0, 1.0).noise_to_signal, NoiseLevel(0.0, 1.0).snr) == (np.inf, 0)
    assert (NoiseLevel(1.0, 0.0).noise_to_signal, NoiseLevel(1.0, 0.0).snr) == (0, np.inf)


@given(
    prediction=st.sampled_from(["epsilon", "v_prediction", "sample", "flow"]),
    sigma=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_unit_scales_convert_the_norm_of_a_difference(prediction, sigma, seed):
    """Two predictions at one x_t are converted to x0, noise, score and velocity, and the norms of the differences compared."""
    level = NoiseLevel(1 - sigma, sigma) if prediction == "flow" else NoiseLevel(float(np.sqrt(1 - sigma**2)), sigma)
    x_t, first, second = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def in_all_units(output: torch.Tensor) -> dict[str, torch.Tensor]:
        x0 = predict_x0(prediction, x_t, output, level)
        eps = (x_t - level.alpha * x0) / level.sigma
        velocity = eps - x0 if prediction == "flow" else level.alpha * eps - level.sigma * x0
        return {"output": output, "x0": x0, "epsilon": eps, "score": -eps / level.sigma, "velocity": velocity}

    first_in, second_in = in_all_units(first), in_all_units(second)
    for unit in UNITS:
        difference = float((first_in[unit] - second_in[unit]).norm())
        assert difference == pytest.approx(unit_scale(prediction, unit, level) * float((first - second).norm()), rel=1e-6)
    predicted = {"epsilon": "epsilon", "v_prediction": "velocity", "sample": "x0", "flow": "velocity"}[prediction]
    torch.testing.assert_close(first_in[predicted], first)


def test_unit_scales_at_pure_noise():
    pure_noise = NoiseLevel(0.0, 1.0)
    assert unit_scale("flow", "epsilon", pure_noise) == 0
    assert unit_scale("flow", "x0", pure_noise) == 1
    assert unit_scale("epsilon", "x0", pure_noise) == np.inf


def test_unknown_prediction_type_is_refused():
    scheduler = DDPMScheduler()
    scheduler.register_to_config(prediction_type="dreams")
    with pytest.raises(InputError, match="'dreams'.*must be epsilon"):
        prediction_type(scheduler)

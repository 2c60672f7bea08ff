r"""Noise levels, and one difference of predictions in several units.

A diffusion process visits noisy latents $x_t = \alpha x_0 + \sigma \epsilon$. A model predicts $\epsilon$, $x_0$,
$v = \alpha \epsilon - \sigma x_0$ (variance preserving, $\alpha^2 + \sigma^2 = 1$) or the flow $v = \epsilon - x_0$
($\alpha + \sigma = 1$). At a given $x_t$ each of these determines the others linearly. The difference of two predictions
therefore changes its unit by a factor that depends on the noise level only. With the noise-to-signal ratio $k = \sigma / \alpha$
and the difference $dm$ of two predictions $m$:

| prediction | $dx_0$ | $d\epsilon$ | $ds$ (score) | $dv$ (velocity) |
|---|---|---|---|---|
| epsilon | $-k\,dm$ | $dm$ | $-dm / \sigma$ | $dm / \alpha$ |
| v | $-\sigma\,dm$ | $\alpha\,dm$ | $-\alpha\,dm / \sigma$ | $dm$ |
| sample | $dm$ | $-dm / k$ | $dm / (k \sigma)$ | $-dm / \sigma$ |
| flow | $-\sigma\,dm$ | $\alpha\,dm$ | $-\alpha\,dm / \sigma$ | $dm$ |

The score of the noisy $x_t$ is $-\epsilon / \sigma$. The velocity is $v$ for a variance-preserving process and the flow for flow
matching. The engine stores only squared norms of prediction differences, since every unit and weighting follows from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from conjure.errors import InputError

Unit = Literal["output", "epsilon", "x0", "score", "velocity"]
UNITS: tuple[Unit, ...] = get_args(Unit)
PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class NoiseLevel:
    r"""A noise level, $x_t = \alpha x_0 + \sigma \epsilon$, after the scheduler's `scale_model_input`.

    Attributes:
        alpha: The scale of the signal.
        sigma: The standard deviation of the noise.
    """

    alpha: float
    sigma: float

    @property
    def noise_to_signal(self) -> float:
        r"""The ratio $k = \sigma / \alpha$."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def snr(self) -> float:
        r"""The signal-to-noise ratio $\alpha^2 / \sigma^2$, the time variable of the Girsanov integral."""
        return (self.alpha / self.sigma) ** 2 if self.sigma else math.inf


def prediction_type(scheduler: Any) -> PredictionType:
    """Return what the denoiser of a pipeline with this scheduler predicts.

    Args:
        scheduler: A scheduler of diffusers.

    Raises:
        InputError: If the configuration of the scheduler has no prediction type, or one without known units.
    """
    configured = scheduler.config.get("prediction_type")
    if "sigma_data" in scheduler.config:
        # With a data variance of 1, the scaling of EDM is that of v: x0 = alpha x_t - sigma v for the scaled x_t
        if configured == "v_prediction" and scheduler.config["sigma_data"] == 1:
            return "v_prediction"
        raise InputError(
            f"the scheduler {type(scheduler).__name__} scales the model output before it uses it as {configured} (EDM), which "
            "Conjure has no units for; choose another scheduler"
        )
    if configured in ("epsilon", "v_prediction", "sample"):
        return configured
    if configured == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch"):
        return "flow"
    raise InputError(
        f"the scheduler {type(scheduler).__name__} does not say what its model predicts (prediction_type is {configured!r}); "
        "must be epsilon, v_prediction, sample or flow matching"
    )


def noise_level(scheduler: Any, timestep: Any) -> NoiseLevel:
    """Return the noise level of the scheduler's state at `timestep`.

    Schedulers with `sigmas` define the level directly, since the levels of Karras and other spacings have no exact timestep.
    `sigmas` holds the noise-to-signal ratio k of a variance-preserving process, or the sigma of a flow. For other schedulers the
    level follows from `alphas_cumprod`.

    Args:
        scheduler: A scheduler of diffusers whose timesteps are set.
        timestep: A number, or a tensor with one element.

    Returns:
        The noise level of the latents after the scheduler's `scale_model_input`.
    """
    t = float(timestep)
    if hasattr(scheduler, "sigmas"):
        # Use the scheduler's step counter if it has one, since rounded timesteps may occur twice
        index = getattr(scheduler, "step_index", None)
        sigma = float(scheduler.sigmas[int((scheduler.timesteps.cpu().double() - t).abs().argmin()) if index is None else index])
        if prediction_type(scheduler) == "flow":
            sigma = 1 - sigma if is_inverted(scheduler) else sigma
            return NoiseLevel(alpha=1 - sigma, sigma=sigma)
        return NoiseLevel(alpha=1 / math.hypot(1, sigma), sigma=sigma / math.hypot(1, sigma))
    signal = float(scheduler.alphas_cumprod[int(t)])
    return NoiseLevel(alpha=math.sqrt(signal), sigma=math.sqrt(1 - signal))


def is_inverted(scheduler: Any) -> bool:
    """Return whether a scheduler of a flow counts from noise to data: its `sigmas` rise, and the model predicts x0 - eps."""
    return bool(scheduler.config.get("invert_sigmas", False))


def unit_scale(prediction: PredictionType, unit: Unit, level: NoiseLevel) -> float:
    """Return the factor that converts the norm of a prediction difference to `unit`.

    Args:
        prediction: What the model predicts.
        unit: The requested unit. `output` is the unit of the prediction, with factor 1.
        level: The noise level.

    Returns:
        The factor. It is infinite if the unit is undefined: x0 and velocity at pure noise if the model predicts epsilon, and the
        score without noise.
    """
    k = level.noise_to_signal
    x0 = {"epsilon": k, "v_prediction": level.sigma, "flow": level.sigma, "sample": 1.0}[prediction]
    eps = {"epsilon": 1.0, "v_prediction": level.alpha, "flow": level.alpha, "sample": _ratio(1.0, k)}[prediction]
    scales = {"output": 1.0, "x0": x0, "epsilon": eps, "score": _ratio(eps, level.sigma), "velocity": _ratio(x0, level.sigma)}
    return scales[unit]


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.inf

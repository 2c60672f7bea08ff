r"""Levels of noise, and one difference in several units.

A diffusion process visits noisy pictures `x_t = alpha x0 + sigma eps`. A model may answer with `eps`, with `x0`, with
`v = alpha eps - sigma x0` (variance preserving, `alpha^2 + sigma^2 = 1`) or with the flow `v = eps - x0` (`alpha + sigma = 1`).
At one and the same `x_t` these answers determine each other linearly, so a *difference* of two answers changes its unit by a
factor that depends on the level alone; with `k = sigma / alpha`

    output m    d_x0        d_eps            d_score             d_velocity
    epsilon     -k dm       dm               -dm / sigma         dm / alpha
    v           -sigma dm   alpha dm         -alpha dm / sigma   dm
    sample      dm          -dm / k          dm / (k sigma)      -dm / sigma
    flow        -sigma dm   alpha dm         -alpha dm / sigma   dm

where the score is that of the noisy `x_t`, `-eps / sigma`, and the velocity that of the process' own path (v of a variance
preserving one, the flow of a flow). That is why the engine keeps squared norms of output differences only: every unit and
weighting follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from conjure.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTINGS = ("uniform", "girsanov")
UNITS = ("output", "epsilon", "x0", "score", "velocity")


@dataclass(frozen=True)
class Level:
    """A level of noise, `x = alpha x0 + sigma eps`, in the coordinates that the network sees."""

    alpha: float
    sigma: float

    @property
    def k(self) -> float:
        """Noise-to-signal ratio `sigma / alpha`."""
        return self.sigma / self.alpha if self.alpha else math.inf

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio `alpha^2 / sigma^2`, the clock of the Girsanov integral."""
        return (self.alpha / self.sigma) ** 2 if self.sigma else math.inf


def output_of(scheduler: Any) -> str:
    """What the network of a pipeline with this scheduler predicts: `epsilon`, `v_prediction`, `sample` or `flow`.

    Errors: `InputError` for a scheduler that says nothing about it.
    """
    kind = scheduler.config.get("prediction_type")
    if "sigma_data" in scheduler.config:
        raise InputError(
            f"the scheduler {type(scheduler).__name__} scales what the model says before it takes it for {kind} (EDM), which "
            "Conjure has no units for yet; choose another scheduler"
        )
    if kind in ("epsilon", "v_prediction", "sample"):
        return kind
    if kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch"):
        return "flow"
    raise InputError(
        f"the scheduler {type(scheduler).__name__} does not tell what its model predicts (prediction_type is {kind!r}); "
        "allowed are epsilon, v_prediction, sample and flow matching"
    )


def level_of(scheduler: Any, timestep: float | Tensor) -> Level:
    """The level of noise at which `scheduler` stands when it is asked to step from `timestep`.

    Schedulers that keep `sigmas` tell the level themselves: `k` of a variance-preserving process (Karras and other spacings
    have no exact timestep), sigma of a flow. Others have it in `alphas_cumprod`.
    """
    t = float(timestep)
    if hasattr(scheduler, "sigmas"):
        # its own count of steps, once there is one, since rounded timesteps may stand there twice
        index = getattr(scheduler, "step_index", None)
        sigma = float(scheduler.sigmas[int((scheduler.timesteps.cpu().double() - t).abs().argmin()) if index is None else index])
        if output_of(scheduler) == "flow":
            return Level(alpha=1 - sigma, sigma=sigma)
        return Level(alpha=1 / math.hypot(1, sigma), sigma=sigma / math.hypot(1, sigma))
    signal = float(scheduler.alphas_cumprod[int(t)])
    return Level(alpha=math.sqrt(signal), sigma=math.sqrt(1 - signal))


def x0_of(output: str, x: Tensor, m: Tensor, level: Level) -> Tensor:
    """The denoised picture that prediction `m` at noisy `x` stands for; all of shape (rows, ...), in network coordinates."""
    match output:
        case "epsilon":
            return (x - level.sigma * m) / level.alpha
        case "v_prediction":
            return level.alpha * x - level.sigma * m
        case "sample":
            return m
        case "flow":
            return x - level.sigma * m
    raise AssertionError(output)


def gain(output: str, unit: str, level: Level) -> float:
    """`|d| / |dm|` for the difference `d` of two outputs `m` of kind `output`, measured in `unit` (`output` is m itself).

    Infinite where the unit does not exist: x0 and velocity of a noise model at pure noise, the score at no noise.
    """
    x0 = {"epsilon": level.k, "v_prediction": level.sigma, "flow": level.sigma, "sample": 1.0}[output]
    eps = {"epsilon": 1.0, "v_prediction": level.alpha, "flow": level.alpha, "sample": _ratio(1.0, level.k)}[output]
    units = {"output": 1.0, "x0": x0, "epsilon": eps, "score": _ratio(eps, level.sigma), "velocity": _ratio(x0, level.sigma)}
    return units[unit]


def _ratio(over: float, under: float) -> float:
    return over / under if under else math.inf


def step_weights(levels: Sequence[Level], output: str, weighting: str, unit: str = "output") -> np.ndarray:
    r"""Weights `w` of shape (T,), so that `sum_t w_t |dm_t|^2` is the directed divergence.

    `uniform`: the mean over steps of `|d|^2` in `unit`; with the output of a noise model that is g = 1, as in Algorithm 1 of Liu
    and Soatto (2026).

    `girsanov`: nats, whatever the `unit`. With the reverse process' own g the path divergence is `KL = int |d_eps|^2 d ln k`,
    for every parametrisation; here by the trapezoid rule over the visited levels, so it is the divergence between the first
    and the last of them. The same integral as `1/2 int |d_x0|^2 dSNR`, summed as the KL of T ancestral steps, comes out over
    100 times too large at T = 10, since SNR grows by orders of magnitude in a step. The step to no noise at all is infinite,
    and left out.

    Errors: `InputError` where the unit does not exist at a visited level.
    """
    if weighting == "uniform":
        gains = np.array([gain(output, unit, level) for level in levels])
        if not np.isfinite(gains).all():
            at = levels[int(np.isfinite(gains).argmin())]
            raise InputError(
                f"the unit {unit!r} does not exist where the process visits signal {at.alpha:g} and noise {at.sigma:g}; "
                "choose another unit, or another scheduler"
            )
        return gains**2 / len(levels)
    weights = np.zeros(len(levels))
    for i, (now, following) in enumerate(pairwise(levels)):
        if not following.k:
            continue
        if math.isinf(now.k):  # a flow's pure noise, where d_x0 is what stays finite
            half, unit = following.snr / 4, "x0"
        else:
            half, unit = math.log(now.k / following.k) / 2, "epsilon"
        weights[i : i + 2] += half * gain(output, unit, now) ** 2, half * gain(output, unit, following) ** 2
    return weights

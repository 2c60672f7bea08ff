r"""Levels of noise, and one difference in several units.

A diffusion process visits noisy pictures `x_t = alpha x0 + sigma eps`. A model may answer with `eps`, with `x0`, with
`v = alpha eps - sigma x0` (variance preserving, `alpha^2 + sigma^2 = 1`) or with the flow `v = eps - x0` (`alpha + sigma = 1`).
At one and the same `x_t` these answers determine each other linearly, so a *difference* of two answers changes its unit by a
factor that depends on the level alone; with `k = sigma / alpha`

    output m    d_x0                   d_eps
    epsilon     -k dm                  dm
    v           -k / sqrt(1 + k^2) dm  dm / sqrt(1 + k^2)
    sample      dm                     -dm / k
    flow        -k / (1 + k) dm        dm / (1 + k)

That is why the engine keeps squared norms of output differences only: every unit and weighting follows from them.
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
UNITS = ("output", "epsilon", "x0")


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

    Variance-preserving levels come from `alphas_cumprod`, linear in `k` between two training timesteps as diffusers' own
    sigma schedulers interpolate; flow levels from the `sigmas` that the scheduler visits.
    """
    t = float(timestep)
    if output_of(scheduler) == "flow":
        visited = scheduler.timesteps.double()
        index = int((visited - t).abs().argmin())
        sigma = float(scheduler.sigmas[index])
        return Level(alpha=1 - sigma, sigma=sigma)
    cumulative = scheduler.alphas_cumprod.double().cpu().numpy()
    with np.errstate(divide="ignore"):
        k = np.interp(t, np.arange(len(cumulative)), np.sqrt((1 - cumulative) / cumulative))
    if not np.isfinite(k):  # zero terminal SNR
        return Level(alpha=0.0, sigma=1.0)
    return Level(alpha=float(1 / math.hypot(1, k)), sigma=float(k / math.hypot(1, k)))


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


def x0_gain(output: str, level: Level) -> float:
    """`|d_x0| / |dm|`: how far two denoised pictures lie apart per unit of output difference at `level`."""
    match output:
        case "epsilon":
            return level.k
        case "v_prediction" | "flow":
            return level.sigma
        case "sample":
            return 1.0
    raise AssertionError(output)


def eps_gain(output: str, level: Level) -> float:
    """`|d_eps| / |dm|`: how far two predicted noises lie apart per unit of output difference at `level`."""
    return x0_gain(output, level) / level.k


def unit_gain(output: str, unit: str, level: Level) -> float:
    """`|d| / |dm|` for a difference `d` measured in `unit` (`output` is the model's own) at `level`."""
    return {"output": 1.0, "epsilon": eps_gain(output, level), "x0": x0_gain(output, level)}[unit]


def step_weights(levels: Sequence[Level], output: str, weighting: str) -> np.ndarray:
    r"""Weights `w` of shape (T,), so that `sum_t w_t |dm_t|^2` is the directed divergence.

    `uniform`: `1 / T`, the mean over steps with g = 1 (Liu and Soatto 2026, Algorithm 1).

    `girsanov`: nats. With the reverse process' own g the path divergence is `KL = int |d_eps|^2 d ln k`, whatever the
    parametrisation; here by the trapezoid rule over the visited levels, so it is the divergence between the first and the last
    of them. The same integral as `1/2 int |d_x0|^2 dSNR`, summed as the KL of T ancestral steps, comes out over 100 times too
    large at T = 10, since SNR grows by orders of magnitude in a step. The step to no noise at all is infinite, and left out.

    Errors: `InputError` for an unknown weighting.
    """
    if weighting == "uniform":
        return np.full(len(levels), 1 / len(levels))
    if weighting == "girsanov":
        weights = np.zeros(len(levels))
        for i, (now, following) in enumerate(pairwise(levels)):
            if math.isinf(now.k):  # a flow's pure noise, where d_x0 is what stays finite
                half = following.snr / 4
                weights[i : i + 2] += half * x0_gain(output, now) ** 2, half * x0_gain(output, following) ** 2
            else:
                half = math.log(now.k / following.k) / 2
                weights[i : i + 2] += half * eps_gain(output, now) ** 2, half * eps_gain(output, following) ** 2
        return weights
    raise InputError(f"unknown weighting {weighting!r}; allowed are {', '.join(WEIGHTINGS)}")

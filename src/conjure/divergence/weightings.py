"""Weights of the visited steps. The weighted sum of squared prediction differences is a directed divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from conjure.diffusion.noise_levels import NoiseLevel, PredictionType, Unit, unit_scale
from conjure.errors import InputError

Weighting = Literal["uniform", "girsanov"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)


def step_weights(
    levels: Sequence[NoiseLevel], prediction_type: PredictionType, weighting: Weighting, unit: Unit = "output"
) -> Float64[np.ndarray, " steps"]:
    r"""Return weights $w_t$ such that the directed divergence is $\sum_t w_t \lVert dm_t \rVert^2$.

    `uniform` is the mean over steps of $\lVert d \rVert^2$ in the given unit. In the unit of the predictions of an epsilon model
    this corresponds to $g = 1$, as in Algorithm 1.

    `girsanov` gives nats, for every unit. With the $g$ of the reverse process the divergence of the path measures is
    $\mathrm{KL} = \int \lVert d\epsilon \rVert^2 \, d \ln k$ for every parametrisation. The trapezoid rule over the visited
    levels gives the divergence between the first and the last of them. The equivalent integral
    $\frac12 \int \lVert dx_0 \rVert^2 \, d\mathrm{SNR}$ is not used: its sum over T = 10 ancestral steps is more than 100 times
    too large, because the SNR grows by orders of magnitude in one step. The step to zero noise has an infinite weight and is left
    out.

    Args:
        levels: The T visited noise levels.
        prediction_type: What the model predicts.
        weighting: `uniform` or `girsanov`.
        unit: The unit of the uniform weighting.

    Returns:
        The weights.

    Raises:
        InputError: If the unit is undefined at a visited level.

    Reference:
        Liu and Soatto 2026, section 3 and Algorithm 1.
    """
    if weighting == "uniform":
        scales = np.array([unit_scale(prediction_type, unit, level) for level in levels])
        if not np.isfinite(scales).all():
            level = levels[int(np.isfinite(scales).argmin())]
            raise InputError(
                f"the unit {unit!r} is undefined where the process visits signal {level.alpha:g} and noise {level.sigma:g}; "
                "choose another unit, or another scheduler"
            )
        return scales**2 / len(levels)
    weights = np.zeros(len(levels))
    for i, (current, following) in enumerate(pairwise(levels)):
        if not following.noise_to_signal:
            continue
        if math.isinf(current.noise_to_signal):  # pure noise of a flow, where dx_0 stays finite
            half, unit = following.snr / 4, "x0"
        else:
            half, unit = math.log(current.noise_to_signal / following.noise_to_signal) / 2, "epsilon"
        weights[i : i + 2] += (
            half * unit_scale(prediction_type, unit, current) ** 2,
            half * unit_scale(prediction_type, unit, following) ** 2,
        )
    return weights

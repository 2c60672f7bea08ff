"""Predictions of the denoiser at a noisy latent: their squared differences, and the denoised latent that they imply."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.noise_levels import NoiseLevel, PredictionType
from conjure.errors import InputError


def squared_differences(predictions: Float[Tensor, "rows *latent"], source_rows: Sequence[int]) -> Float[Tensor, " rows"]:
    r"""Return the squared norm of the difference between the predictions for each row's text and for its source text.

    This is the integrand of Algorithm 1. Row $i$ and its source row have the same noisy latent $x_t$ and different texts:

    $$d_i = \lVert m(x_t, t \mid y_i) - m(x_t, t \mid y_{s(i)}) \rVert^2 ,$$

    where $m$ is the guided prediction and $s(i)$ the source row of $i$.

    Args:
        predictions: The guided predictions of all rows at one step.
        source_rows: For each row the index of its source row.

    Returns:
        The squared norms, summed over all dimensions of the latent, in float32.

    Reference:
        Liu and Soatto 2026, Algorithm 1.
    """
    m = predictions.float()
    return (m - m[list(source_rows)]).flatten(1).square().sum(1)


def predict_x0(
    prediction_type: PredictionType,
    x_t: Float[Tensor, "rows *latent"],
    prediction: Float[Tensor, "rows *latent"],
    level: NoiseLevel,
) -> Float[Tensor, "rows *latent"]:
    r"""Return the denoised latent that a prediction implies.

    With $x_t = \alpha x_0 + \sigma \epsilon$ and the prediction $m$:

    - epsilon: $x_0 = (x_t - \sigma m) / \alpha$
    - v: $x_0 = \alpha x_t - \sigma m$
    - sample: $x_0 = m$
    - flow: $x_0 = x_t - \sigma m$

    Args:
        prediction_type: What the model predicts.
        x_t: Noisy latents, after the scheduler's `scale_model_input`.
        prediction: The predictions at `x_t`.
        level: The noise level of `x_t`.

    Returns:
        The denoised latents, $x_0$.
    """
    match prediction_type:
        case "epsilon":
            return (x_t - level.sigma * prediction) / level.alpha
        case "v_prediction":
            return level.alpha * x_t - level.sigma * prediction
        case "sample":
            return prediction
        case "flow":
            return x_t - level.sigma * prediction
    raise AssertionError(prediction_type)


def convert_prediction(
    prediction: Float[Tensor, "rows *latent"],
    prediction_type: PredictionType,
    target_type: PredictionType,
    x_t: Float[Tensor, "rows *latent"],
    level: NoiseLevel,
) -> Float[Tensor, "rows *latent"]:
    r"""Return what a model of another prediction type predicts if it implies the same $x_0$ at the same noisy latent.

    With the $x_0$ that a prediction implies (`predict_x0`), the target is

    - epsilon: $(x_t - \alpha x_0) / \sigma$
    - v: $(\alpha x_t - x_0) / \sigma$
    - sample: $x_0$

    Args:
        prediction: The predictions at `x_t`.
        prediction_type: What the model predicts.
        target_type: The type of the result.
        x_t: Noisy latents, after the scheduler's `scale_model_input`.
        level: The noise level of `x_t`.

    Returns:
        The converted predictions; `prediction` itself if both types are equal.

    Raises:
        InputError: If one of the types is a flow and the other is not, or the conversion is undefined at `level`.
    """
    if prediction_type == target_type:
        return prediction
    if "flow" in (prediction_type, target_type):
        raise InputError(
            f"predictions of the types {prediction_type} and {target_type} belong to different noisy latents; compare two flow "
            "models, or two models that predict epsilon, v_prediction or sample"
        )
    if level.sigma == 0 or (prediction_type == "epsilon" and level.alpha == 0):
        raise InputError(
            f"a prediction of the type {prediction_type} cannot be converted to {target_type} at signal {level.alpha:g} and "
            f"noise {level.sigma:g}; choose another scheduler"
        )
    x0 = predict_x0(prediction_type, x_t, prediction, level)
    match target_type:
        case "epsilon":
            return (x_t - level.alpha * x0) / level.sigma
        case "v_prediction":
            return (level.alpha * x_t - x0) / level.sigma
        case _:
            return x0

"""The differences between two texts along their trajectories, and divergences split over samples and steps: records of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conjure.diffusion.noise_levels import NoiseLevel, PredictionType


@dataclass(frozen=True)
class PairDifferences:
    r"""The differences between two texts in k samples, of which every divergence is computed.

    Attributes:
        forward: $\lVert m(x_t, t | y_1) - m(x_t, t | y_2) \rVert^2$, summed over dimensions, along trajectories of the first
            text, where $m$ is the guided prediction.
        backward: The same along trajectories of the second text.
        direct: $\lVert x_0(y_1) - x_0(y_2) \rVert^2$ between the final latents of the two texts from the same noise; NaN where
            they were not kept.
        prediction_type: What the model predicts.
        timesteps: The T visited timesteps.
        noise_levels: Their noise levels.
        dimensions: The number of dimensions of a latent.
    """

    forward: Float[np.ndarray, "samples steps"]
    backward: Float[np.ndarray, "samples steps"]
    direct: Float[np.ndarray, " samples"]
    prediction_type: PredictionType
    timesteps: tuple[float, ...]
    noise_levels: tuple[NoiseLevel, ...]
    dimensions: int


@dataclass(frozen=True)
class PerStepDivergence:
    """A divergence, split over samples and steps.

    Attributes:
        forward: The contributions to the directed divergence along trajectories of the first text.
        backward: The same along trajectories of the second text.
        total: The contributions to the divergence.
    """

    forward: Float[np.ndarray, "samples steps"]
    backward: Float[np.ndarray, "samples steps"]
    total: Float[np.ndarray, "samples steps"]

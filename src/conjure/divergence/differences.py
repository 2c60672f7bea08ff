"""Records of arrays: the differences between two texts along their trajectories, and divergences per sample and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conjure.diffusion.noise_levels import NoiseLevel, PredictionType


@dataclass(frozen=True)
class PairDifferences:
    r"""The differences between two texts in k samples. Every divergence is computed from them.

    Attributes:
        forward: $\lVert m(x_t, t \mid y_1) - m(x_t, t \mid y_2) \rVert^2$, summed over dimensions, along trajectories of the
            first text, where $m$ is the guided prediction.
        backward: The same along trajectories of the second text.
        direct: $\lVert x_0(y_1) - x_0(y_2) \rVert^2$ between the final latents of the two texts from the same noise; NaN if
            they were not kept.
        prediction_type: What the model predicts.
        timesteps: The T visited timesteps.
        noise_levels: The noise levels at these timesteps.
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
        total: The contributions to the divergence. Their sum over the steps is the value of a sample.
    """

    forward: Float[np.ndarray, "samples steps"]
    backward: Float[np.ndarray, "samples steps"]
    total: Float[np.ndarray, "samples steps"]

    def directions(self, divergence: str) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """Return both directed divergences per sample; NaN for `direct`, which compares final latents without a direction."""
        if divergence == "direct":
            undefined = np.full(len(self.total), np.nan)
            return undefined, undefined
        return self.forward.sum(1), self.backward.sum(1)

"""The layout of the latents of videos and sounds: which positions belong to which time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.media import temporal_factor
from conjure.diffusion.process import Process
from conjure.plotting.media import STRIP_FRAMES, Media, MediaKind

FRAMES_FIRST = ("CogVideoX",)  # latents of these pipelines have the frames before the channels


@dataclass(frozen=True)
class LatentLayout:
    """How the latents of a process are laid out.

    Attributes:
        kind: What the process generates.
        frames: The number of frames of the latents of a video; 1 otherwise.
        are_frames_first: Whether the frames come before the channels.
        aspect_ratio: The height of a frame over its width.
    """

    kind: MediaKind
    frames: int = 1
    are_frames_first: bool = False
    aspect_ratio: float = 1.0

    @classmethod
    def of(cls, process: Process, shape: Sequence[int], media: Media) -> LatentLayout:
        """Return the layout of the latents of a process.

        Args:
            process: The process.
            shape: The shape of one latent.
            media: What the latent was decoded to.
        """
        if media.kind != "video":
            return cls(media.kind)
        num_frames, height, width = media.values.shape[:3]
        are_frames_first = type(process.pipeline).__name__.startswith(FRAMES_FIRST)
        packed = (num_frames - 1) // temporal_factor(process.pipeline) + 1
        frames = packed if len(shape) == 2 else shape[0 if are_frames_first else 1]
        return cls("video", frames, are_frames_first, height / width)

    @property
    def parts(self) -> int:
        """How many frames of a video its picture shows."""
        return min(STRIP_FRAMES, self.frames)

    def contributions(
        self, x0_difference: Float[Tensor, "steps *latent"], per_step: Float[np.ndarray, " steps"]
    ) -> Float[np.ndarray, "steps times rows columns"] | None:
        """Distribute the contribution of each step over times and positions, in proportion to the squared difference of the x0.

        Args:
            x0_difference: Differences of the two predicted x0.
            per_step: The contributions of the steps.

        Returns:
            The contributions. Rows and columns are those of the frames of a video. For a sound there is one column, and rows are
            frequencies. None where the latents have another layout.
        """
        squared = x0_difference.double().square().numpy()
        match self.kind, squared.ndim:
            case "video", 5:
                energy = squared.sum(2 if self.are_frames_first else 1)
            case "video", 3 if squared.shape[1] % self.frames == 0:
                positions = squared.shape[1] // self.frames
                rows = round((positions * self.aspect_ratio) ** 0.5)
                if rows == 0 or positions % rows:
                    return None
                energy = squared.sum(2).reshape(len(squared), self.frames, rows, -1)
            case "audio", 4:  # mel spectrograms, whose rows are times
                energy = squared.sum(1)[..., None]
            case "audio", 3:
                energy = squared.sum(1)[..., None, None]
            case _:
                return None
        total = energy.sum((1, 2, 3), keepdims=True)
        return np.divide(energy, total, out=np.zeros_like(energy), where=total > 0) * per_step[:, None, None, None]

    def heatmaps(self, contributions: Float[np.ndarray, "steps times rows columns"]) -> Float[np.ndarray, "steps height width"]:
        """Return heat maps that fit the image of `Media.picture`. The sum of the contributions does not change.

        Args:
            contributions: What `contributions` returns.
        """
        if self.kind == "audio":  # time from left to right, low frequencies below
            return contributions[..., 0].swapaxes(1, 2)[:, ::-1]
        parts = np.array_split(contributions, self.parts, axis=1)
        return np.concatenate([part.sum(1) for part in parts], axis=1)

"""The layout of the latents of videos and sounds: which positions belong to which time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from conjure.diffusion.media import audio_rate, padding_latents, samples_per_latent, temporal_factor
from conjure.diffusion.process import Process
from conjure.plotting.media import STRIP_FRAMES, Media, MediaKind

FRAMES_FIRST = ("CogVideoX",)  # latents of these pipelines have the frames before the channels


@dataclass(frozen=True)
class LatentLayout:
    """How the latents of a process are laid out.

    A latent here is all numbers of the latents that belong to one time.

    Attributes:
        kind: What the process generates.
        spans: The start and the end of each latent in seconds after the start of the video or sound. Latents of a sound that the
            pipeline cuts may be outside of it. Empty for images, and where the times are unknown.
        frames: The frames of each latent of a video; empty otherwise.
        length: The duration of the video or sound in seconds.
        padding: The number of further latents before these, which the pipeline drops before decoding.
        are_frames_first: Whether the frames come before the channels.
        aspect_ratio: The height of a frame over its width.
    """

    kind: MediaKind
    spans: tuple[tuple[float, float], ...] = ()
    frames: tuple[range, ...] = ()
    length: float = 0.0
    padding: int = 0
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
        match media.kind:
            case "image":
                return cls("image")
            case "audio":
                return cls("audio", _sound_spans(process.pipeline, process.pipeline_kwargs, shape), length=media.seconds)
        num_frames, height, width = media.values.shape[:3]
        are_frames_first = type(process.pipeline).__name__.startswith(FRAMES_FIRST)
        factor = temporal_factor(process.pipeline)
        decoded = (num_frames - 1) // factor + 1
        padding = padding_latents(process.pipeline, decoded)
        latents = decoded if len(shape) == 2 else shape[0 if are_frames_first else 1] - padding
        layout = cls.of_frames(latent_frames(latents, num_frames, factor), media.rate or 1.0, height / width)
        return replace(layout, length=media.seconds, padding=padding, are_frames_first=are_frames_first)

    @classmethod
    def of_frames(cls, frames: Sequence[range], rate: float, aspect_ratio: float = 1.0) -> LatentLayout:
        """Return the layout of latents of a video, with the channels before the frames.

        Args:
            frames: The frames of each latent.
            rate: Frames per second.
            aspect_ratio: The height of a frame over its width.
        """
        spans = tuple((part.start / rate, part.stop / rate) for part in frames)
        return cls("video", spans, tuple(frames), frames[-1].stop / rate if frames else 0.0, aspect_ratio=aspect_ratio)

    @property
    def parts(self) -> list[np.ndarray]:
        """The latents of a video in consecutive parts. The picture of the video shows one frame of each part."""
        return np.array_split(np.arange(len(self.frames)), min(STRIP_FRAMES, max(1, len(self.frames))))

    @property
    def shown_frames(self) -> list[int] | None:
        """The frames that the picture of a video shows, the middle frame of each part. None if the frames are unknown."""
        if not self.frames:
            return None
        ranges = [range(self.frames[part[0]].start, self.frames[part[-1]].stop) for part in self.parts]
        return [frames[len(frames) // 2] for frames in ranges]

    def contributions(
        self, x0_difference: Float[Tensor, "steps *latent"], per_step: Float[np.ndarray, " steps"]
    ) -> Float[np.ndarray, "steps times rows columns"] | None:
        """Distribute the contribution of each step over times and positions, in proportion to the squared difference of the x0.

        Args:
            x0_difference: Differences of the two predicted x0.
            per_step: The contributions of the steps.

        Returns:
            The contributions. Rows and columns are those of the frames of a video. For a sound there is one column, and rows are
            frequencies. Their sums are `per_step`, less the contribution of padding. None where the latents have another layout.
        """
        squared = x0_difference.double().square().numpy()
        times = len(self.spans) + self.padding
        match self.kind, squared.ndim:
            case "video", 5:
                energy = squared.sum(2 if self.are_frames_first else 1)
            case "video", 3 if self.spans and squared.shape[1] % times == 0:
                positions = squared.shape[1] // times
                rows = round((positions * self.aspect_ratio) ** 0.5)
                if rows == 0 or positions % rows:
                    return None
                energy = squared.sum(2).reshape(len(squared), times, rows, -1)
            case "audio", 4:  # mel spectrograms, whose rows are times
                energy = squared.sum(1)[..., None]
            case "audio", 3:
                energy = squared.sum(1)[..., None, None]
            case _:
                return None
        if not self.spans or energy.shape[1] != times:
            return None
        total = energy.sum((1, 2, 3), keepdims=True)
        shares = np.divide(energy, total, out=np.zeros_like(energy), where=total > 0)
        return (shares * per_step[:, None, None, None])[:, self.padding :]

    def heatmaps(self, contributions: Float[np.ndarray, "steps times rows columns"]) -> Float[np.ndarray, "steps height width"]:
        """Return heat maps of the size of `Media.picture`. They contain only contributions within the video or sound.

        Args:
            contributions: What `contributions` returns.
        """
        if self.kind == "audio":  # time from left to right, low frequencies below
            return (contributions[..., 0].swapaxes(1, 2) @ self._columns())[:, ::-1]
        return np.concatenate([contributions[:, part].sum(1) for part in self.parts], axis=1)

    def _columns(self) -> Float[np.ndarray, "times columns"]:
        """Return the share of each latent of a sound in columns of equal length that cover the sound.

        The share is that of its span, so that the part of a latent that is outside of the sound is not shown.
        """
        spans = np.array(self.spans)
        edges = np.linspace(0, self.length, max(1, int(are_inside(spans, self.length).sum())) + 1)
        overlaps = np.minimum(spans[:, 1:], edges[1:]) - np.maximum(spans[:, :1], edges[:-1])
        return overlaps.clip(0) / (spans[:, 1:] - spans[:, :1])


def are_inside(spans: Float[np.ndarray, "times 2"], length: float) -> Bool[np.ndarray, " times"]:
    """Return which spans are, at least in part, between 0 and `length`.

    Args:
        spans: The start and the end of each span in seconds.
        length: The duration in seconds.
    """
    start, end = np.clip(spans, 0, length).T
    return end - start > 1e-9  # seconds, far below one sample


def latent_frames(latents: int, frames: int, factor: int) -> list[range]:
    """Return the frames of each latent of a video; nothing where they are unknown.

    The first latent of a causal autoencoder is one frame.

    Args:
        latents: The number of latents.
        frames: The number of frames of the video.
        factor: How many frames correspond to one latent, except to the first latent of a causal autoencoder.
    """
    if frames == factor * latents:
        first = factor
    elif frames == factor * (latents - 1) + 1:
        first = 1
    else:
        return []
    return [range(first), *(range(start, start + factor) for start in range(first, frames, factor))]


def _sound_spans(pipeline: Any, kwargs: dict[str, Any], shape: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Return the start and the end of each latent of a sound in seconds; nothing where they are unknown."""
    samples = samples_per_latent(pipeline)
    if samples is None or len(shape) not in (2, 3):
        return ()
    start = float(kwargs.get("audio_start_in_s") or 0.0)
    edges = np.arange(shape[1] + 1) * samples / audio_rate(pipeline) - start
    return tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))

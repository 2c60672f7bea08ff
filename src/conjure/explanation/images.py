"""The images, videos or sounds of a trajectory: noisy images, predicted images, and heat maps of where the predictions differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conjure.deprecation import deprecated_property
from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.jobs import TrajectoryResult
from conjure.diffusion.media import KIND_NAMES, media_of
from conjure.diffusion.process import Process
from conjure.divergence.estimates import Estimate
from conjure.explanation.layout import LatentLayout, are_inside
from conjure.plotting.media import Media

DECODE_BATCH = 16  # images in one call of the autoencoder, which needs far more memory per row than the denoiser
DECODE_NUMBERS = DECODE_BATCH * 4 * 64 * 64  # numbers of the latents of more images in one call, if they are small


@dataclass(frozen=True)
class TrajectoryImages:
    """The trajectory of one text of a pair in one sample, with the predictions for both texts. Images are RGB in 0..1.

    An image of a video is a strip of its frames, and an image of a sound its spectrogram.

    Attributes:
        text: The text whose trajectory is shown.
        x_t: The noisy latents, scaled to unit variance and decoded.
        x0_first: The predicted x0 for the first text of the pair at each x_t, decoded.
        x0_second: The predicted x0 for the second text.
        per_step: The contribution of each step to the directed divergence.
        heatmaps: The contribution of each position of the latents to each step; the sums over positions are `per_step`, less the
            contributions of latents outside of the video or sound. None if the latents have no positions, and for the divergence
            `direct`, which compares final latents.
        final: The image at the end of the trajectory.
        media: The image, video or sound at the end of the trajectory.
        over_time: For videos and sounds, the contribution of each time of the latents to each step. Sounds may be shorter than
            their latents. None for images, and where `heatmaps` is None.
        times: The start and the end of each time of `over_time` in seconds after the start of the video or sound.
    """

    text: str
    x_t: Float[np.ndarray, "steps height width 3"]
    x0_first: Float[np.ndarray, "steps height width 3"]
    x0_second: Float[np.ndarray, "steps height width 3"]
    per_step: Float[np.ndarray, " steps"]
    heatmaps: Float[np.ndarray, "steps rows columns"] | None
    final: Float[np.ndarray, "height width 3"]
    media: Media | None = field(default=None, repr=False)
    over_time: Float[np.ndarray, "steps times"] | None = field(default=None, repr=False)
    times: Float[np.ndarray, "times 2"] | None = field(default=None, repr=False)

    @property
    def kind_name(self) -> str:
        """What the texts generate, as a word for labels: image, video or sound."""
        return "image" if self.media is None else KIND_NAMES[self.media.kind]

    @property
    def are_times_inside(self) -> Bool[np.ndarray, " times"]:
        """Which of `times` are in the video or sound: a pipeline may decode a longer sound and cut it."""
        assert self.times is not None
        assert self.media is not None
        return are_inside(self.times, self.media.seconds)

    def longest_side(self, side: int) -> int:
        """Return the longest side of an image on a page in pixels: `side` for an image or a spectrogram.

        For a strip, it is the longest side of one frame.

        Args:
            side: The longest side of an image in pixels.
        """
        if self.media is None or self.media.kind != "video":
            return side
        height, width = self.final.shape[:2]
        frame_height = self.media.values.shape[1]
        return side * max(height, width) // max(frame_height, width)

    noisy = deprecated_property("noisy", "x_t")
    first = deprecated_property("first", "x0_first")
    second = deprecated_property("second", "x0_second")
    places = deprecated_property("places", "heatmaps")


@dataclass(frozen=True)
class SampleImages:
    """The images of one sample. Both trajectories start from the same noise, or with antithetic noise from opposite noise.

    Attributes:
        forward: The trajectory of the first text.
        backward: The trajectory of the second text.
    """

    forward: TrajectoryImages
    backward: TrajectoryImages


def counted_trajectories(estimate: Estimate, sample: SampleImages) -> tuple[TrajectoryImages, ...]:
    """Return the trajectories of a sample that the distance depends on: that of the first text for `kl`, otherwise both.

    Args:
        estimate: The estimate of the distance.
        sample: The images of the sample.
    """
    return (sample.forward,) if estimate.divergence == "kl" else (sample.forward, sample.backward)


# A result with the latents of its steps; whether its text is the first or the second of the pair; the contributions of the steps
Trajectory: TypeAlias = tuple[TrajectoryResult, Literal[0, 1], Float[np.ndarray, " steps"]]


def decode_trajectories(process: Process, trajectories: Sequence[Trajectory]) -> list[TrajectoryImages]:
    """Decode all steps of trajectories together.

    Args:
        process: The process that simulated the trajectories.
        trajectories: For each trajectory the arguments `result`, `text_index` and `per_step` of `iter_decoded`.
    """
    latents = [
        torch.cat([result.final_latent[None], _shown_latents(result, text_index).flatten(0, 1)])
        for result, text_index, _ in trajectories
    ]
    decoded = iter(decode_media(process, torch.cat(latents)))
    parts = [list(islice(decoded, len(part))) for part in latents]
    images = []
    for (result, _, per_step), (final, *shown) in zip(trajectories, parts, strict=True):
        white, layout = _white_images(process, result, final, per_step)
        images.append(_with_pictures(white, np.stack([media.picture(layout.shown_frames) for media in shown])))
    return images


def iter_decoded(
    process: Process, result: TrajectoryResult, text_index: Literal[0, 1], per_step: Float[np.ndarray, " steps"]
) -> Iterator[TrajectoryImages]:
    """Decode the latents of a trajectory step by step.

    Args:
        process: The process that simulated the trajectory.
        result: A result with the latents of its steps and one target, the other text of the pair.
        text_index: Whether the text of the trajectory is the first (0) or the second (1) of the pair.
        per_step: The contribution of each step to the directed divergence.

    Yields:
        The images after each step. Images of steps that are not decoded yet are white.
    """
    text_cache = TextEmbeddingCache()
    sequence = _shown_latents(result, text_index)
    (final,) = decode_media(process, result.final_latent[None], text_cache)
    white, layout = _white_images(process, result, final, per_step)
    pictures = np.ones((3 * len(sequence), *white.final.shape), white.final.dtype)
    for step, latents in enumerate(sequence):
        decoded = decode_media(process, latents, text_cache)
        pictures[3 * step : 3 * step + 3] = [media.picture(layout.shown_frames) for media in decoded]
        yield _with_pictures(white, pictures.copy())


def _shown_latents(result: TrajectoryResult, text_index: Literal[0, 1]) -> Float[Tensor, "steps 3 *latent"]:
    """Return x_t, the predicted x0 for the first text of the pair, and that for the second text, at each step."""
    latents = result.step_latents
    assert latents is not None
    x0 = latents.x0 if text_index == 0 else latents.x0.flip(1)
    return torch.stack([latents.x_t, x0[:, 0], x0[:, 1]], 1)


def _white_images(
    process: Process, result: TrajectoryResult, final: Media, per_step: Float[np.ndarray, " steps"]
) -> tuple[TrajectoryImages, LatentLayout]:
    """Return the images of a trajectory with its heat maps, where the images of all steps are white, and their layout."""
    latents = result.step_latents
    assert latents is not None
    layout = LatentLayout.of(process, result.final_latent.shape, final)
    picture = final.picture(layout.shown_frames)
    difference = latents.x0[:, 0] - latents.x0[:, 1]
    heatmaps, over_time = media_heatmaps(difference, per_step, layout, picture.shape[0] / picture.shape[1])
    white = np.ones((len(latents.x_t), *picture.shape), picture.dtype)
    times = None if over_time is None else np.array(layout.spans)
    return TrajectoryImages(result.job.text, white, white, white, per_step, heatmaps, picture, final, over_time, times), layout


def _with_pictures(images: TrajectoryImages, pictures: Float[np.ndarray, "rows height width 3"]) -> TrajectoryImages:
    """Return images with those of all steps: pictures of what `_shown_latents` are decoded to, step by step."""
    x_t, x0_first, x0_second = pictures.reshape(-1, 3, *images.final.shape).swapaxes(0, 1)
    return replace(images, x_t=x_t, x0_first=x0_first, x0_second=x0_second)


def decode_latents(process: Process, latents: Float[Tensor, "rows *latent"]) -> Float[np.ndarray, "rows *media"]:
    """Return the values of what latents are decoded to; see `Media`.

    Args:
        process: The process whose autoencoder decodes.
        latents: Final or denoised latents.
    """
    return np.stack([media.values for media in decode_media(process, latents)])


def decode_media(
    process: Process, latents: Float[Tensor, "rows *latent"], text_cache: TextEmbeddingCache | None = None
) -> list[Media]:
    """Decode latents on any device and in any data type, in batches that fit into the memory.

    Args:
        process: The process whose autoencoder decodes.
        latents: Final or denoised latents.
        text_cache: See `Process.run`.
    """
    kind = process.kind
    latents = latents.to(process.device, process.pipeline.dtype)
    num_rows = max(DECODE_BATCH, DECODE_NUMBERS // latents[0].numel()) if kind == "image" else 1
    batch_size = AdaptiveBatchSize(process.device, num_rows)
    text_cache = text_cache or TextEmbeddingCache()
    batches = map_batches(latents, batch_size, lambda batch, _: process.decode(batch, text_cache=text_cache))
    return media_of(np.concatenate(list(batches)), kind, process.media_rate)


def media_heatmaps(
    x0_difference: Float[Tensor, "steps *latent"],
    per_step: Float[np.ndarray, " steps"],
    layout: LatentLayout,
    aspect_ratio: float,
) -> tuple[Float[np.ndarray, "steps rows columns"] | None, Float[np.ndarray, "steps times"] | None]:
    """Return heat maps of the contributions of positions, and the contributions of times. The heat maps fit `Media.picture`.

    Args:
        x0_difference: Differences of the two predicted x0.
        per_step: The contributions of the steps.
        layout: The layout of the latents.
        aspect_ratio: The height of the images over their width.

    Returns:
        Both, each None where the latents have no such positions; images have no times.
    """
    if layout.kind == "image":
        return difference_heatmaps(x0_difference, per_step, aspect_ratio), None
    contributions = layout.contributions(x0_difference, per_step)
    return (None, None) if contributions is None else (layout.heatmaps(contributions), contributions.sum((2, 3)))


def difference_heatmaps(
    x0_difference: Float[Tensor, "steps *latent"], per_step: Float[np.ndarray, " steps"], aspect_ratio: float
) -> Float[np.ndarray, "steps rows columns"] | None:
    """Distribute the contribution of each step over the positions of the latents.

    The share of a position is its share of the squared difference of the two predicted x0. At a given step every unit of the
    divergence is proportional to that difference, so that the shares are the same in all units.

    Args:
        x0_difference: Differences of latents of shape (channels, rows, columns), (channels, frames, rows, columns), or packed,
            (positions, channels).
        per_step: The contributions.
        aspect_ratio: The height of the images over their width, which decides the numbers of rows and columns of packed latents.

    Returns:
        The contributions of the positions, or None where the latents cannot be laid out in rows and columns.
    """
    squared = x0_difference.double().square().numpy()
    match squared.ndim:
        case 4:
            energy = squared.sum(1)
        case 5:
            energy = squared.sum((1, 2))
        case 3:
            rows = round((squared.shape[1] * aspect_ratio) ** 0.5)
            if rows == 0 or squared.shape[1] % rows:
                return None
            energy = squared.sum(2).reshape(len(squared), rows, -1)
        case _:
            return None
    total = energy.sum((1, 2), keepdims=True)
    return np.divide(energy, total, out=np.zeros_like(energy), where=total > 0) * per_step[:, None, None]

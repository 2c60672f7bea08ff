"""The images of a trajectory: noisy images, predicted images, and heat maps of where the predictions differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conjure.deprecation import deprecated_property
from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.jobs import TrajectoryResult
from conjure.diffusion.process import Process
from conjure.divergence.estimates import Estimate

DECODE_BATCH = 16  # images in one call of the autoencoder, which needs far more memory per row than the denoiser
DECODE_NUMBERS = DECODE_BATCH * 4 * 64 * 64  # numbers of the latents of more images in one call, if they are small


@dataclass(frozen=True)
class TrajectoryImages:
    """The trajectory of one text of a pair in one sample, with the predictions for both texts. Images are RGB in 0..1.

    Attributes:
        text: The text whose trajectory is shown.
        x_t: The noisy latents, scaled to unit variance and decoded.
        x0_first: The predicted x0 for the first text of the pair at each x_t, decoded.
        x0_second: The predicted x0 for the second text.
        per_step: The contribution of each step to the directed divergence.
        heatmaps: The contribution of each position of the latents to each step; the sums over positions are `per_step`. None if
            the latents have no positions, and for the divergence `direct`, which compares final latents.
        final: The image at the end of the trajectory.
    """

    text: str
    x_t: Float[np.ndarray, "steps height width 3"]
    x0_first: Float[np.ndarray, "steps height width 3"]
    x0_second: Float[np.ndarray, "steps height width 3"]
    per_step: Float[np.ndarray, " steps"]
    heatmaps: Float[np.ndarray, "steps rows columns"] | None
    final: Float[np.ndarray, "height width 3"]

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


def decode_trajectories(
    process: Process, trajectories: Sequence[tuple[TrajectoryResult, Literal[0, 1], Float[np.ndarray, " steps"]]]
) -> list[TrajectoryImages]:
    """Decode all steps of trajectories together.

    Args:
        process: The process that simulated the trajectories.
        trajectories: For each trajectory the arguments `result`, `text_index` and `per_step` of `iter_decoded`.
    """
    latents = [
        torch.cat([result.final_latent[None], _shown_latents(result, text_index).flatten(0, 1)])
        for result, text_index, _ in trajectories
    ]
    decoded = np.split(decode_latents(process, torch.cat(latents)), len(latents))
    return [
        _images(result, images[0], images[1:].reshape(-1, 3, *images[0].shape), per_step)
        for (result, _, per_step), images in zip(trajectories, decoded, strict=True)
    ]


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
    final = decode_latents(process, result.final_latent[None], text_cache)[0]
    images = np.ones((len(sequence), 3, *final.shape), final.dtype)
    for step, latents in enumerate(sequence):
        images[step] = decode_latents(process, latents, text_cache)
        yield _images(result, final, images, per_step)


def _shown_latents(result: TrajectoryResult, text_index: Literal[0, 1]) -> Float[Tensor, "steps 3 *latent"]:
    """Return x_t, the predicted x0 for the first text of the pair, and that for the second text, at each step."""
    latents = result.step_latents
    assert latents is not None
    x0 = latents.x0 if text_index == 0 else latents.x0.flip(1)
    return torch.stack([latents.x_t, x0[:, 0], x0[:, 1]], 1)


def _images(
    result: TrajectoryResult,
    final: Float[np.ndarray, "height width 3"],
    images: Float[np.ndarray, "steps 3 height width 3"],
    per_step: Float[np.ndarray, " steps"],
) -> TrajectoryImages:
    """Return the images of a trajectory with its heat maps, from the images of `_shown_latents`."""
    assert result.step_latents is not None
    x0 = result.step_latents.x0
    heatmaps = difference_heatmaps(x0[:, 0] - x0[:, 1], per_step, final.shape[0] / final.shape[1])
    x_t, x0_first, x0_second = images.swapaxes(0, 1).copy()
    return TrajectoryImages(result.job.text, x_t, x0_first, x0_second, per_step, heatmaps, final)


def decode_latents(
    process: Process, latents: Float[Tensor, "rows *latent"], text_cache: TextEmbeddingCache | None = None
) -> Float[np.ndarray, "rows height width 3"]:
    """Decode latents on any device and in any data type to images with values in 0..1, in batches that fit into the memory.

    Args:
        process: The process whose autoencoder decodes.
        latents: Final or denoised latents.
        text_cache: See `Process.run`.
    """
    latents = latents.to(process.device, process.pipeline.dtype)
    text_cache = text_cache or TextEmbeddingCache()
    batch_size = AdaptiveBatchSize(process.device, max(DECODE_BATCH, DECODE_NUMBERS // latents[0].numel()))
    return np.concatenate(list(map_batches(latents, batch_size, lambda batch, _: process.decode(batch, text_cache=text_cache))))


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

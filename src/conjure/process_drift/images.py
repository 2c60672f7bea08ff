"""Images of a text under two processes: final images from the same noise, and Figure 1 with processes instead of texts.

A video is shown as a strip of its frames, and a sound as its spectrogram.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.jobs import TrajectoryJob, TrajectoryLatents, TrajectoryResult
from conjure.diffusion.predictions import predict_x0
from conjure.diffusion.process import Process
from conjure.divergence.differences import PerStepDivergence
from conjure.explanation.images import SampleImages, Trajectory, decode_media, decode_trajectories, media_heatmaps
from conjure.explanation.layout import LatentLayout
from conjure.io.text import printable, quote_and_wrap
from conjure.plotting.heatmaps import colorize_heatmap
from conjure.plotting.images import contact_sheet
from conjure.plotting.media import Media
from conjure.process_drift.directions import Direction
from conjure.process_drift.grid import CommonGrid
from conjure.process_drift.spool import TensorSpool


@dataclass(frozen=True)
class TextImages:
    """The images of a text under two processes, in the first sample. Images are RGB in 0..1.

    Attributes:
        text: The text.
        final_a: The image of process A.
        final_b: The image of process B, from the same noise.
        heatmap: Where the processes differ: the contributions of the positions to the divergence, summed over steps; or the
            squared differences of the two images, if pixels are compared. Along the trajectory of A alone if the processes visit
            different noise levels. None if the latents have no positions.
        trajectories: The trajectories of both processes with the x0 that both predict; None if pixels are compared, or if the
            processes visit different noise levels.
    """

    text: str
    final_a: Float[np.ndarray, "height width 3"]
    final_b: Float[np.ndarray, "height width 3"]
    heatmap: Float[np.ndarray, "rows columns"] | None
    trajectories: SampleImages | None


def decode_images(
    process: Process,
    text: str,
    seed: int,
    directions: tuple[Direction, Direction],
    per_step: PerStepDivergence,
    grid: CommonGrid,
    spool: TensorSpool,
    labels: tuple[str, str],
) -> TextImages:
    """Decode the images of a text.

    Args:
        process: The process whose autoencoder decodes latents.
        text: The text.
        seed: The seed of the sample.
        directions: The differences along trajectories of A and of B.
        per_step: The divergence of the text; its first sample is shown.
        grid: The noise levels of the comparison.
        spool: Where the latents are kept.
        labels: The names of the processes.
    """
    finals = [direction.final(text, seed) for direction in directions]
    if directions[0].quantity.in_pixels:
        media_a, media_b = (Media(process.kind, image.numpy(), process.media_rate) for image in finals)
        squared = np.square(media_a.values - media_b.values).sum(-1)
        if process.kind == "video":
            layout = LatentLayout.of_frames([range(frame, frame + 1) for frame in range(len(squared))], media_a.rate or 1.0)
            (squared,) = layout.heatmaps(squared[None])
        return TextImages(text, media_a.picture(), media_b.picture(), squared, None)
    results = [
        _result(direction, text, seed, label, final, spool)
        for direction, label, final in zip(directions, labels, finals, strict=True)
    ]
    if not grid.is_same:
        media_a, media_b = decode_media(process, torch.stack(finals))
        layout = LatentLayout.of(process, finals[0].shape, media_a)
        final_a, final_b = (media.picture(layout.shown_frames) for media in (media_a, media_b))
        latents = results[0].step_latents
        assert latents is not None
        x0 = latents.x0[list(grid.kept)]
        heatmaps, _ = media_heatmaps(x0[:, 0] - x0[:, 1], per_step.forward[0], layout, final_a.shape[0] / final_a.shape[1])
        return TextImages(text, final_a, final_b, None if heatmaps is None else heatmaps.sum(0), None)
    forward: Trajectory = (results[0], 0, per_step.forward[0])
    backward: Trajectory = (results[1], 1, per_step.backward[0])
    images = SampleImages(*decode_trajectories(process, [forward, backward]))
    maps = [direction.heatmaps for direction in (images.forward, images.backward)]
    heatmap = None if maps[0] is None or maps[1] is None else maps[0].sum(0) + maps[1].sum(0)
    return TextImages(text, images.forward.final, images.backward.final, heatmap, images)


def final_images(images: Sequence[TextImages], values: Sequence[str], labels: tuple[str, str], file_format: str) -> bytes:
    """Return a figure with one row per text: the images of both processes from the same noise, and where the processes differ.

    Args:
        images: The images of the texts.
        values: The divergences of the texts.
        labels: The names of the processes.
        file_format: A file format of matplotlib.
    """
    rows = []
    for image in images:
        row = [image.final_a, image.final_b]
        if image.heatmap is not None:
            # on its own scale, since the divergences of texts differ by orders of magnitude
            row.append(colorize_heatmap(image.heatmap[None], image.final_a.shape[:2], 1.0, "step")[0])
        rows.append(row)
    columns = [*(textwrap.fill(printable(label), 28) for label in labels), "where the processes differ"][: len(rows[0])]
    names = [f"{quote_and_wrap(image.text, 24, lines=3)}\n{value}" for image, value in zip(images, values, strict=True)]
    return contact_sheet(rows, names, columns, file_format, heatmap_limit="largest of the text" if len(columns) > 2 else None)


def _result(direction: Direction, text: str, seed: int, label: str, final: Tensor, spool: TensorSpool) -> TrajectoryResult:
    """Return a recorded trajectory as the result of a job whose texts are the two processes."""
    places = direction.images[text]
    x_t, recorded, evaluated = (spool.read(place) for place in (places.x_t, places.recorded, places.evaluated))
    source, predicts = direction.source, direction.quantity.prediction_type
    x0 = [
        [predict_x0(predicts, x_t[step][None], values[step][None], level)[0] for values in (recorded, evaluated)]
        for step, level in enumerate(source.noise_levels)
    ]
    latents = TrajectoryLatents(x_t, torch.stack([torch.stack(pair) for pair in x0]))
    nothing = np.zeros((1, len(x_t)))
    return TrajectoryResult(TrajectoryJob(label, seed, (label,)), nothing, source.timesteps, source.noise_levels, final, latents)

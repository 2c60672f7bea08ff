"""Images of the pairs for which distances and human ratings differ most, from the final latents of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from conjure.diffusion.process import Process
from conjure.evaluation.results import TaskResult
from conjure.evaluation.scatter import outliers
from conjure.explanation.images import decode_media
from conjure.io.text import shorten
from conjure.plotting.images import encode_image, mosaic
from conjure.plotting.media import MediaKind
from conjure.similarity.trajectory_cache import TrajectoryCache

IMAGE_SIDE = 256  # pixels
NOTES: dict[MediaKind, str] = {
    "image": "",
    "video": "The images of pairs are the middle frames of the generated videos.",
    "audio": "The images of pairs are mel spectrograms of the generated sounds: time from left to right, low frequencies below.",
}


@dataclass(frozen=True)
class OutlierImages:
    """Images for a report.

    Attributes:
        by_task: For each task the data URIs of the images of both texts, by index of the pair.
        note: What the images show of a video or a sound, or why images are missing; empty for images of texts.
    """

    by_task: Mapping[str, Mapping[int, tuple[str, str]]] = field(default_factory=dict)
    note: str = ""


def outlier_images(process: Process, cache: TrajectoryCache, results: Mapping[str, TaskResult]) -> OutlierImages:
    """Decode the images of the first sample of the pairs that differ most. No trajectory is run.

    A video is shown by its middle frame, and a sound by its mel spectrogram.

    Args:
        process: The process.
        cache: The results of its trajectories, with final latents.
        results: The results by name of the task.
    """
    keys = {}
    for name, result in results.items():
        indices = outliers(result.pairs, result.distances)
        keys[name] = {index: cache.noise.pair(0, *result.pairs.texts[index]) for index in indices}
    needed = dict.fromkeys(key for by_index in keys.values() for pair in by_index.values() for key in pair)
    found = {key: cache.final_latents.get(key) for key in needed}
    latents = {key: latent for key, latent in found.items() if latent is not None and torch.isfinite(latent).all()}
    if not latents:
        return OutlierImages()
    try:
        decoded = decode_media(process, torch.stack(list(latents.values())))
        images = [media.picture([len(media.values) // 2]) for media in decoded]  # a video is shown by its middle frame
    except Exception as error:  # of any pipeline and device: the report of a long run is written in every case
        return OutlierImages(note=shorten(f"Images could not be decoded ({type(error).__name__}): {error}", 300))
    uris = dict(zip(latents, map(_encode, images), strict=True))
    return OutlierImages(
        {
            name: {index: (uris[a], uris[b]) for index, (a, b) in by_index.items() if a in uris and b in uris}
            for name, by_index in keys.items()
        },
        NOTES[process.kind],
    )


def _encode(image: np.ndarray) -> str:
    return encode_image(mosaic(image[None, None], largest=IMAGE_SIDE))

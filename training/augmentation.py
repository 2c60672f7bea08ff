"""The training images: single drawings over white, composed scenes, and augmented copies of the drawings, with their captions.

Training repeats the drawings many times, and therefore uses the augmented copies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

import pictographs
from pictographs import Pictographs
from scene_roles import RoleIndex
from scenes import compose

NUM_SCENES = 60_000
NUM_COPIES = 9  # augmented copies of each drawing
SEED = 0
# modules that determine the images and their captions
DATA_MODULES = ("augmentation", "scenes", "scene_roles", "scene_vocabulary", "scene_drawing", "grammar", "lexicon", "pictographs")

# Names of things that a mirror image would show wrongly
MIRROR_SENSITIVE = re.compile(r"left|right|clock|arrow|button|letter|sign|symbol|\d", re.IGNORECASE)


@dataclass
class TrainingImages(Dataset[tuple[np.ndarray, list[str]]]):
    """The training images by index: first the drawings, then the scenes.

    An item is an image, uint8 of shape (size, size, 3), and its captions. Scenes are generated on access.

    Attributes:
        drawings: The single drawings.
        size: The pixels per side of the images.
        num_scenes: The number of scenes.
    """

    drawings: Pictographs
    size: int
    num_scenes: int = NUM_SCENES

    def __len__(self) -> int:
        return self.num_drawings + self.num_scenes

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[str]]:
        if index < self.num_drawings:
            return self.drawings.over_white(np.array([index]))[0], self.drawings.captions[index]
        return compose(self.roles, self.size, SEED, index - self.num_drawings)

    @property
    def num_drawings(self) -> int:
        return len(self.drawings.pixels)

    @property
    def may_mirror(self) -> torch.Tensor:
        """Whether the mirror image of each drawing shows the same thing, shape (drawings,)."""
        return torch.tensor([not MIRROR_SENSITIVE.search(concept.label) for concept in self.drawings.concepts])

    @cached_property
    def roles(self) -> RoleIndex:
        return RoleIndex(self.drawings)

    @cached_property
    def train_indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the drawings and of the scenes for training: without held-out drawings and names, and one scene in fifty."""
        return self.drawings.train_indices, np.delete(self._scene_indices, np.s_[::50])

    @cached_property
    def held_out_indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the held-out drawings and of the held-out scenes. Drawings of unseen names are not among them."""
        return self.drawings.held_out_indices, self._scene_indices[::50]

    @property
    def _scene_indices(self) -> np.ndarray:
        return np.arange(self.num_drawings, len(self))

    def captions(self) -> Iterator[str]:
        """Yield the captions of all drawings and scenes, held-out ones included."""
        for index in track(range(len(self)), "reading captions"):
            yield from self[index][1]

    @cached_property
    def version(self) -> str:
        """A hash of everything that determines the images and their captions. It is part of the names of cache files."""
        content = hashlib.sha256(self.drawings.pixels.tobytes())
        for module in DATA_MODULES:
            content.update(Path(__file__).with_name(f"{module}.py").read_bytes())
        content.update(json.dumps(self.drawings.captions).encode())
        return content.hexdigest()[:12]


def stack(images: TrainingImages, cache: Path) -> tuple[torch.Tensor, list[list[str]]]:
    """Return the pixels and the captions of all images. Scenes are composed once, on all cores, and then read from `cache`.

    Args:
        images: The training images.
        cache: The folder of the stored images.

    Returns:
        The pixels, uint8 of shape (images, size, size, 3), and the captions of each image.
    """
    store = cache / f"images-{images.size}-{images.version}.pt"
    if not store.exists():
        loader = DataLoader(images, batch_size=256, num_workers=os.cpu_count() or 1, collate_fn=list)
        items = [item for batch in track(loader, "composing scenes") for item in batch]
        content = {"pixels": torch.from_numpy(np.stack([item[0] for item in items])), "captions": [item[1] for item in items]}
        torch.save(content, store.with_suffix(".partial"))
        store.with_suffix(".partial").rename(store)
    saved = torch.load(store, weights_only=True)
    return saved["pixels"], saved["captions"]


def augment(images: torch.Tensor, may_mirror: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images with a small random shift, scaling and rotation each, over white.

    Args:
        images: The images in -1..1, shape (images, 3, size, size).
        may_mirror: Whether an image is also mirrored with a probability of 1/2, shape (images,).
        generator: The source of the random transformations, on the device of the images.

    Returns:
        The images, of the same shape.
    """
    scale, angle, mirror, x, y = torch.rand((5, len(images)), generator=generator, device=images.device)
    scale, angle = 0.9 + 0.3 * scale, 0.24 * (angle - 0.5)
    sign = torch.where(may_mirror & (mirror < 0.5), -1.0, 1.0)
    first_row = torch.stack([scale * angle.cos() * sign, -scale * angle.sin(), 0.2 * (x - 0.5)], 1)
    second_row = torch.stack([scale * angle.sin() * sign, scale * angle.cos(), 0.2 * (y - 0.5)], 1)
    grid = torch.nn.functional.affine_grid(torch.stack([first_row, second_row], 1), list(images.shape), align_corners=False)
    # outside of the image, grid_sample reads zeros, which are white after the shift
    moved = torch.nn.functional.grid_sample(images - 1, grid, mode="bicubic", align_corners=False)
    return moved.clamp(-2, 0) + 1


def to_tensor(pixels: torch.Tensor) -> torch.Tensor:
    """Convert images, uint8 of shape (images, size, size, 3), to float of shape (images, 3, size, size) in -1..1."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> TrainingImages:
    return TrainingImages(pictographs.load(cache, size), size)

"""The training images: single drawings over white, composed scenes, and augmented copies of the drawings, with their captions.

The contrastive stage repeats the drawings many times, and therefore uses the augmented copies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch.utils.data import Dataset

import pictographs
from pictographs import Pictographs
from scene_roles import RoleIndex
from scenes import compose

NUM_SCENES = 60_000
NUM_COPIES = 7  # augmented copies of each drawing
SEED = 0
# modules that determine the images and their captions
DATA_MODULES = ("augmentation", "scenes", "scene_roles", "scene_vocabulary", "scene_drawing", "grammar", "lexicon", "pictographs")

# Names of things that a mirror image would show wrongly
MIRROR_SENSITIVE = re.compile(r"left|right|clock|arrow|button|letter|sign|symbol|\d", re.IGNORECASE)


@dataclass
class TrainingImages(Dataset[tuple[np.ndarray, list[str]]]):
    """The training images by index: first the drawings, then the scenes, then the augmented copies.

    An item is an image, uint8 of shape (size, size, 3), and its captions. Scenes and copies are generated on access.

    Attributes:
        drawings: The single drawings.
        size: The pixels per side of the images.
        num_scenes: The number of scenes.
    """

    drawings: Pictographs
    size: int
    num_scenes: int = NUM_SCENES

    def __len__(self) -> int:
        return self.num_originals + NUM_COPIES * self.num_drawings

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[str]]:
        if index < self.num_drawings:
            return self.drawings.over_white(np.array([index]))[0], self.drawings.captions[index]
        if index < self.num_originals:
            return compose(self.roles, self.size, SEED, index - self.num_drawings)
        drawing, copy = divmod(index - self.num_originals, NUM_COPIES)
        pixels, captions = self[drawing]
        may_mirror = not MIRROR_SENSITIVE.search(self.drawings.concepts[drawing].label)
        return augment(pixels, np.random.default_rng((SEED, drawing, copy)), may_mirror), captions

    @property
    def num_drawings(self) -> int:
        return len(self.drawings.pixels)

    @property
    def num_originals(self) -> int:
        """The number of drawings and scenes, without augmented copies."""
        return self.num_drawings + self.num_scenes

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
        return np.arange(self.num_drawings, self.num_originals)

    def random_copy(self, index: int, rng: np.random.Generator) -> int:
        """Return `index` for a scene; for a drawing, its index or the index of one of its copies, with equal probabilities."""
        number = int(rng.integers(1 + NUM_COPIES))
        is_drawing = index < self.num_drawings
        return self.num_originals + NUM_COPIES * index + number - 1 if is_drawing and number else index

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """Return images as float of shape (len(indices), 3, size, size) in -1..1."""
        return to_tensor(np.stack([self[int(index)][0] for index in indices]))

    def captions(self) -> Iterator[str]:
        """Yield the captions of all drawings and scenes, held-out ones included."""
        for index in track(range(self.num_originals), "reading captions"):
            yield from self[index][1]

    @cached_property
    def version(self) -> str:
        """A hash of everything that determines the images and their captions. It is part of the names of cache files."""
        content = hashlib.sha256(self.drawings.pixels.tobytes())
        for module in DATA_MODULES:
            content.update(Path(__file__).with_name(f"{module}.py").read_bytes())
        content.update(json.dumps(self.drawings.captions).encode())
        return content.hexdigest()[:12]


def augment(pixels: np.ndarray, rng: np.random.Generator, may_mirror: bool) -> np.ndarray:
    """Return an image with a small random shift, scaling and rotation.

    Args:
        pixels: An image over white, uint8 of shape (size, size, 3).
        rng: The source of the random transformation.
        may_mirror: Whether the image is also mirrored with a probability of 1/2.
    """
    size, scale, angle = len(pixels), rng.uniform(0.85, 1.2), rng.uniform(-0.2, 0.2)
    mirror = -1 if may_mirror and rng.random() < 0.5 else 1
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [mirror, 1]
    centre = np.full(2, size / 2)
    offset = centre - matrix @ (centre + rng.uniform(-0.08, 0.08, 2) * size)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])  # map a pixel of the copy to its source
    image = Image.fromarray(pixels).transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC,
                                              fillcolor="white")  # fmt: skip
    return np.asarray(image)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Convert images, uint8 of shape (images, size, size, 3), to float of shape (images, 3, size, size) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> TrainingImages:
    return TrainingImages(pictographs.load(cache, size), size)

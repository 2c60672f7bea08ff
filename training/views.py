"""What the model is trained to see: single pictures over white, and scenes composed of them, with their captions.

Of single pictures there are copies that stand otherwise on the page, for the stage that goes over them many times.
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

import pictographs
from pictographs import Pictographs
from scenes import Stock, compose

SCENES = 60_000
COPIES = 7  # of every single picture
SEED = 0

SIDED = re.compile(r"left|right|clock|arrow|button|letter|sign|symbol|\d", re.IGNORECASE)  # names of what is another in a mirror


@dataclass
class Views:
    """Views are numbered: the single pictures of `data`, then scenes, then copies; both are made when they are asked for."""

    data: Pictographs
    size: int
    scenes: int = SCENES

    def __len__(self) -> int:
        return self.originals + COPIES * len(self.data.pixels)

    @property
    def originals(self) -> int:
        return len(self.data.pixels) + self.scenes

    @cached_property
    def stock(self) -> Stock:
        return Stock(self.data)

    @cached_property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Views that are trained on, of either sort: but for the held-out pictures and names, and one scene in fifty."""
        return self.data.train, np.delete(self._scenes, np.s_[::50])

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Views that are not trained on, of names that are, of either sort."""
        return self.data.held_out, self._scenes[::50]

    @property
    def _scenes(self) -> np.ndarray:
        return np.arange(len(self.data.pixels), self.originals)

    def copy(self, row: int, rng: np.random.Generator) -> int:
        """View `row` or, where it is a single picture, as likely any of its copies."""
        number = int(rng.integers(1 + COPIES))
        single = row < len(self.data.pixels)
        return self.originals + COPIES * row + number - 1 if single and number else row

    def view(self, row: int) -> tuple[np.ndarray, list[str]]:
        """View `row`: pixels uint8 (size, size, 3), and captions."""
        if row < len(self.data.pixels):
            return self.data.over_white(np.array([row]))[0], self.data.captions[row]
        if row < self.originals:
            return compose(self.stock, self.size, SEED, row - len(self.data.pixels))
        picture, number = divmod(row - self.originals, COPIES)
        pixels, captions = self.view(picture)
        may_turn = not SIDED.search(self.data.meanings[picture].label)
        return moved(pixels, np.random.default_rng((SEED, picture, number)), may_turn), captions

    __getitem__ = view

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Views `rows` as float (len(rows), 3, size, size) in -1..1."""
        return as_tensor(np.stack([self.view(int(row))[0] for row in rows]))

    @cached_property
    def version(self) -> str:
        """A hash of what makes views and captions what they are, for what is kept of them."""
        sources = [Path(__file__).with_name(f"{name}.py") for name in ("views", "scenes", "words", "pictographs")]
        content = hashlib.sha256(self.data.pixels.tobytes())
        for part in (*(path.read_bytes() for path in sources), json.dumps(self.data.captions).encode()):
            content.update(part)
        return content.hexdigest()[:12]

    def captions(self) -> Iterator[str]:
        """Every caption, of what is trained on and of what is not."""
        for row in track(range(self.originals), "reading captions"):
            yield from self.view(row)[1]


def moved(pixels: np.ndarray, rng: np.random.Generator, may_turn: bool) -> np.ndarray:
    """A picture, uint8 (size, size, 3) over white, a little moved, scaled and tilted, and mirrored by chance if it `may_turn`."""
    size, scale, tilt = len(pixels), rng.uniform(0.85, 1.2), rng.uniform(-0.2, 0.2)
    mirrored = -1 if may_turn and rng.random() < 0.5 else 1
    turn = scale * np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) * [mirrored, 1]
    middle = np.full(2, size / 2)
    offset = middle - turn @ (middle + rng.uniform(-0.08, 0.08, 2) * size)
    coefficients = (*turn[0], offset[0], *turn[1], offset[1])  # from a pixel of the copy to where it comes from
    picture = Image.fromarray(pixels).transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC,
                                                fillcolor="white")  # fmt: skip
    return np.asarray(picture)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pictures, uint8 (rows, size, size, 3), as float (rows, 3, size, size) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> Views:
    return Views(pictographs.load(cache, size), size)

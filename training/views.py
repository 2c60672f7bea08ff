"""What the model is trained to see: single pictures over white, and scenes composed of them, with their captions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

import pictographs
from pictographs import Pictographs
from scenes import Stock, compose

SCENES = 60_000
SEED = 0


@dataclass
class Views:
    """Views are numbered: the single pictures of `data`, then scenes, which are composed when they are asked for."""

    data: Pictographs
    size: int
    scenes: int = SCENES

    def __len__(self) -> int:
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
        return np.arange(len(self.data.pixels), len(self))

    def view(self, row: int) -> tuple[np.ndarray, list[str]]:
        """View `row`: pixels uint8 (size, size, 3), and captions."""
        if row < len(self.data.pixels):
            return self.data.over_white(np.array([row]))[0], self.data.captions[row]
        return compose(self.stock, self.size, SEED, row - len(self.data.pixels))

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
        for row in track(range(len(self)), "reading captions"):
            yield from self.view(row)[1]


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pictures, uint8 (rows, size, size, 3), as float (rows, 3, size, size) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> Views:
    return Views(pictographs.load(cache, size), size)

"""What the model is trained to see: single pictures over white, and scenes composed of them, with their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import pictographs
from pictographs import Pictographs
from scenes import Stock, compose

SCENES = 60_000
SEED = 0


@dataclass
class Views:
    """Views 0 ... N - 1 are the single pictures of `data`, the ones after them scenes, composed when they are asked for."""

    data: Pictographs
    size: int
    scenes: int = SCENES
    stock: Stock = field(init=False)

    def __post_init__(self) -> None:
        self.stock = Stock(self.data)

    def __len__(self) -> int:
        return len(self.data.pixels) + self.scenes

    @cached_property
    def train(self) -> np.ndarray:
        """Views that are trained on: but for the held-out pictures and names, and one scene in fifty."""
        return np.concatenate([self.data.train, self._scenes(lambda number: number % 50 != 0)])

    @cached_property
    def held_out(self) -> np.ndarray:
        """Views that are not trained on, of names that are."""
        return np.concatenate([self.data.held_out, self._scenes(lambda number: number % 50 == 0)])

    def _scenes(self, keep: Callable[[int], bool]) -> np.ndarray:
        return np.array([len(self.data.pixels) + number for number in range(self.scenes) if keep(number)], dtype=int)

    def view(self, row: int) -> tuple[np.ndarray, list[str]]:
        """View `row`: pixels uint8 (size, size, 3), and captions."""
        if row < len(self.data.pixels):
            return self.data.over_white(np.array([row]))[0], self.data.captions[row]
        return compose(self.stock, self.size, SEED, row - len(self.data.pixels))

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Views `rows` as float (len(rows), 3, size, size) in -1..1."""
        return as_tensor(np.stack([self.view(int(row))[0] for row in rows]))


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pictures, uint8 (rows, size, size, 3), as float (rows, 3, size, size) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> Views:
    return Views(pictographs.load(cache, size), size)

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
from lexicon import Lexicon, Word
from pictographs import Pictographs
from scenes import Stock, compose, gather
from words import WordNet

SCENES = 60_000
SEED = 0


@dataclass
class Views:
    """Views are numbered: the single pictures of `data`, then scenes by templates, then scenes for WordNet's example sentences.

    Scenes are composed when they are asked for.
    """

    data: Pictographs
    cache: Path
    size: int
    scenes: int = SCENES

    def __len__(self) -> int:
        return len(self.data.pixels) + self.scenes + len(self.sentences)

    @cached_property
    def stock(self) -> Stock:
        return Stock(self.data)

    @cached_property
    def lexicon(self) -> Lexicon:
        return Lexicon(WordNet(self.cache), self.data)

    @cached_property
    def sentences(self) -> list[tuple[str, list[np.ndarray]]]:
        return self.lexicon.sentences()

    @cached_property
    def words(self) -> list[Word]:
        """Words that no picture is named by, as further captions of single pictures."""
        return self.lexicon.words()

    @cached_property
    def train(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views that are trained on, of each sort: but for the held-out pictures and names, and one scene in fifty."""
        templates, sentences = (rows[np.arange(len(rows)) % 50 != 0] for rows in self._composed)
        return self.data.train, templates, sentences

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Views that are not trained on, of names that are, of each sort."""
        templates, sentences = self._composed
        return self.data.held_out, templates[::50], sentences[::50]

    @property
    def _composed(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = len(self.data.pixels), len(self.data.pixels) + self.scenes
        return np.arange(first, second), np.arange(second, len(self))

    def view(self, row: int) -> tuple[np.ndarray, list[str]]:
        """View `row`: pixels uint8 (size, size, 3), and captions."""
        if row < len(self.data.pixels):
            return self.data.over_white(np.array([row]))[0], self.data.captions[row]
        number = row - len(self.data.pixels)
        if number < self.scenes:
            return compose(self.stock, self.size, SEED, number)
        text, things = self.sentences[number - self.scenes]
        rng = np.random.default_rng((SEED, number))
        return gather([self.data.pixels[rng.choice(rows)] for rows in things], self.size, rng), [text]

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Views `rows` as float (len(rows), 3, size, size) in -1..1."""
        return as_tensor(np.stack([self.view(int(row))[0] for row in rows]))

    @cached_property
    def version(self) -> str:
        """A hash of what makes views and captions what they are, for what is kept of them."""
        sources = [Path(__file__).with_name(f"{name}.py") for name in ("views", "scenes", "lexicon", "words", "pictographs")]
        content = hashlib.sha256(self.data.pixels.tobytes())
        for part in (*(path.read_bytes() for path in sources), json.dumps(self.data.captions).encode()):
            content.update(part)
        return content.hexdigest()[:12]

    def captions(self) -> Iterator[str]:
        """Every caption, of what is trained on and of what is not."""
        for row in track(range(len(self)), "reading captions"):
            yield from self.view(row)[1]
        for word in self.words:
            yield from word.captions


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pictures, uint8 (rows, size, size, 3), as float (rows, 3, size, size) in -1..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def load(cache: Path, size: int) -> Views:
    return Views(pictographs.load(cache, size), cache, size)

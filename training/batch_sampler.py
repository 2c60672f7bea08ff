"""Random batches of latents and captions, drawn on the device of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import trainer
from augmentation import NUM_COPIES
from nearest_concepts import NearestConcepts

EMPTY_CAPTION = 0  # index of the empty text
CAPTION_DROPOUT = 0.1  # share of captions that are replaced by the empty text, as classifier-free guidance requires
COPY_SHARE = 0.7  # share of the drawings that are replaced by a random copy; the original is one of the 1 + NUM_COPIES copies


class RaggedLists:
    """Lists of integers of different lengths, from which random items are drawn in parallel."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        lengths = torch.tensor([len(items) for items in lists])
        self.lengths = lengths.to(trainer.DEVICE)
        self.starts = (lengths.cumsum(0) - lengths).to(trainer.DEVICE)
        self.items = torch.tensor([item for items in lists for item in items], dtype=torch.long, device=trainer.DEVICE)

    def sample(self, indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a random item of each of the lists `indices`, which must not be empty."""
        positions = (trainer.rand(indices.shape, generator) * self.lengths[indices]).long()
        return self.items[self.starts[indices] + torch.minimum(positions, self.lengths[indices] - 1)]


@dataclass
class BatchSampler:
    """Draw images and captions: drawings, scenes, and texts of WordNet with drawings of their nearest concepts.

    Attributes:
        indices: The indices of the drawings and of the scenes.
        nearest: The drawings for texts of WordNet, or None to draw no such texts.
        shares: The shares of drawings, scenes and texts of WordNet.
        captions_of_image: The indices of the captions of each image. Images without captions are not drawn.
        num_drawings: The number of all drawings; None uses no augmented copies.
    """

    indices: tuple[np.ndarray, np.ndarray]
    nearest: NearestConcepts | None
    shares: tuple[float, float, float]
    captions_of_image: list[list[int]]
    num_drawings: int | None = None

    def __post_init__(self) -> None:
        self._captions = RaggedLists(self.captions_of_image)
        drawings, scenes = ([int(i) for i in kind if self.captions_of_image[i]] for kind in self.indices)
        self._drawings = torch.tensor(drawings, device=trainer.DEVICE)
        self._scenes = torch.tensor(scenes, device=trainer.DEVICE)
        self._nearest_drawings = RaggedLists(self.nearest.drawing_indices) if self.nearest else None

    def __call__(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the indices of `batch_size` latents, and the index of a caption for each."""
        num_texts = round(batch_size * self.shares[2]) if self.nearest else 0
        num_scenes = round((batch_size - num_texts) * self.shares[1] / (self.shares[0] + self.shares[1]))
        drawings = trainer.sample(self._drawings, batch_size - num_texts - num_scenes, generator)
        scenes = trainer.sample(self._scenes, num_scenes, generator)
        captions = [self._captions.sample(torch.cat([drawings, scenes]), generator)]
        shown = drawings[:0]
        if self.nearest and self._nearest_drawings:
            texts, names = self.nearest.sample(num_texts, generator)
            shown = self._nearest_drawings.sample(names, generator)
            captions.append(texts)
        images = torch.cat([self._random_copies(drawings, generator), scenes, self._random_copies(shown, generator)])
        is_dropped = trainer.rand((batch_size,), generator) < CAPTION_DROPOUT
        return images, torch.cat(captions).masked_fill(is_dropped, EMPTY_CAPTION)

    def _random_copies(self, drawings: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Replace a part of the drawings by random augmented copies (the order of the copies is that of `autoencoder.encode`)."""
        if self.num_drawings is None:
            return drawings
        copies = (trainer.rand(drawings.shape, generator) * (1 + NUM_COPIES)).long() - 1
        is_copy = (trainer.rand(drawings.shape, generator) < COPY_SHARE) & (copies >= 0)
        return torch.where(is_copy, len(self.captions_of_image) + copies * self.num_drawings + drawings, drawings)

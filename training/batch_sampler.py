"""Random batches of latents and captions, drawn on the device of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import trainer
from augmentation import NUM_COPIES
from nearest_concepts import NearestConcepts
from recipe import Batches

EMPTY_CAPTION = 0  # index of the empty text
CAPTION_DROPOUT = 0.1  # share of captions that are replaced by the empty text, as classifier-free guidance requires
COPY_SHARE = 0.7  # share of the drawings that are replaced by a random copy; the original is one of the 1 + NUM_COPIES copies
# A name with fewer drawings than these has no typical one, and a name with more is that of a collection ("aiga symbol signs")
NUM_DRAWINGS = range(3, 21)
NAME_SHARE = 0.5  # share of the typical drawings whose caption is the name alone


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
        nearest: The names, and the names that are nearest to each text of WordNet. None draws only drawings and scenes.
        batches: The shares of the kinds of images. Without typical drawings, texts of WordNet are shown by any drawing of a name.
        captions_of_image: The indices of the captions of each image. Images without captions are not drawn.
        num_drawings: The number of all drawings; None uses no augmented copies.
    """

    indices: tuple[np.ndarray, np.ndarray]
    nearest: NearestConcepts | None
    batches: Batches
    captions_of_image: list[list[int]]
    num_drawings: int | None = None

    def __post_init__(self) -> None:
        self._captions = RaggedLists(self.captions_of_image)
        drawings, scenes = ([int(i) for i in kind if self.captions_of_image[i]] for kind in self.indices)
        self._drawings = torch.tensor(drawings, device=trainer.DEVICE)
        self._scenes = torch.tensor(scenes, device=trainer.DEVICE)
        if self.nearest:
            shown = [[i] for i in self.nearest.typical_drawings] if self.batches.typical else self.nearest.drawing_indices
            self._named_drawings = RaggedLists(shown)
            self._names = torch.tensor(self.nearest.name_indices, device=trainer.DEVICE)
            common = [len(indices) in NUM_DRAWINGS for indices in self.nearest.drawing_indices]
            self._common_names = torch.tensor(common, device=trainer.DEVICE).nonzero()[:, 0]

    def __call__(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the indices of `batch_size` latents, and the index of a caption for each."""
        shares = self.batches
        num_texts = round(batch_size * shares.texts) if self.nearest else 0
        num_typical = round(batch_size * shares.typical) if self.nearest and len(self._common_names) else 0
        num_others = batch_size - num_typical - num_texts
        num_scenes = round(num_others * shares.scenes / (shares.drawings + shares.scenes))
        drawings = trainer.sample(self._drawings, num_others - num_scenes, generator)
        scenes = trainer.sample(self._scenes, num_scenes, generator)
        images = [self._random_copies(drawings, COPY_SHARE, generator), scenes]
        captions = [self._captions.sample(torch.cat([drawings, scenes]), generator)]
        if self.nearest:
            texts, names = self.nearest.sample(num_texts, generator)
            shown = self._named_drawings.sample(names, generator)
            images.append(self._random_copies(shown, COPY_SHARE, generator))
            captions.append(texts)
        if self.nearest and num_typical:
            names = trainer.sample(self._common_names, num_typical, generator)
            typical = self._named_drawings.sample(names, generator)
            images.append(typical)
            is_name = trainer.rand(names.shape, generator) < NAME_SHARE
            captions.append(torch.where(is_name, self._names[names], self._captions.sample(typical, generator)))
        is_dropped = trainer.rand((batch_size,), generator) < CAPTION_DROPOUT
        return torch.cat(images), torch.cat(captions).masked_fill(is_dropped, EMPTY_CAPTION)

    def _random_copies(self, drawings: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        """Replace a part of the drawings by random augmented copies (the order of the copies is that of `autoencoder.encode`)."""
        if self.num_drawings is None:
            return drawings
        copies = (trainer.rand(drawings.shape, generator) * (1 + NUM_COPIES)).long() - 1
        is_copy = (trainer.rand(drawings.shape, generator) < share) & (copies >= 0)
        return torch.where(is_copy, len(self.captions_of_image) + copies * self.num_drawings + drawings, drawings)

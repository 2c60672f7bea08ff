"""Random batches of training images and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearest_concepts import NearestConcepts

EMPTY_CAPTION = 0  # index of the empty text
CAPTION_DROPOUT = 0.1  # share of captions that are replaced by the empty text, as classifier-free guidance requires


@dataclass
class BatchSampler:
    """Draw images and captions: drawings, scenes, and texts of WordNet with drawings of their nearest concepts.

    Attributes:
        indices: The indices of the drawings and of the scenes.
        nearest: The drawings for texts of WordNet, or None to draw no such texts.
        shares: The shares of drawings, scenes and texts of WordNet.
        captions_of_image: The indices of the captions of each image.
        random_copy: Replaces the index of a drawing by the index of a random augmented copy. None uses no copies.
    """

    indices: tuple[np.ndarray, np.ndarray]
    nearest: NearestConcepts | None
    shares: tuple[float, ...]
    captions_of_image: list[list[int]]
    random_copy: Callable[[int, np.random.Generator], int] | None = None

    def __call__(self, rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, list[int]]:
        """Return the indices of `batch_size` images, and the index of a caption for each."""
        images, captions = [], []
        shares = np.array(self.shares if self.nearest else self.shares[:2])
        for kind in rng.choice(len(shares), batch_size, p=shares / shares.sum()):
            if kind < 2:
                image = int(rng.choice(self.indices[kind]))
                choices = self.captions_of_image[image]
                caption = choices[rng.integers(len(choices))] if choices else EMPTY_CAPTION
            else:
                assert self.nearest
                image, caption = self.nearest.sample(rng)
            images.append(self.random_copy(image, rng) if self.random_copy else image)
            captions.append(EMPTY_CAPTION if rng.random() < CAPTION_DROPOUT else caption)
        return np.array(images), captions

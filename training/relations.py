"""The relation term: distances between predictions must be proportional to distances between text embeddings.

Training reduces the effect of the text where the noisy image already shows the thing. The term keeps the ratios of the distances,
for texts that are far apart and for texts that are near each other: definitions of which one word is changed, and points between
two texts. Everything is computed in float32, because bfloat16 is too coarse for small differences of large numbers.

Reference:
    Park et al. 2019, arXiv 1904.05068 (distillation of distances).
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

import torch

import trainer
from lexicon import WordNet

MIN_INTERPOLATION, MAX_INTERPOLATION = 0.03, 0.7  # distance of a point from one text, as a share of that to the other
DISTANCE_FLOOR = 1e-4  # of squared distances; far above rounding errors in float32


def changed_definitions(wordnet: WordNet) -> list[tuple[str, str]]:
    """Return the definitions of common nouns of WordNet, each with a copy in which one noun is replaced by another noun."""
    rng = random.Random(0)
    nouns = sorted(
        {
            lemma
            for key in wordnet.common
            if key[0] == "n"
            for lemma in wordnet.synsets[key].lemmas
            if re.fullmatch("[a-z]{4,}", lemma)
        }
    )
    known = set(nouns)
    pairs = []
    for key in sorted(wordnet.common):
        definition = wordnet.synsets[key].definition
        places = [match for match in re.finditer("[a-z]+", definition) if match.group() in known]
        if key[0] == "n" and places:
            place = rng.choice(places)
            pairs.append((definition, definition[: place.start()] + rng.choice(nouns) + definition[place.end() :]))
    return pairs


@dataclass
class TextSampler:
    """Draw groups of texts for the relation term.

    Attributes:
        vectors: The embeddings of all texts, shape (texts, dimensions), on `trainer.DEVICE`.
        texts: The indices of the texts of WordNet, on `trainer.DEVICE`.
        pairs: The indices of the definitions and of their changed copies, shape (pairs, 2), on `trainer.DEVICE`.
    """

    vectors: torch.Tensor
    texts: torch.Tensor
    pairs: torch.Tensor

    def __call__(self, number: int, generator: torch.Generator) -> torch.Tensor:
        """Return `number` groups of eight vectors: two texts, a definition and its changed copy, and a point near each of them.

        Returns:
            The vectors with a mean square of 1, float32 of shape (number, 8, dimensions).
        """
        texts = trainer.sample(self.texts, 2 * number, generator).view(number, 2)
        corners = self.vectors[torch.cat([texts, trainer.sample(self.pairs, number, generator)], 1)].float()
        low, high = math.log(MIN_INTERPOLATION), math.log(MAX_INTERPOLATION)
        position = (low + (high - low) * trainer.rand((number, 4, 1), generator)).exp()
        vectors = torch.cat([corners, torch.lerp(corners, corners.roll(1, 1), position)], 1)
        return vectors / vectors.square().mean(-1, keepdim=True).sqrt()


def relation_loss(predictions: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return the mean variance, over pairs of texts, of the log ratio of two squared distances.

    The distances are those between the predictions and those between the texts. A common factor of all distances is free.

    Args:
        predictions: The predictions for noisy images under several texts each, float32 of shape (images, texts, values).
        vectors: The text embeddings, float32 of shape (images, texts, dimensions).
    """
    assert predictions.dtype == vectors.dtype == torch.float32
    first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1, device=vectors.device)

    def log_distances(values: torch.Tensor) -> torch.Tensor:
        return (values[:, first] - values[:, second]).square().sum(-1).clamp_min(DISTANCE_FLOOR).log()

    return (log_distances(predictions) - log_distances(vectors)).var(1).mean()

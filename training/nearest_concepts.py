"""Drawings for texts that name no drawing: the drawings of the concepts whose names have the nearest embeddings.

The embeddings are those of the model's own text encoder. For "to coach" the nearest concept is a teacher, for "a nautical mile" a
speedboat. In this way words that cannot be drawn, and sentences, also have training images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import trainer
from captions import CaptionEmbeddings
from grammar import article
from lexicon import Synset, WordNet
from pictographs import Pictographs

NUM_NEAREST = 3  # concepts per text
TEMPERATURE = 0.02  # of the softmax over cosines that gives the probability of each nearest concept
BLOCK_SIZE = 4096  # texts per matrix product


def wordnet_texts(wordnet: WordNet) -> Iterator[str]:
    """Yield the example sentences of WordNet, and the words and definitions of its common synsets."""
    for key in sorted(wordnet.synsets):
        synset = wordnet.synsets[key]
        yield from synset.examples
        if key in wordnet.common:
            yield from synset_texts(key[0], synset)


def synset_texts(part_of_speech: str, synset: Synset) -> list[str]:
    """Return the words, the definition and some phrases of a noun, verb, adjective or adverb (n, v, a, r)."""
    words = [word for word in synset.lemmas if not word[0].isupper()] or list(synset.lemmas)
    phrases = {
        "n": (f"{article(words[0])} {words[0]}", f"the {words[0]}"),
        "v": (f"to {words[0]}", f"someone will {words[0]}"),
        "a": (f"something {words[0]}", f"it is {words[0]}"),
    }
    return [*words[:4], synset.definition, *phrases.get(part_of_speech, ())]


def most_typical(latents: torch.Tensor, indices: list[int]) -> int:
    """Return the one of some images whose latents have the smallest mean distance to those of the others.

    Args:
        latents: The latents of all images, shape (images, ...).
        indices: The indices of the images to choose from.
    """
    values = latents[indices].float().flatten(1)
    return indices[int(torch.cdist(values, values).mean(1).argmin())]


def untypical(latents: torch.Tensor) -> list[int]:
    """Return the indices of all images but the most typical one. `latents` has the shape (images, ...)."""
    indices = list(range(len(latents)))
    indices.remove(most_typical(latents, indices))
    return indices


class NearestConcepts:
    """The nearest concepts of the texts of WordNet.

    Only training drawings of emoji and of nouns of WordNet are used, because the titles of much clip art say little.

    Attributes:
        text_indices: The indices of the texts among the caption embeddings.
        name_indices: The indices of the names among the caption embeddings.
        drawing_indices: The indices of the training drawings of each name.
        typical_drawings: The index of the most typical drawing of each name.
    """

    def __init__(self, captions: CaptionEmbeddings, wordnet: WordNet, drawings: Pictographs, latents: torch.Tensor) -> None:
        indices: dict[str, list[int]] = {}
        for index in drawings.train_indices:
            concept = drawings.concepts[index]
            if concept.subgroup or concept.label.lower() in wordnet.senses["n"]:
                indices.setdefault(concept.label, []).append(int(index))
        names = [name for name in indices if captions.indices([name])]
        self.name_indices = captions.indices(names)
        self.drawing_indices = [indices[name] for name in names]
        self.typical_drawings = [most_typical(latents, indices[name]) for name in names]
        self.text_indices = np.array(sorted(set(captions.indices(wordnet_texts(wordnet)))))
        name_vectors = captions.vectors[self.name_indices].float()
        name_vectors = name_vectors / name_vectors.norm(dim=1, keepdim=True)
        nearest, cumulative = [], []
        for start in range(0, len(self.text_indices), BLOCK_SIZE):
            text_vectors = captions.vectors[self.text_indices[start : start + BLOCK_SIZE]].float()
            text_vectors = text_vectors / text_vectors.norm(dim=1, keepdim=True)
            cosines, nearest_names = (text_vectors @ name_vectors.T).topk(NUM_NEAREST, dim=1)
            nearest.append(nearest_names)
            cumulative.append((cosines / TEMPERATURE).softmax(1).cumsum(1))
        self._nearest, self._cumulative = (torch.cat(parts).to(trainer.DEVICE) for parts in (nearest, cumulative))
        self._text_indices = torch.from_numpy(self.text_indices).to(trainer.DEVICE)

    def sample(self, number: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the indices of random texts of WordNet, and for each the number of a name that is nearest or nearly so.

        `drawing_indices` has the drawings of that name.
        """
        texts = torch.randint(len(self.text_indices), (number,), generator=generator, device=trainer.DEVICE)
        ranks = (trainer.rand((number, 1), generator) > self._cumulative[texts]).sum(1)
        names = self._nearest[texts, ranks.clamp_max(NUM_NEAREST - 1)]  # rounding can leave the last probability below 1
        return self._text_indices[texts], names

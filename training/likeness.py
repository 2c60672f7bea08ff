"""What texts look like that no picture is named by: the pictures of the names that lie nearest to them.

Nearest for the text encoder that the model itself hears through: "to coach" looks like a teacher, "a nautical mile" like a
speedboat. So words for what nobody draws, and sentences, have something to look at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from captions import Captions
from pictographs import Pictographs, article
from words import Synset, WordNet

NAMES = 3  # that a text may be shown by
SHARPNESS = 0.02  # difference of cosines by which a name is e times as likely as another


def texts(net: WordNet) -> Iterator[str]:
    """What WordNet says: the words of its common meanings and their glosses, and its example sentences."""
    for key in sorted(net.synsets):
        synset = net.synsets[key]
        yield from synset.examples
        if key in net.common:
            yield from told(key[0], synset)


def told(part: str, synset: Synset) -> list[str]:
    """Texts for a meaning that is a noun, verb, adjective or adverb (n, v, a, r)."""
    words = [word for word in synset.words if not word[0].isupper()] or list(synset.words)
    phrases = {
        "n": (f"{article(words[0])} {words[0]}", f"the {words[0]}"),
        "v": (f"to {words[0]}", f"someone will {words[0]}"),
        "a": (f"something {words[0]}", f"it is {words[0]}"),
    }
    return [*words[:4], synset.gloss, *phrases.get(part, ())]


class Likeness:
    """Pictures for WordNet's texts, all of them training pictures of emoji and of what a noun of WordNet names: many a piece of
    clip art has a title that says nothing."""

    def __init__(self, captions: Captions, net: WordNet, data: Pictographs) -> None:
        rows: dict[str, list[int]] = {}
        for row in data.train:
            meaning = data.meanings[row]
            if meaning.key or meaning.label.lower() in net.senses["n"]:
                rows.setdefault(meaning.label, []).append(int(row))
        names = [name for name in rows if captions.numbers([name])]
        self._rows = [np.array(rows[name]) for name in names]
        self.texts = np.array(sorted(set(captions.numbers(texts(net)))))
        directions = captions.vectors[captions.numbers(names)].float()
        directions = directions / directions.norm(dim=1, keepdim=True)
        nearest, chances = [], []
        for at in range(0, len(self.texts), 4096):
            asked = captions.vectors[self.texts[at : at + 4096]].float()
            cosines, found = ((asked / asked.norm(dim=1, keepdim=True)) @ directions.T).topk(NAMES, dim=1)
            nearest.append(found.numpy())
            chances.append((cosines / SHARPNESS).softmax(1).cumsum(1).numpy())
        self._nearest, self._chances = np.concatenate(nearest), np.concatenate(chances)

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """A picture's row, and the number of the text that it is shown for."""
        at = rng.integers(len(self.texts))
        place = min(int(np.searchsorted(self._chances[at], rng.random())), NAMES - 1)  # chances may add up to a hair below 1
        name = self._nearest[at, place]
        return int(rng.choice(self._rows[name])), int(self.texts[at])

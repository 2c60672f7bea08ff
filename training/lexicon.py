"""What words look like that no picture is named by: WordNet leads from them to pictures of what they mean.

"pony" to a horse, "vehicle" to cars, boats and aeroplanes, "to sing" to a singer, "joyful" to faces full of joy. Meanings that
nothing pictured is near to are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from pictographs import Pictographs, article
from words import Key, Synset, WordNet

MOST = 16  # pictures that a word can have
TOO_MANY = 400  # pictures under a meaning beyond which it is too general to look like anything
# Words that look like nothing, or that stand in sentences for too much
STOP = frozenset(re.findall(r"\w+", """
    a an the and or but of to in on at by for with from as is are was were be been being am do does did done has have had having
    it its he she they him his her their you your i we us me my our this that these those there here not no so if than then
    very too will would can could should may might must shall who whom which what when where how why all any some each such own
    same more most other into over up down out off about just only get got go went let make made take took put set
"""))  # fmt: skip


@dataclass(frozen=True)
class Word:
    """A meaning: `rows`, the pictures that show it, and what it is called and told by."""

    rows: np.ndarray
    captions: list[str]


class Lexicon:
    """Pictures for meanings and for the words of a sentence, all of them training pictures."""

    def __init__(self, net: WordNet, data: Pictographs) -> None:
        self.net = net
        self._direct: dict[Key, list[int]] = {}  # pictures named by just this
        self._below: dict[Key, list[int]] = {}  # pictures of a kind of this
        self._filed: dict[str, list[int]] = {}  # pictures that have this word among their keywords
        for row in map(int, data.train):
            meaning = data.meanings[row]
            if key := meaning.sense(net):
                self._direct.setdefault(key, []).append(row)
                above, seen = list(net.synsets[key].above), {key}
                while above:
                    if (kind := above.pop()) not in seen:
                        seen.add(kind)
                        self._below.setdefault(kind, []).append(row)
                        above += net.synsets[kind].above
            for word in {word.lower() for word in meaning.keywords}:
                for form in {word, *(net.lemma(word, part) for part in "nva")} - {None}:
                    self._filed.setdefault(str(form), []).append(row)

    def pictures(self, key: Key, steps: int = 2) -> list[int]:
        """Pictures that show meaning `key`, best first: of just that, filed under its words, of its kinds, of what it is near."""
        synset = self.net.synsets[key]
        found = list(self._direct.get(key, ()))
        for word in synset.words[:3]:
            if key in self.net.senses[key[0]].get(word.lower(), ())[:2]:  # a keyword is meant in a common sense
                found += self._filed.get(word.lower(), ())
        below = self._below.get(key, ())
        if len(found) < 2 and 0 < len(below) < TOO_MANY:
            found += below
        if not found and steps:
            for other in (*synset.above, *synset.near):
                found += self.pictures(other, steps - 1)
        return list(dict.fromkeys(found))

    def words(self) -> list[Word]:
        """Every common meaning that has pictures."""
        found = []
        for key in sorted(self.net.common):
            rows = spread(self.pictures(key), MOST)
            if len(rows):
                found.append(Word(rows, told(key[0], self.net.synsets[key])))
        return found

    def sentences(self) -> list[tuple[str, list[np.ndarray]]]:
        """WordNet's example sentences, each with the pictures of up to three of its words, in their order."""
        found = []
        for key in sorted(self.net.synsets):
            for text in self.net.synsets[key].examples:
                things = self._things(text, key)
                if things and len(text.split()) > 1:
                    found.append((text, things))
        return found

    def _things(self, text: str, key: Key) -> list[np.ndarray]:
        things: list[np.ndarray] = []
        for word in re.findall("[a-z]+", text.lower()):
            if word in STOP:
                continue
            named = self.net.lemma(word, key[0]) in {one.lower() for one in self.net.synsets[key].words}
            sense = key if named else self._sense(word)
            rows = spread(self.pictures(sense, 1) if sense else [], MOST)
            if len(rows) and not any(set(rows) & set(other) for other in things):
                things.append(rows)
        return things[:3]

    def _sense(self, word: str) -> Key | None:
        """The commonest meaning of `word` as a noun, else as a verb, else as an adjective."""
        for part in "nva":
            if (lemma := self.net.lemma(word, part)) and (key := self.net.senses[part][lemma][0]) in self.net.common:
                return key
        return None


def told(part: str, synset: Synset) -> list[str]:
    """Texts for a meaning: its words most often, then its gloss."""
    words = [word for word in synset.words if not word[0].isupper()] or list(synset.words)
    phrases = [words[0], words[0], *words[:4], synset.gloss]
    if part == "n":
        phrases += [f"{article(words[0])} {words[0]}", f"the {words[0]}"]
    if part == "v":
        phrases += [f"to {words[0]}", f"someone will {words[0]}"]
    if part == "a":
        phrases += [f"something {words[0]}", f"it is {words[0]}"]
    return phrases


def spread(rows: list[int], most: int) -> np.ndarray:
    """At most `most` of `rows`, evenly from all of them."""
    chosen = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(most, len(rows))).round().astype(int))
    return np.array(rows, dtype=int)[chosen]

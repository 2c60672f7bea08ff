"""What the names of pictures mean: emojibase's names, keywords and kinds, and WordNet's synonyms, kinds and glosses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sources import EMOJI, NAMES, WORDNET, download


def squash(name: str) -> str:
    """`name` without case, spaces and punctuation: the packages spell one name in several ways."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Meaning:
    """What is known of a picture: its name, its keywords, the kind of thing it is filed under, and that kind's key."""

    label: str
    keywords: tuple[str, ...] = ()
    kind: str = ""
    key: str = ""


def names_of(cache: Path) -> dict[str, Meaning]:
    """What a squashed icon name means, from emojibase and from the code points that some packages list."""
    root = download(NAMES, cache) / "en"
    known: dict[str, Meaning] = {}
    by_code: dict[str, Meaning] = {}
    kinds = {
        kind["order"]: (kind["message"], kind["key"]) for kind in json.loads((root / "messages.json").read_text())["subgroups"]
    }
    for entry in json.loads((root / "data.json").read_text()):
        label = entry["label"].replace("“", "").replace("”", "")
        meaning = Meaning(label, tuple(entry.get("tags", ())), *kinds.get(entry.get("subgroup"), ("", "")))
        by_code[entry["hexcode"].replace("-FE0F", "").lower()] = meaning
    for path in sorted((root / "shortcodes").glob("*.json")):
        for code, names in json.loads(path.read_text()).items():
            if found := by_code.get(code.replace("-FE0F", "").lower()):
                for name in [names] if isinstance(names, str) else names:
                    known.setdefault(squash(name), found)
    for source in EMOJI:
        for code, name in json.loads((download(source, cache) / "chars.json").read_text()).items():
            if found := by_code.get(code.replace("-fe0f", "")):
                known[squash(name)] = found
    known.update({squash(meaning.label): meaning for meaning in by_code.values()})
    return known


@dataclass(frozen=True)
class Sense:
    """A sense of a noun in WordNet. words: those that share it. above: kinds it belongs to, nearest first. gloss: what it is."""

    words: tuple[str, ...]
    above: tuple[str, ...]
    gloss: str

    @property
    def vocabulary(self) -> set[str]:
        """Its words, for comparison with others."""
        return {word for text in (*self.words, *self.above, self.gloss) for word in re.findall("[a-z]{3,}", text.lower())}


class WordNet:
    """The nouns of WordNet 3.0."""

    def __init__(self, cache: Path) -> None:
        folder = download(WORDNET, cache) / "usr" / "share" / "wordnet"
        self._data = (folder / "data.noun").read_text().splitlines(keepends=True)
        self._at: dict[int, int] = {}
        offset = 0
        for number, line in enumerate(self._data):
            self._at[offset] = number
            offset += len(line.encode())
        self._senses = {}
        for line in (folder / "index.noun").read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split()
                self._senses[fields[0]] = [int(at) for at in fields[-int(fields[2]) :]]

    def sense(self, name: str, about: Sequence[str] = ()) -> Sense | None:
        """What `name` means, or its last words where the whole is unknown ("bengal tiger", then "tiger").

        Of several senses, the one that has most words in common with what else the picture is filed under (Lesk 1986); the
        commonest where that does not tell.
        """
        words = re.sub(r"[^a-z' -]", "", name.lower()).split()
        for start in range(len(words)):
            lemma = "_".join(words[start:])
            if lemma in self._senses:
                known = [self._sense(at) for at in self._senses[lemma][:8]]
                context = {word for text in about for word in re.findall("[a-z]{3,}", text.lower())} - {words[-1]}
                return max(known, key=lambda sense: len(context & sense.vocabulary))
        return None

    def _sense(self, offset: int) -> Sense:
        words, parents, gloss = self._synset(offset)
        above: list[str] = []
        while parents and len(above) < 4:
            kind, parents, _ = self._synset(parents[0])
            above.append(kind[0])
        return Sense(words, tuple(above), gloss)

    def _synset(self, offset: int) -> tuple[tuple[str, ...], list[int], str]:
        told, _, gloss = self._data[self._at[offset]].partition("|")
        fields = told.split()
        count = int(fields[3], 16)
        words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count :]
        parents = [int(pointers[i + 1]) for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i")]
        return words, parents, gloss.split(";")[0].strip()

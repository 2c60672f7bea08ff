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

    def sense(self, net: WordNet) -> Key | None:
        """Its meaning in WordNet, if it has one there."""
        return net.sense(self.label, (*self.keywords, self.kind))


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


Key = tuple[str, int]  # part of speech (n, v, a, r) and place in its file


@dataclass(frozen=True)
class Synset:
    """A meaning in WordNet. words: those that share it. gloss: what it is. examples: sentences with it. above: more general
    meanings, nearest kind first."""

    words: tuple[str, ...]
    gloss: str
    examples: tuple[str, ...]
    above: tuple[Key, ...]


class WordNet:
    """WordNet 3.0: `synsets[key]`, and `senses[part of speech][lemma]`, the commonest first.

    common: the meanings that some lemma was tagged with in running text, which leaves out what only specialists say.
    """

    def __init__(self, cache: Path) -> None:
        folder = download(WORDNET, cache) / "usr" / "share" / "wordnet"
        self.synsets: dict[Key, Synset] = {}
        self.senses: dict[str, dict[str, list[Key]]] = {}
        self.common: set[Key] = set()
        for part, file in {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}.items():
            for line in (folder / f"data.{file}").read_text().splitlines():
                if not line.startswith(" "):
                    self.synsets[part, int(line[:8])] = self._read(line)
            lemmas = self.senses[part] = {}
            for line in (folder / f"index.{file}").read_text().splitlines():
                if not line.startswith(" "):
                    fields = line.split()
                    keys = [(part, int(at)) for at in fields[-int(fields[2]) :]]
                    lemmas[fields[0].replace("_", " ")] = keys
                    self.common.update(keys[: int(fields[-int(fields[2]) - 1])])

    def sense(self, name: str, about: Sequence[str] = ()) -> Key | None:
        """What the noun `name` means, or its last words where the whole is unknown ("bengal tiger", then "tiger").

        Of several senses, the one that has most words in common with what else the picture is filed under (Lesk 1986); the
        commonest where that does not tell.
        """
        words = re.sub(r"[^a-z' -]", "", name.lower()).split()
        for start in range(len(words)):
            if known := self.senses["n"].get(" ".join(words[start:])):
                context = {word for text in about for word in re.findall("[a-z]{3,}", text.lower())} - {words[-1]}
                return max(known[:8], key=lambda key: len(context & self._vocabulary(key)))
        return None

    def kinds(self, key: Key, most: int) -> list[str]:
        """Names of what `key` is a kind of, nearest first."""
        found: list[str] = []
        while self.synsets[key].above and len(found) < most:
            key = self.synsets[key].above[0]
            found.append(self.synsets[key].words[0])
        return found

    def _vocabulary(self, key: Key) -> set[str]:
        synset = self.synsets[key]
        texts = (*synset.words, *self.kinds(key, 4), synset.gloss)
        return {word for text in texts for word in re.findall("[a-z]{3,}", text.lower())}

    @staticmethod
    def _read(line: str) -> Synset:
        told, _, gloss = line.partition("|")
        fields = told.split()
        count = int(fields[3], 16)
        words = tuple(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
        start = 5 + 2 * count  # after the number of pointers, each of which takes four fields
        pointers = [fields[at : at + 4] for at in range(start, start + 4 * int(fields[start - 1]), 4)]

        above = tuple((part, int(at)) for symbol, at, part, _ in pointers if symbol in ("@", "@i"))
        examples = tuple(text.strip() for text in re.findall(r'"([^"]+)"', gloss))
        return Synset(words, gloss.split(";")[0].strip(), examples, above)

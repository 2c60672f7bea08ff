"""Names of the training drawings and their meaning.

The names, keywords and categories come from emojibase, the synonyms, hypernyms and definitions from WordNet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sources import EMOJI_SETS, EMOJIBASE, WORDNET, download

SynsetKey = tuple[str, int]  # part of speech (n, v, a, r) and byte offset in its data file

WORDNET_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
MAX_SENSES = 8  # senses of a noun that disambiguation considers
SIGNATURE_HYPERNYMS = 4  # hypernyms whose names count as context of a sense


def normalize_name(name: str) -> str:
    """Return `name` in lower case without spaces and punctuation, because the packages spell the same name differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Concept:
    """What a drawing shows.

    Attributes:
        label: The name of the concept.
        keywords: Further words for it.
        category: The name of the category that the drawing belongs to.
        subgroup: The key of that category in emojibase, or an empty string.
    """

    label: str
    keywords: tuple[str, ...] = ()
    category: str = ""
    subgroup: str = ""

    def synset_key(self, wordnet: WordNet) -> SynsetKey | None:
        """Return the WordNet synset of the label, or None if WordNet does not contain it."""
        return wordnet.disambiguate(self.label, (*self.keywords, self.category))


def load_emoji_concepts(cache: Path) -> dict[str, Concept]:
    """Return the concepts of emoji by normalized icon name, from emojibase and from the code points that some packages list."""
    root = download(EMOJIBASE, cache) / "en"
    by_name: dict[str, Concept] = {}
    by_code: dict[str, Concept] = {}
    subgroups = {
        subgroup["order"]: (subgroup["message"], subgroup["key"])
        for subgroup in json.loads((root / "messages.json").read_text())["subgroups"]
    }
    for entry in json.loads((root / "data.json").read_text()):
        label = entry["label"].replace("“", "").replace("”", "")
        concept = Concept(label, tuple(entry.get("tags", ())), *subgroups.get(entry.get("subgroup"), ("", "")))
        by_code[entry["hexcode"].replace("-FE0F", "").lower()] = concept
    for path in sorted((root / "shortcodes").glob("*.json")):
        for code, names in json.loads(path.read_text()).items():
            if code_concept := by_code.get(code.replace("-FE0F", "").lower()):
                for name in [names] if isinstance(names, str) else names:
                    by_name.setdefault(normalize_name(name), code_concept)
    for source in EMOJI_SETS:
        for code, name in json.loads((download(source, cache) / "chars.json").read_text()).items():
            if code_concept := by_code.get(code.replace("-fe0f", "")):
                by_name[normalize_name(name)] = code_concept
    by_name.update({normalize_name(concept.label): concept for concept in by_code.values()})
    return by_name


@dataclass(frozen=True)
class Synset:
    """A synset of WordNet: a set of synonyms.

    Attributes:
        lemmas: The synonyms.
        definition: The first part of the gloss.
        examples: The example sentences of the gloss.
        hypernyms: The keys of the more general synsets, nearest first.
    """

    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    hypernyms: tuple[SynsetKey, ...]


class WordNet:
    """WordNet 3.0.

    Attributes:
        synsets: The synsets by key.
        senses: The synset keys by part of speech and lemma, most frequent sense first.
        common: The keys of the synsets that occur in WordNet's sense-tagged texts. Rare technical senses are not among them.
    """

    def __init__(self, cache: Path) -> None:
        folder = download(WORDNET, cache) / "usr" / "share" / "wordnet"
        self.synsets: dict[SynsetKey, Synset] = {}
        self.senses: dict[str, dict[str, list[SynsetKey]]] = {}
        self.common: set[SynsetKey] = set()
        for part_of_speech, file in WORDNET_FILES.items():
            for line in (folder / f"data.{file}").read_text().splitlines():
                if not line.startswith(" "):  # lines of the licence start with a blank
                    self.synsets[part_of_speech, int(line[:8])] = _parse_synset(line)
            lemmas = self.senses[part_of_speech] = {}
            for line in (folder / f"index.{file}").read_text().splitlines():
                if not line.startswith(" "):
                    fields = line.split()
                    num_senses = int(fields[2])
                    num_tagged = int(fields[-num_senses - 1])
                    keys = [(part_of_speech, int(offset)) for offset in fields[-num_senses:]]
                    lemmas[fields[0].replace("_", " ")] = keys
                    self.common.update(keys[:num_tagged])

    def disambiguate(self, name: str, context: Sequence[str] = ()) -> SynsetKey | None:
        """Return the synset of the noun `name`.

        If WordNet does not contain the name, its last words are looked up ("bengal tiger", then "tiger"). Among several senses,
        the one with the largest word overlap with the context is returned, and the most frequent one if the overlaps are equal.

        Args:
            name: The noun or noun phrase.
            context: Other texts that describe the same thing, such as keywords.

        Returns:
            The key of the synset, or None if no ending of the name is a noun of WordNet.

        Reference:
            Lesk, Automatic sense disambiguation using machine readable dictionaries, 1986.
        """
        words = re.sub(r"[^a-z' -]", "", name.lower()).split()
        for start in range(len(words)):
            if keys := self.senses["n"].get(" ".join(words[start:])):
                context_words = {word for text in context for word in re.findall("[a-z]{3,}", text.lower())} - {words[-1]}
                return max(keys[:MAX_SENSES], key=lambda key: len(context_words & self._signature(key)))
        return None

    def hypernym_names(self, key: SynsetKey, limit: int) -> list[str]:
        """Return the first lemmas of up to `limit` hypernyms of the synset, nearest first."""
        names: list[str] = []
        while self.synsets[key].hypernyms and len(names) < limit:
            key = self.synsets[key].hypernyms[0]
            names.append(self.synsets[key].lemmas[0])
        return names

    def _signature(self, key: SynsetKey) -> set[str]:
        """Return the words that describe a synset."""
        synset = self.synsets[key]
        texts = (*synset.lemmas, *self.hypernym_names(key, SIGNATURE_HYPERNYMS), synset.definition)
        return {word for text in texts for word in re.findall("[a-z]{3,}", text.lower())}


def _parse_synset(line: str) -> Synset:
    """Parse a line of a WordNet data file; its format is documented in wndb(5)."""
    record, _, gloss = line.partition("|")
    fields = record.split()
    num_words = int(fields[3], 16)
    lemmas = tuple(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * num_words : 2])
    start = 5 + 2 * num_words  # after the number of pointers; each pointer has four fields
    num_pointers = int(fields[start - 1])
    pointers = [fields[i : i + 4] for i in range(start, start + 4 * num_pointers, 4)]
    hypernyms = tuple((part_of_speech, int(offset)) for symbol, offset, part_of_speech, _ in pointers if symbol in ("@", "@i"))
    examples = tuple(text.strip() for text in re.findall(r'"([^"]+)"', gloss))
    return Synset(lemmas, gloss.split(";")[0].strip(), examples, hypernyms)

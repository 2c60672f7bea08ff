"""Exclude captions from training that would contaminate an evaluation: names of unseen concepts, and texts of benchmarks.

    python training/contamination.py --data FOLDER     # recompute contamination.txt from the datasets in FOLDER

Definitions of WordNet occur in STS12 to STS14 (OnWN, FNWN), and a template can produce a sentence of STS-B. `contamination.txt`
holds the hashes of the captions that are texts of a benchmark, so that training does not need the benchmarks. Texts of one or two
words are not excluded: they are names of things, without which a text-to-image model cannot be trained.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import augmentation
from config import CACHE_FOLDER, IMAGE_SIZE, TRAINING_FOLDER
from lexicon import WordNet
from nearest_concepts import wordnet_texts
from pictographs import Pictographs

HASH_FILE = TRAINING_FOLDER / "contamination.txt"
MIN_WORDS = 3  # shorter texts are names


def text_hash(text: str) -> str:
    """Return a short hash of `text`, ignoring case and punctuation. It is empty for a text of fewer than `MIN_WORDS` words."""
    words = re.findall("[a-z0-9]+", text.lower())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12] if len(words) >= MIN_WORDS else ""


def caption_hashes(caption: str) -> set[str]:
    """Return the hashes of a caption and of the part behind its first colon, because a caption can be "name: definition"."""
    return {text_hash(caption), text_hash(caption.partition(": ")[2])} - {""}


class CaptionFilter:
    """Decide whether a caption may be used for training."""

    def __init__(self, drawings: Pictographs) -> None:
        names = sorted({drawings.concepts[index].label.lower() for index in drawings.unseen_indices})
        spellings = (r"[\W_]*".join(map(re.escape, re.findall(r"\w+", name))) for name in names)
        self._unseen_names = re.compile(r"(?<!\w)(?:" + "|".join(filter(None, spellings)) + r")(?:e?s)?(?!\w)")

    @cached_property
    def _benchmark_hashes(self) -> frozenset[str]:
        return frozenset(HASH_FILE.read_text().split())

    def __call__(self, caption: str) -> bool:
        return not self._unseen_names.search(caption.lower()) and self._benchmark_hashes.isdisjoint(caption_hashes(caption))


def read_texts(folder: Path) -> Iterable[str]:
    """Yield every cell of the TSV files in `folder`."""
    for path in sorted(folder.glob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield from row


def main() -> None:
    parser = argparse.ArgumentParser(description="Recompute contamination.txt, the hashes of captions that are benchmark texts.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets (TSV files)")
    arguments = parser.parse_args()
    benchmark_hashes = {digest for text in read_texts(arguments.data) for digest in caption_hashes(text)}
    captions = {*augmentation.load(CACHE_FOLDER, IMAGE_SIZE).captions(), *wordnet_texts(WordNet(CACHE_FOLDER))}
    excluded = sorted({digest for caption in captions for digest in caption_hashes(caption)} & benchmark_hashes)
    HASH_FILE.write_text("\n".join(excluded) + "\n")
    print(f"{len(excluded)} of {len(captions)} captions are texts of the benchmarks ({len(benchmark_hashes)}); wrote {HASH_FILE}")


if __name__ == "__main__":
    main()

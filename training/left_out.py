"""Which captions are not trained on: those that name what must stay unseen, and those that are a text of a benchmark.

python training/left_out.py --data FOLDER     # writes left_out.txt anew, from the tables of human judgements in FOLDER

WordNet's glosses occur in STS12 to STS14 (OnWN, FNWN), and a template can hit upon a sentence of STS-B. So that training needs no
benchmark at hand, `left_out.txt` holds the hashes of the captions that are such a text. Texts of one or two words are the names
of things, which a text-to-image model cannot do without; they stay.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from pictographs import Pictographs

LIST = Path(__file__).with_name("left_out.txt")
FEWEST = 3  # words that make a text more than a name


def digest(text: str) -> str:
    """A short hash of `text` without case and punctuation; empty for a text of fewer than three words."""
    words = re.findall("[a-z0-9]+", text.lower())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:12] if len(words) >= FEWEST else ""


def digests(text: str) -> set[str]:
    """Of a caption, and of what stands behind a colon in it: a name may be told together with its gloss."""
    return {digest(text), digest(text.partition(": ")[2])} - {""}


class Allowed:
    """Whether a caption may be trained on."""

    def __init__(self, data: Pictographs) -> None:
        names = sorted({data.meanings[row].label.lower() for row in data.unseen})
        spelt = (r"[\W_]*".join(map(re.escape, re.findall(r"\w+", name))) for name in names)
        self._unseen = re.compile(r"(?<!\w)(?:" + "|".join(filter(None, spelt)) + r")(?:e?s)?(?!\w)")

    @cached_property
    def _benchmarks(self) -> frozenset[str]:
        return frozenset(LIST.read_text().split())

    def __call__(self, text: str) -> bool:
        return not self._unseen.search(text.lower()) and self._benchmarks.isdisjoint(digests(text))


def texts_of(folder: Path) -> Iterable[str]:
    """Every text of the tables in `folder`."""
    for path in sorted(folder.glob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield from row


def main() -> None:
    import likeness
    import views
    from train import SIZE
    from words import WordNet

    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    benchmarks = {one for text in texts_of(parser.parse_args().data) for one in digests(text)}
    cache = Path(__file__).parent / "cache"
    captions = {*views.load(cache, SIZE).captions(), *likeness.texts(WordNet(cache))}
    found = sorted({one for text in captions for one in digests(text)} & benchmarks)
    LIST.write_text("\n".join(found) + "\n")
    print(f"{len(found)} of {len(captions)} captions are texts of {len(benchmarks)} in the benchmarks; wrote {LIST}")


if __name__ == "__main__":
    main()

"""Small tables of rated pairs for tests of the evaluation, and the folder of the real datasets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

RATINGS = Path(__file__).parents[2] / "shared" / "data" / "similarity"
RATED_PAIRS = [
    ("puppy", "poodle", 9.0), ("puppy", "shark", 3.5), ("red apple", "green apple", 8.0), ("red apple", "train", 1.0),
    ("the sun", "the moon", 5.0), ("a house", "a train", 2.0), ("puppy", "a house", 1.5), ("shark", "a blue whale", 7.5),
]  # fmt: skip
NUM_TEXTS = len({text for first, second, _ in RATED_PAIRS for text in (first, second)})


def write_pairs(path: Path, rows: Iterable[tuple[str, str, float]] = RATED_PAIRS) -> Path:
    """Write pairs as a tab-separated file, and return its path."""
    path.write_text("text1\ttext2\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows), encoding="utf-8")
    return path


def numbered_pairs(number: int) -> list[tuple[str, str, float]]:
    """Return `number` pairs of different texts."""
    return [(f"thing {i}", f"other thing {i}", float(i % 7)) for i in range(number)]

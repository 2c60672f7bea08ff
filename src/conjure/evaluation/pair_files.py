"""Pairs of texts with human ratings, and the tables that they are read from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.errors import InputError

SENTENCE_COLUMNS = ("sentence1", "sentence2")
WORD_COLUMNS = ("word1", "word2")
SCORE_COLUMN = "score"


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts with a human rating of their similarity.

    Attributes:
        name: Name of the task.
        title: Title of the task in tables.
        first: First text of each pair.
        second: Second text of each pair.
        scores: Human rating of each pair, higher for more similar texts, float64 of shape (pairs,).
        subset: Name of the subset that each pair belongs to; None for a dataset without subsets.
        sha256: Hash of texts, scores and subsets, which distinguishes versions of a dataset.
        revision: Revision of the dataset on the Hub, `folder` for a declared dataset that was read from a folder, None for other
            pairs.
        dataset_size: Number of pairs of the declared dataset that they belong to, None for other pairs.
    """

    name: str
    title: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: Float[np.ndarray, " pairs"]
    subset: tuple[str, ...] | None
    sha256: str
    revision: str | None = None
    dataset_size: int | None = None

    part = deprecated_property("part", "subset")
    is_whole = deprecated_property("is_whole", "is_complete")

    @property
    def is_complete(self) -> bool:
        """Whether these are all pairs of a declared dataset, so that published results on it are comparable."""
        return len(self) == self.dataset_size

    def __len__(self) -> int:
        return len(self.first)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The two texts of each pair."""
        return list(zip(self.first, self.second, strict=True))

    def head(self, number: int | None) -> Pairs:
        """Return the first `number` pairs, or all pairs for None."""
        return self.select(range(len(self))[:number])

    def without(self, texts: Collection[str]) -> Pairs:
        """Return the pairs that contain none of `texts`."""
        return self.select([i for i, pair in enumerate(self.texts) if not set(pair) & set(texts)])

    def select(self, indices: Sequence[int]) -> Pairs:
        """Return the pairs with these indices."""
        first, second = (tuple(texts[i] for i in indices) for texts in (self.first, self.second))
        subset = None if self.subset is None else tuple(self.subset[i] for i in indices)
        selected = _with_hash(self.name, self.title, first, second, self.scores[list(indices)], subset)
        return replace(selected, revision=self.revision, dataset_size=self.dataset_size)


@runtime_checkable
class DataFrame(Protocol):
    """The part of a pandas data frame that is used here."""

    def to_dict(self, orient: Any, /) -> Any: ...


def read_file(path: str | Path) -> Pairs:
    """Read pairs from a tab-separated file with a header.

    The file needs two columns of texts and a column `score`. The columns of texts are `sentence1` and `sentence2`, `word1` and
    `word2`, `text1` and `text2`, or else the first two. Other columns are ignored.

    Args:
        path: A UTF-8 file without quoting.

    Returns:
        The pairs; name and title are the name of the file without its suffix.

    Raises:
        InputError: If the file cannot be read, or has missing columns, blank texts or scores that are not numbers.
    """
    path = Path(path)
    return _from_own_rows(read_rows(path), str(path), path.stem)


read_pairs = read_file  # its name in the package `conjure`, where `read_file` would not say what is read


def from_dataframe(frame: DataFrame, name: str = "frame") -> Pairs:
    """Return the pairs of a pandas data frame.

    Args:
        frame: A data frame with the columns that `read_file` describes.
        name: Name and title of the task.

    Raises:
        InputError: As for `read_file`.
    """
    return _from_own_rows(frame.to_dict("records"), name, name)


def _from_own_rows(rows: Sequence[Mapping[str, Any]], source: str, name: str) -> Pairs:
    columns = list(rows[0]) if rows else []
    if SCORE_COLUMN not in columns:
        raise InputError(f"{source!r} has no column {SCORE_COLUMN!r}; its columns are {', '.join(columns) or 'none'}")
    other_columns = [column for column in columns if column != SCORE_COLUMN]
    known = (SENTENCE_COLUMNS, WORD_COLUMNS, ("text1", "text2"))
    texts = next((pair for pair in known if set(pair) <= set(other_columns)), tuple(other_columns[:2]))
    if len(texts) != 2:
        raise InputError(f"{source!r} has the columns {', '.join(columns)}; it needs two columns of texts and {SCORE_COLUMN!r}")
    return from_rows(rows, source, name=name, title=name, text_columns=(texts[0], texts[1]))


def from_rows(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    name: str,
    title: str,
    text_columns: tuple[str, str],
    subset_column: str | None = None,
    score_range: tuple[float, float] = (-math.inf, math.inf),
    preprocess: Callable[[str], str] | None = None,
) -> Pairs:
    """Return the pairs of a table, after a check of every row.

    Args:
        rows: Rows as mappings from column to value.
        source: Where the rows come from, for error messages.
        name: Name of the task.
        title: Title of the task in tables.
        text_columns: The two columns of texts.
        subset_column: Column of the subsets; it may be missing.
        score_range: Lowest and highest allowed score.
        preprocess: Applied to every text.

    Raises:
        InputError: If there are no rows, a column is missing, a score is not a number in the range, or a text is blank.
    """
    if not rows:
        raise InputError(f"{source!r} has no pairs; give a file with a header and at least one row")
    for column in (*text_columns, SCORE_COLUMN):
        if column not in rows[0]:
            raise InputError(f"{source!r} has no column {column!r}; its columns are {', '.join(rows[0])}")
    low, high = score_range
    scores = []
    for number, row in enumerate(rows, 2):  # row 1 is the header
        try:
            score = float(row[SCORE_COLUMN])
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score) or not low <= score <= high:
            allowed = f"from {low:g} to {high:g}" if math.isfinite(low) else "that is finite"
            raise InputError(f"{source!r}, row {number}: the score is {row[SCORE_COLUMN]!r}; must be a number {allowed}")
        scores.append(score)
        for column in text_columns:
            if not isinstance(row[column], str) or not row[column].strip():
                raise InputError(f"{source!r}, row {number}: {column} is blank; each pair needs two texts")
    first, second = (tuple(preprocess(row[column]) if preprocess else row[column] for row in rows) for column in text_columns)
    subset = tuple(str(row[subset_column]) for row in rows) if subset_column and subset_column in rows[0] else None
    return _with_hash(name, title, first, second, np.array(scores), subset)


def _with_hash(
    name: str, title: str, first: tuple[str, ...], second: tuple[str, ...], scores: np.ndarray, subset: tuple[str, ...] | None
) -> Pairs:
    return Pairs(name, title, first, second, scores, subset, pairs_hash(first, second, scores.tolist(), subset))


def pairs_hash(
    first: tuple[str, ...], second: tuple[str, ...], scores: Sequence[float], subset: tuple[str | None, ...] | None
) -> str:
    """Return the hash of texts, scores and subsets, `Pairs.sha256`."""
    # run folders contain this hash, so its input must not change
    return hashlib.sha256(repr((first, second, list(scores), subset)).encode()).hexdigest()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a tab-separated file with a header and without quoting.

    Raises:
        InputError: If the file cannot be read, or a row has another number of columns than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [line.rstrip("\r\n") for line in file] or [""]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 file of tab-separated columns") from error
    columns = header.split("\t")
    rows = []
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        values = line.split("\t")
        if len(values) != len(columns):
            raise InputError(
                f"{str(path)!r}, row {number}: {len(values)} columns instead of {len(columns)}; separate them by tabs"
            )
        rows.append(dict(zip(columns, values, strict=True)))
    return rows

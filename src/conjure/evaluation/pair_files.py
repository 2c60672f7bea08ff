"""Pairs of texts with human ratings, and the tables that they are read from."""

from __future__ import annotations

import hashlib
import math
import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.errors import InputError, QuotedFieldsWarning
from conjure.evaluation.columns import find_columns
from conjure.evaluation.pair_rows import check_pair_texts, choose_rows
from conjure.evaluation.tables import read_table, source_name
from conjure.io.formatting import pluralize
from conjure.io.input_files import MAX_FILE_MB, STANDARD_INPUT
from conjure.user_warnings import warn_user

SENTENCE_COLUMNS = ("sentence1", "sentence2")
WORD_COLUMNS = ("word1", "word2")
SCORE_COLUMN = "score"
NO_PAIRS = "{!r} has no pairs; give a file with a header and at least one row"


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

    def __repr__(self) -> str:
        return f"<Pairs {self.title}: {pluralize(len(self), 'pair')}>"

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The two texts of each pair."""
        return list(zip(self.first, self.second, strict=True))

    def head(self, number: int | None) -> Pairs:
        """Return the first `number` pairs, or all pairs for None."""
        return self.select(range(len(self))[:number])

    def choose(self, max_pairs: int | None, shuffle: int | None = None) -> Pairs:
        """Return the first `max_pairs` pairs, or as many random ones with the seed `shuffle`; all pairs for None."""
        return self.select(choose_rows(len(self), max_pairs, shuffle))

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


@runtime_checkable
class PolarsDataFrame(Protocol):
    """The part of a polars data frame that is used here."""

    def to_dicts(self) -> Any: ...


def read_file(path: str | Path, columns: Sequence[str] | None = None, *, max_mb: int = MAX_FILE_MB) -> Pairs:
    """Read pairs from a table with two columns of texts and one of scores.

    The file has columns separated by tabs, commas or semicolons below a header, with or without quoting, or it is a .jsonl or
    .parquet file (see `conjure.evaluation.tables.read_table`). The columns are found by known names, such as `sentence1` and
    `sentence2`, `text_a` and `text_b`, `premise` and `hypothesis`, and `score`, `rating` or `similarity` (see
    `conjure.evaluation.columns`). Other columns are ignored.

    Args:
        path: The file, or `-` for standard input.
        columns: The columns of the first texts, the second texts and the scores. None finds them by their names.
        max_mb: The largest size of the file, in units of 10^6 bytes.

    Returns:
        The pairs; name and title are the name of the file without its suffix.

    Raises:
        InputError: If the file cannot be read, or has missing columns, no or several known columns, blank texts or scores that
            are not numbers.

    Warns:
        QuotedFieldsWarning: If a text begins and ends with a quotation mark.
    """
    path = Path(path)
    name = "stdin" if str(path) == STANDARD_INPUT else path.stem
    return _from_own_rows(read_table(path, max_mb), source_name(path), name, columns)


read_pairs = read_file  # its name in the package `conjure`, where `read_file` would not say what is read


def from_dataframe(frame: DataFrame | PolarsDataFrame, name: str = "frame", columns: Sequence[str] | None = None) -> Pairs:
    """Return the pairs of a data frame of pandas or polars.

    Args:
        frame: A data frame with the columns that `read_file` describes.
        name: Name and title of the task.
        columns: As for `read_file`.

    Raises:
        InputError: As for `read_file`.

    Warns:
        QuotedFieldsWarning: As for `read_file`.
    """
    return _from_own_rows(frame_rows(frame), name, name, columns)


def frame_rows(frame: DataFrame | PolarsDataFrame) -> list[dict[str, Any]]:
    """Return the rows of a data frame as mappings from the names of its columns to values."""
    rows = frame.to_dicts() if isinstance(frame, PolarsDataFrame) else frame.to_dict("records")
    return [{str(column): value for column, value in row.items()} for row in rows]


def _from_own_rows(rows: Sequence[Mapping[str, Any]], source: str, name: str, chosen: Sequence[str] | None) -> Pairs:
    if not rows:
        raise InputError(NO_PAIRS.format(source))
    first, second, score = find_columns(list(rows[0]), source, chosen)
    pairs = from_rows(rows, source, name=name, title=name, text_columns=(first, second), score_column=score)
    quoted = [i for i, texts in enumerate(pairs.texts) if any(re.fullmatch('".*"', text, re.DOTALL) for text in texts)]
    if quoted:
        warn_user(
            f"{source!r} has {pluralize(len(quoted), 'pair')} with a text that begins and ends with a quotation mark, the first "
            f"in row {quoted[0] + 2}; the marks are part of the text; remove them if they are meant as quoting",
            QuotedFieldsWarning,
        )
    return pairs


def from_rows(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    name: str,
    title: str,
    text_columns: tuple[str, str],
    score_column: str = SCORE_COLUMN,
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
        score_column: The column of scores.
        subset_column: Column of the subsets; it may be missing.
        score_range: Lowest and highest allowed score.
        preprocess: Applied to every text.

    Raises:
        InputError: If there are no rows, a column is missing, a score is not a number in the range, or a text is blank.
    """
    if not rows:
        raise InputError(NO_PAIRS.format(source))
    for column in (*text_columns, score_column):
        if column not in rows[0]:
            raise InputError(f"{source!r} has no column {column!r}; its columns are {', '.join(rows[0])}")
    low, high = score_range
    scores = []
    for number, row in enumerate(rows, 2):  # row 1 is the header
        score = _parse_score(row.get(score_column))
        if not math.isfinite(score) or not low <= score <= high:
            allowed = f"from {low:g} to {high:g}" if math.isfinite(low) else "that is finite"
            value = reprlib.repr(row.get(score_column))
            raise InputError(f"{source!r}, row {number}: the score is {value}; must be a number {allowed}")
        scores.append(score)
        check_pair_texts(row, text_columns, source, number)
    first, second = (tuple(preprocess(row[column]) if preprocess else row[column] for row in rows) for column in text_columns)
    subset = tuple(str(row[subset_column]) for row in rows) if subset_column and subset_column in rows[0] else None
    return _with_hash(name, title, first, second, np.array(scores), subset)


def _parse_score(value: Any) -> float:
    """Return a score as a number; NaN for what is none in a table, such as a boolean or the Python number `1_0`."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and "_" in value):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


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

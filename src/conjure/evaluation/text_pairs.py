"""Pairs of texts without ratings, with the other columns of the table that they are read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conjure.errors import InputError
from conjure.evaluation.columns import find_text_columns
from conjure.evaluation.pair_files import DataFrame, PolarsDataFrame, frame_rows
from conjure.evaluation.pair_rows import check_choice, check_pair_texts, choose_rows
from conjure.evaluation.tables import read_table, source_name
from conjure.io.formatting import pluralize
from conjure.io.input_files import MAX_FILE_MB

NO_PAIRS = "{!r} has no pairs; give a table with a header and at least one row"
DEFAULT_COLUMNS = ("text1", "text2")


@dataclass(frozen=True)
class TextPairs:
    """Pairs of texts.

    Attributes:
        source: Where they come from, for messages.
        rows: One row per pair, with all columns of the table.
        columns: The columns of the first and of the second texts.
    """

    source: str
    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[str, str]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<TextPairs of {self.source!r}: {pluralize(len(self), 'pair')}>"

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The two texts of each pair."""
        first, second = self.columns
        return [(row[first], row[second]) for row in self.rows]

    @property
    def all_columns(self) -> list[str]:
        """The columns of all rows, in the order of their first row."""
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def choose(self, max_pairs: int | None, shuffle: int | None = None) -> TextPairs:
        """Return the first pairs, or random ones.

        Args:
            max_pairs: The largest number of pairs; None for all.
            shuffle: The seed of a random choice; None for the first pairs.

        Raises:
            InputError: If a number is out of range, or there is a seed without a number.
        """
        check_choice(max_pairs, shuffle, smallest=1)
        return replace(self, rows=tuple(self.rows[i] for i in choose_rows(len(self), max_pairs, shuffle)))

    def check_no_column(self, names: Iterable[str]) -> None:
        """Check that no column has one of `names`.

        Raises:
            InputError: If a column has one.
        """
        if taken := [name for name in names if name in self.all_columns]:
            raise InputError(f"{self.source!r} has a column {taken[0]!r}, which the result has too; rename or remove it")


def read_text_pairs(path: str | Path, columns: Sequence[str] | None = None, *, max_mb: int = MAX_FILE_MB) -> TextPairs:
    """Read pairs from a table with two columns of texts. The formats and known names are those of `conjure.read_pairs`.

    Args:
        path: The file, or `-` for standard input.
        columns: The columns of the first and the second texts. None finds them by their names.
        max_mb: The largest size of the file, in units of 10^6 bytes.

    Raises:
        InputError: If the file cannot be read, has no or several known columns of texts, or a text is blank.
    """
    return _from_rows(read_table(Path(path), max_mb), source_name(Path(path)), columns)


def as_text_pairs(pairs: TextPairs | DataFrame | PolarsDataFrame | Iterable[tuple[str, str]]) -> TextPairs:
    """Return pairs that a caller gives: as they are, as a data frame of pandas or polars, or as tuples of two texts.

    Raises:
        InputError: As `read_text_pairs`, and if a pair is not two texts.
    """
    if isinstance(pairs, TextPairs):
        return pairs
    if isinstance(pairs, DataFrame | PolarsDataFrame):
        return _from_rows(frame_rows(pairs), "frame", None)
    if isinstance(pairs, str):
        raise InputError(f"the pairs are {pairs!r}; give tuples of two texts, a data frame, or read_text_pairs(FILE)")
    rows = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"a pair is {pair!r}; must be a tuple of two texts")
        rows.append(dict(zip(DEFAULT_COLUMNS, pair, strict=True)))
    return _from_rows(rows, "pairs", DEFAULT_COLUMNS)


def _from_rows(rows: Sequence[Mapping[str, Any]], source: str, chosen: Sequence[str] | None) -> TextPairs:
    if not rows:
        raise InputError(NO_PAIRS.format(source))
    columns = find_text_columns(list(rows[0]), source, chosen)
    for number, row in enumerate(rows, 2):  # row 1 is the header
        check_pair_texts(row, columns, source, number)
        for column, value in row.items():
            for text in (column, value):
                if isinstance(text, str) and any(0xD800 <= ord(character) <= 0xDFFF for character in text):
                    raise InputError(f"{source!r}, row {number}: {column!r} is not valid Unicode; give it in UTF-8")
    return TextPairs(source, tuple(rows), columns)

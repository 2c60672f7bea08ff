"""Rows of tables of pairs: the check of their texts, and the choice of some of them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conjure.errors import InputError
from conjure.io.numbers import is_integer
from conjure.io.text import is_blank


def check_pair_texts(row: Mapping[str, Any], columns: Sequence[str], source: str, number: int) -> None:
    """Check the texts of a row.

    Args:
        row: The row.
        columns: Its columns of texts.
        source: Where the row comes from, for error messages.
        number: The number of the row; row 1 is the header.

    Raises:
        InputError: If a text is missing, is not a string, or is blank.
    """
    for column in columns:
        text = row.get(column)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{source!r}, row {number}: {column} is {reprlib.repr(text)}; must be a text")
        if text is None or is_blank(text):
            raise InputError(f"{source!r}, row {number}: {column} is blank; each pair needs two texts")


def check_choice(max_pairs: int | None, shuffle: int | None, smallest: int = 3) -> None:
    """Check the arguments of `choose_rows`.

    Args:
        max_pairs: The largest number of pairs; None for all.
        shuffle: The seed of a random choice; None for the first pairs.
        smallest: The smallest allowed `max_pairs`.

    Raises:
        InputError: If a number is out of range, or there is a seed without a number.
    """
    if max_pairs is not None and not is_integer(max_pairs, smallest):
        raise InputError(f"max_pairs is {max_pairs}; must be an integer >= {smallest}")
    if shuffle is not None and not is_integer(shuffle, 0):
        raise InputError(f"shuffle is {shuffle}; must be an integer >= 0, the seed of the choice")
    if shuffle is not None and max_pairs is None:
        raise InputError("shuffle chooses some of the pairs; give their number by max_pairs (--max-pairs) too")


def choose_rows(number: int, max_pairs: int | None, shuffle: int | None = None) -> list[int]:
    """Return the indices of the chosen rows, in order.

    Args:
        number: The number of rows.
        max_pairs: The largest number of chosen rows; None for all.
        shuffle: The seed of a random choice; None for the first rows. A smaller choice with the same seed is part of a larger
            one, so that its stored results are reused.

    Examples:
        >>> choose_rows(5, 2), choose_rows(5, 2, shuffle=0), choose_rows(5, 3, shuffle=0), choose_rows(2, 3, shuffle=0)
        ([0, 1], [2, 4], [2, 3, 4], [0, 1])
    """
    if shuffle is None:
        return list(range(number))[:max_pairs]
    return sorted(np.random.default_rng(shuffle).permutation(number)[:max_pairs].tolist())

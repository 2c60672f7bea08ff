"""Validation of the arguments of `conjure.drift` that needs no model. This module has only fast imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conjure.errors import InputError
from conjure.io.numbers import is_integer
from conjure.io.text import shorten
from conjure.similarity.validation import check_distinct

TABLE_SUFFIXES = (".csv", ".json", ".parquet")
MIN_ARRANGED_TEXTS = 4  # three texts have 6 orders, so that no p-value of a permutation is below 0.16


def named_groups(groups: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return groups of texts with names: the number of the group and its first text."""
    return {f"{number}: {shorten(group[0], 20)}": list(group) for number, group in enumerate(groups, 1)}


def texts_of_groups(groups: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return groups of texts as lists.

    Raises:
        InputError: If a group is not a list of texts, or is empty.
    """
    lists: dict[str, list[str]] = {}
    for name, texts in groups.items():
        lists[name] = check_text_list(texts)
        if not lists[name]:
            raise InputError(f"the group {name!r} has no texts; give at least one")
    return lists


def check_text_list(texts: Any) -> list[str]:
    """Return texts as a list.

    Raises:
        InputError: If `texts` is a single text, or cannot be iterated.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"the texts are {texts!r}; give a list of texts")
    return list(texts)


def check_drift_arguments(texts: Sequence[str], images: int) -> None:
    """Check that there are texts, each once, and the number of texts with images.

    Raises:
        InputError: If there are no texts, a text occurs twice, or `images` is not an integer >= 0.
    """
    if not texts:
        raise InputError("there are no texts; give at least one")
    check_distinct(texts)
    if not is_integer(images, 0):
        raise InputError(f"images is {images!r}; must be an integer >= 0")

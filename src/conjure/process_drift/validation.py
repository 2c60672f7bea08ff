"""Validation of the arguments of `conjure.drift` that needs no model. This module has only fast imports."""

from __future__ import annotations

from collections.abc import Sequence

from conjure.errors import InputError
from conjure.io.numbers import is_integer
from conjure.similarity.validation import check_distinct

TABLE_SUFFIXES = (".csv", ".json", ".parquet")


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

"""Comma-separated values that no spreadsheet runs as formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(rows: Iterable[Iterable[object]], *, raw: bool = False) -> str:
    """Return rows as comma-separated values.

    A spreadsheet runs a cell as a formula if it begins with one of `FORMULA_STARTS`. A text that does so gets an apostrophe
    before it. Numbers are not changed.

    Args:
        rows: The rows.
        raw: Write texts unchanged.

    Reference:
        OWASP, "CSV Injection".
    """
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows([cell if raw else _neutralized(cell) for cell in row] for row in rows)
    return output.getvalue()


def _neutralized(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell

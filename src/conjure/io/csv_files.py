"""Comma-separated values that no spreadsheet runs as formulas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def csv_text(rows: Iterable[Iterable[object]], *, raw: bool = False) -> str:
    """Return rows as comma-separated values.

    A spreadsheet runs a cell as a formula if it begins with one of `FORMULA_STARTS`. A text that does so gets an apostrophe
    before it. Numbers are not changed, also those that are given as text.

    Args:
        rows: The rows.
        raw: Write texts unchanged.

    Reference:
        OWASP, "CSV Injection".
    """
    lines = []
    for row in rows:
        line = io.StringIO()
        # with the terminator \r\n, because Python before 3.13 quotes \r only if it is part of the terminator
        csv.writer(line, lineterminator="\r\n").writerow([cell if raw else _neutralized(cell) for cell in row])
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _neutralized(cell: object) -> object:
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell

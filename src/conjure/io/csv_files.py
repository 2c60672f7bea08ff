"""Comma-separated values that no spreadsheet runs as formulas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Literal

# A sign that begins a formula, also after invisible characters; or a character that a spreadsheet skips
FORMULA = re.compile(r"[\t\r\n]|[\xa0\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]")
OTHER_SEPARATORS = (";", "\t")  # of spreadsheets in some languages
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def csv_text(rows: Iterable[Iterable[object]], *, raw: bool = False) -> str:
    """Return rows as comma-separated values.

    A spreadsheet runs a cell as a formula if it matches `FORMULA`. A text that does so gets an apostrophe before it. Numbers are
    not changed, also those that are given as text. In rows with a separator of other spreadsheets all texts are in quotes, so
    that no part of a text becomes a cell.

    Args:
        rows: The rows.
        raw: Write texts unchanged.

    Reference:
        OWASP, "CSV Injection".
    """
    lines = []
    for row in rows:
        line, cells = io.StringIO(), [cell if raw else _neutralized(cell) for cell in row]
        is_split = any(separator in cell for cell in cells if isinstance(cell, str) for separator in OTHER_SEPARATORS)
        quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if is_split and not raw else csv.QUOTE_MINIMAL
        # with the terminator \r\n, because Python before 3.13 quotes \r only if it is part of the terminator
        csv.writer(line, lineterminator="\r\n", quoting=quoting).writerow(cells)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _neutralized(cell: object) -> object:
    is_formula = isinstance(cell, str) and FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell

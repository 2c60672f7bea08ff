"""No spreadsheet runs a text of a CSV file as a formula."""

from __future__ import annotations

import csv
import io

import pytest

from conjure.io.csv_files import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+A1", "-1 ", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_formulas_are_neutralized(text):
    ((cell, other, number),) = csv.reader(io.StringIO(csv_text([[text, "a=1", -1.5]]), newline=""))
    assert (cell, other, number) == (f"'{text}", "a=1", "-1.5")
    ((cell, *_),) = csv.reader(io.StringIO(csv_text([[text]], raw=True), newline=""))
    assert cell == text


@pytest.mark.parametrize("number", ["-1.5", "+2", "-.5e-3", "-2."])
def test_numbers_in_texts_are_not_changed(number):
    """Columns of a table are copied as they are."""
    assert csv_text([[number]]) == f"{number}\n"

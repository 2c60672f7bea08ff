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


@pytest.mark.parametrize("text", ["\u200b=1+1", "\ufeff=1+1", "\xa0=1+1"])
def test_invisible_characters_hide_no_formula(text):
    assert csv_text([[text]]) == f"'{text}\n"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_part_of_a_text_never_becomes_a_cell(separator):
    """A spreadsheet whose separator is not the comma keeps what is in quotes together."""
    text = f"a{separator}=HYPERLINK(1)"
    assert csv_text([[text, 0.5, "b"]]) == f'"{text}",0.5,"b"\n'
    assert csv_text([[text, 0.5]], raw=True) == f"{text},0.5\n"
    (line, *_), *_ = csv.reader(io.StringIO(csv_text([[text, 0.5, "b"]])), delimiter=separator)
    assert line.startswith(text)

"""No text of a document becomes markup, and no control character reaches a terminal or a page."""

from __future__ import annotations

import jinja2
import pytest

from conjure.io.documents import Document, Table
from conjure.io.templating import render

HOSTILE = "<img src=x onerror=alert(1)> | \x1b[2J\u202e"


def test_texts_are_no_markup():
    table = Table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, "d"]])
    document = Document(HOSTILE, [HOSTILE], [table], "note", {HOSTILE: b"png"})
    markdown, page = document.to_markdown(), document.to_html()
    assert markdown.count("\\<img") == 5
    assert "<img" not in markdown.replace("\\<img", "")
    assert page.count("<img") == 1  # the image
    assert type(page) is str  # not one that escapes what is appended to it
    for text in (markdown, page):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")} == {3}


def test_columns_of_numbers_are_aligned_on_the_right_and_empty_columns_are_left_out():
    rows = [["a b", "1.5 ± 0.1 (1.3 to 1.7)", "", "-2.0 to +3.1", ""], ["7", "1e-05", "", "81.2 (90.1)", "12%"]]
    table = Table("title", ["name", "value", "paper", "95% CI", "share"], rows)
    page = table.to_html()
    assert "paper" not in page + table.to_markdown()
    assert '<th>name</th><th class="number">value</th><th class="number">95% CI</th><th class="number">share</th>' in page
    assert '<td>7</td><td class="number">1e-05</td>' in page
    assert Table("title", ["a", "b"], []).to_markdown() == "| a | b |\n|---|---|"


def test_a_missing_value_of_a_template_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("conjure.io", "page.html")

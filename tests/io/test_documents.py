"""No text of a document becomes markup, and no control character reaches a terminal or a page."""

from __future__ import annotations

from conjure.io.documents import Document, Table

HOSTILE = "<img src=x onerror=alert(1)> | \x1b[2J\u202e"


def test_texts_are_no_markup():
    table = Table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, "d"]])
    document = Document(HOSTILE, [HOSTILE], [table], "note", {HOSTILE: b"png"})
    markdown, page = document.to_markdown(), document.to_html()
    assert markdown.count("\\<img") == 5
    assert "<img" not in markdown.replace("\\<img", "")
    assert page.count("<img") == 1  # the image
    for text in (markdown, page):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")} == {3}

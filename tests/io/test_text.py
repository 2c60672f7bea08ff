"""Texts of users: what is blank, where lines end, and how texts are displayed."""

from __future__ import annotations

from conjure.io.text import is_blank, listed, one_line, printable, quote_and_wrap, shorten, split_lines


def test_errors_in_one_line():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError()) == "KeyError"
    assert one_line("x" * 300) == "x" * 200 + " …"


def test_shortened_lists():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert listed(["a"] * 3000, 1) == "a and 2,999 more"


def test_unprintable_characters_become_spaces():
    assert printable("a\x00b\u202ec\n🐅") == "a b c 🐅"


def test_long_texts_end_with_an_ellipsis():
    assert quote_and_wrap("snow leopard", 20) == "“snow leopard”"
    assert quote_and_wrap("a snow leopard in the snow", 14, lines=2) == "“a snow\nleopard in the …”"
    assert quote_and_wrap("a snow leopard", 14, lines=2) == "“a snow\nleopard”"


def test_characters_that_are_newer_than_python_are_printed():
    """Python 3.11 does not know U+1FAE9, and U+F8FF is for private use."""
    assert printable("\U0001fae8\U0001fae9\uf8ff") == "\U0001fae8\U0001fae9\uf8ff"
    assert printable("a\tb\nc\x1b", keep="\n") == "a b\nc "


def test_blank_texts():
    assert all(map(is_blank, ("", " \t\r\n", "\x00\x1b\x7f\x9f", "\x85\xa0\u2003\u2028\u2029\u3000")))
    assert not any(map(is_blank, ("a", "\U0001fae8", "\U0001f6dc", "\uf8ff", "\u0301", "\ufe0f", " . ")))


def test_only_three_line_ends():
    others = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    assert split_lines(f"a{others}b\nc\r\nd\re\n\n") == [f"a{others}b", "c", "d", "e", ""]
    assert split_lines("") == []


def test_long_texts_are_shortened():
    assert shorten("a" * 80) == "a" * 80
    assert shorten("a" * 81) == "a" * 80 + " …"

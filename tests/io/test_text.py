"""Texts on figures and pages: nothing invisible, and no line longer than asked."""

from __future__ import annotations

from conjure.io.text import printable, quote_and_wrap


def test_unprintable_characters_become_spaces():
    assert printable("a\x00b\u202ec\n🐅") == "a b c 🐅"


def test_long_texts_end_with_an_ellipsis():
    assert quote_and_wrap("snow leopard", 20) == "“snow leopard”"
    assert quote_and_wrap("a snow leopard in the snow", 14, lines=2) == "“a snow\nleopard in the …”"
    assert quote_and_wrap("a snow leopard", 14, lines=2) == "“a snow\nleopard”"

"""Formatting of users' texts for display."""

from __future__ import annotations

import textwrap


def printable(text: str) -> str:
    """Replace each unprintable character of `text` by a space, such as a null byte or a control of the writing direction."""
    return "".join(character if character.isprintable() else " " for character in text)


def quote_and_wrap(text: str, width: int, lines: int = 1) -> str:
    """Return `text` in quotation marks, wrapped.

    Args:
        text: Any text; unprintable characters become spaces.
        width: Largest number of characters per line.
        lines: Largest number of lines; a longer text is truncated and ends with an ellipsis.
    """
    wrapped = textwrap.wrap(f"“{printable(text)}”", width)
    return "\n".join(wrapped if len(wrapped) <= lines else [*wrapped[: lines - 1], wrapped[lines - 1] + " …”"])

"""Users' texts: what is blank, where lines end, and how texts are displayed."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence

# Controls, and the characters with the property White_Space, written out so that the answer does not depend on Python's version
_BLANK = re.compile("[\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})  # not Cn: characters that are newer than Python's Unicode tables


def is_blank(text: str) -> bool:
    """Return whether a text is empty or contains only white space and control characters."""
    return _BLANK.fullmatch(text) is not None


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a text. Only `\n`, `\r\n` and `\r` end a line, unlike in `str.splitlines`.

    Examples:
        >>> split_lines("a\u2028b\r\nc\x85d\n")
        ['a\u2028b', 'c\x85d']
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def shorten(text: str, width: int = 80) -> str:
    """Return the first `width` characters of a text, with an ellipsis if it is longer."""
    return text if len(text) <= width else text[:width].rstrip() + " …"


def one_line(error: BaseException | str, width: int = 200) -> str:
    """Return the message of an error, in most cases another library's, in one line, shortened to `width` characters.

    An error without a message gives the name of its class.
    """
    return shorten(" ".join(str(error).split()) or type(error).__name__, width)


def listed(items: Sequence[str], limit: int = 3) -> str:
    """Return the first `limit` items, with commas, and the number of the others."""
    return ", ".join(items[:limit]) + (f" and {len(items) - limit:,} more" if len(items) > limit else "")


def capitalize_first(text: str) -> str:
    """Return a text whose first character is a capital; the others, such as those of names, are unchanged."""
    return text[:1].upper() + text[1:]


def printable(text: str, keep: str = "") -> str:
    """Replace each unprintable character of `text` by a space, such as a null byte or a control of the writing direction.

    Args:
        text: Any text.
        keep: Unprintable characters that are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep or unicodedata.category(character) not in _UNPRINTABLE else " "
        for character in text
    )


def quote_and_wrap(text: str, width: int, lines: int = 1) -> str:
    """Return `text` in quotation marks, wrapped.

    Args:
        text: Any text; unprintable characters become spaces.
        width: Largest number of characters per line.
        lines: Largest number of lines; a longer text is truncated and ends with an ellipsis.
    """
    return wrap(f"“{printable(text)}”", width, lines, ellipsis=" …”")


def wrap(text: str, width: int, lines: int = 1, ellipsis: str = " …") -> str:
    """Return `text` wrapped.

    Args:
        text: Any text; unprintable characters become spaces.
        width: Largest number of characters per line.
        lines: Largest number of lines.
        ellipsis: The end of a text that is truncated because it needs more lines.
    """
    wrapped = textwrap.wrap(printable(text), width)
    return "\n".join(wrapped if len(wrapped) <= lines else [*wrapped[: lines - 1], wrapped[lines - 1] + ellipsis])

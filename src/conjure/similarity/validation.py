"""Validation of input that needs no model. This module has only fast imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from conjure.errors import InputError
from conjure.io.input_files import MAX_FILE_MB, read_input_text
from conjure.io.numbers import is_finite_number, is_integer
from conjure.io.text import is_blank, shorten, split_lines

MAX_MATRIX_TEXTS = 5_000  # 12.5 million pairs


def check_texts(texts: Iterable[str]) -> None:
    """Check that each text is a string of valid Unicode that is not blank.

    Whether a model has tokens for a text is not checked here: see `conjure.similarity.token_checks`.

    Raises:
        InputError: If a text is not a string, is empty, has only white space and control characters, or is not valid Unicode.
    """
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text is {text!r}; must be a string")
        if is_blank(text):
            raise InputError(f"the text {shorten(text)!r} is blank; give a text with at least one visible character")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            raise InputError(f"the text {shorten(text)!r} is not valid Unicode; give it in UTF-8")


def check_words(a: str, b: str, replacements: Mapping[str, str], divergence: str) -> None:
    """Check the arguments of `attribute`.

    Raises:
        InputError: If the texts are equal, a word to replace is in neither, a replacement is blank, or the divergence is
            `direct`.
    """
    if divergence == "direct":
        raise InputError("divergence 'direct' compares final images, which need no evaluated text; use another one for words")
    if a == b:
        raise InputError(f"both texts are {a!r}; give two texts that differ")
    words = f"{a} {b}".split()
    for word, replacement in replacements.items():
        if word not in words:
            raise InputError(f"the word {word!r} to replace is in neither text; their words are {', '.join(words)}")
        if not isinstance(replacement, str) or is_blank(replacement):
            raise InputError(f"the replacement of {word!r} is {replacement!r}; must be a word")


def parse_replacements(pairs: Iterable[str], name: str) -> dict[str, str]:
    """Return the words that replace others, by the words that they replace.

    Args:
        pairs: Texts OLD=NEW.
        name: What messages call a pair, such as the option that gives it.

    Raises:
        InputError: If a text has no equals sign, or a word is replaced twice.
    """
    replacements: dict[str, str] = {}
    for pair in pairs:
        old, separator, new = pair.partition("=")
        if not separator:
            raise InputError(f"{name} is {pair!r}; it must be OLD=NEW, as in snow=desert")
        if old in replacements:
            raise InputError(f"{name} is given twice for the word {old!r}; give one replacement per word")
        replacements[old] = new
    return replacements


def check_matrix_texts(texts: Iterable[str]) -> list[str]:
    """Check the texts of a matrix and return them as a list.

    Raises:
        InputError: If there are fewer than two or more than MAX_MATRIX_TEXTS texts, or a text occurs twice.
    """
    texts = list(texts)
    if len(texts) < 2:
        raise InputError(f"a matrix of {len(texts)} texts; give at least two")
    if len(texts) > MAX_MATRIX_TEXTS:
        raise InputError(f"a matrix of {len(texts):,} texts; give at most {MAX_MATRIX_TEXTS:,}, or some of its pairs (distances)")
    check_distinct(texts)
    return texts


def check_distinct(texts: Sequence[str]) -> None:
    """Check that no text occurs twice.

    Raises:
        InputError: If a text occurs twice.
    """
    seen = set[str]()
    for text in texts:
        if text in seen:
            raise InputError(f"the text {shorten(text)!r} occurs twice; give each text once")
        seen.add(text)


def check_ranking(candidates: Sequence[str], top: int, confidence: float) -> None:
    """Check the arguments of `nearest`.

    Raises:
        InputError: If there are no candidates, a candidate occurs twice, or a number is out of range.
    """
    if not candidates:
        raise InputError("there are no candidates; give at least one")
    check_distinct(candidates)
    if not is_integer(top, 1, len(candidates)):
        raise InputError(f"top is {top!r}; must be an integer from 1 to {len(candidates)}, the number of candidates")
    if not is_finite_number(confidence) or not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence!r}; must be a number between 0 and 1")


def read_groups(path: str | Path, max_mb: int = MAX_FILE_MB) -> list[list[str]]:
    r"""Read groups of texts from a UTF-8 file with one text per line. Blank lines separate groups.

    Only `\n`, `\r\n` and `\r` end a line.

    Args:
        path: The file, or `-` for standard input.
        max_mb: The largest size of the file, in units of 10^6 bytes.

    Raises:
        InputError: If the file cannot be read, is not a regular file, or is too large.
    """
    advice = "give a UTF-8 file with one text per line, or - for standard input"
    groups: list[list[str]] = [[]]
    for line in split_lines(read_input_text(path, max_mb, advice=advice)):
        if line.strip():
            groups[-1].append(line.strip())
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]

"""What is refused before anything is computed, or even loaded: this module imports nothing that takes long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from conjure.divergence import Measure
from conjure.errors import InputError
from conjure.estimate import Noise

# What `ablate` varies if nothing else is said; None for what needs no values. A size or a model has to be named.
AXES: dict[str, tuple[Any, ...] | None] = {
    "steps": (5, 10, 15, 20, 30, 50),
    "guidance": (1.0, 2.0, 3.0, 5.0, 7.5, 10.0),
    "scheduler": ("lms", "ddim", "euler", "dpmsolvermultistep"),
    "size": (),
    "model": (),
    "prior": None,
    "samples": None,
    "weighting": None,
}


def check(texts: Iterable[str], samples: int, noise: Noise, measure: Measure, precision: float | None = None) -> None:
    """Refuse what cannot be computed before anything is. Errors: `InputError`."""
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text is {text!r}; allowed are strings")
        if not any(character.isprintable() and not character.isspace() for character in text):
            raise InputError(f"the text {text!r} is blank; give a text with at least one visible character")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            raise InputError(f"the text {text!r} is not valid Unicode; give it in UTF-8")
    if not isinstance(samples, Integral) or not 1 <= samples <= 10**6:
        raise InputError(f"samples is {samples!r}; allowed are whole numbers from 1 to 1,000,000")
    if not isinstance(noise.seed, Integral) or noise.seed < 0:
        raise InputError(f"seed is {noise.seed!r}; allowed are whole numbers from 0 on")
    if noise.antithetic and measure.divergence == "direct":
        raise InputError("divergence 'direct' compares two pictures from the same noise; use it without antithetic noise")
    if precision is not None and not (isinstance(precision, Real) and 0 < precision < math.inf):
        raise InputError(f"precision is {precision!r}; allowed are numbers above 0, 0.05 for an interval of ± 5 %")


def check_words(a: str, b: str, instead: Mapping[str, str], divergence: str) -> None:
    """Refuse what `attribute` cannot do, before anything is computed. Errors: `InputError`."""
    if divergence == "direct":
        raise InputError("divergence 'direct' compares final pictures, which no text judges; use another for words")
    if a == b:
        raise InputError(f"both texts are {a!r}; the words of two texts that differ can be told apart")
    words = f"{a} {b}".split()
    for word, other in instead.items():
        if word not in words:
            raise InputError(f"the word {word!r} to replace is in neither text; their words are {', '.join(words)}")
        if not isinstance(other, str) or not other.strip():
            raise InputError(f"{other!r} is to stand in the place of {word!r}; give a word")


def check_texts(texts: Iterable[str]) -> list[str]:
    """The texts of a matrix. Errors: `InputError` for fewer than two, and for one that stands there twice."""
    texts = list(texts)
    if len(texts) < 2:
        raise InputError(f"a matrix of {len(texts)} texts; give at least two")
    check_distinct(texts)
    return texts


def check_distinct(texts: Sequence[str]) -> None:
    """Errors: `InputError` for a text that stands among `texts` twice."""
    seen = set[str]()
    for text in texts:
        if text in seen:
            raise InputError(f"the text {text!r} stands there twice; give each text once")
        seen.add(text)


def check_ranking(among: Sequence[str], top: int, confidence: float) -> None:
    """Refuse texts that cannot be ranked. Errors: `InputError` for none of them, one twice, and numbers out of range."""
    if not among:
        raise InputError("there are no texts to rank; give at least one")
    check_distinct(among)
    if not isinstance(top, Integral) or not 1 <= top <= len(among):
        raise InputError(f"top is {top!r}; allowed are whole numbers from 1 to {len(among)}, the number of texts")
    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence!r}; allowed are numbers between 0 and 1")


def check_axes(over: Mapping[str, Sequence[Any] | None]) -> dict[str, Sequence[Any]]:
    """What is to be varied, the usual values where none are given. Errors: `InputError` for other axes than `AXES`."""
    if not over:
        raise InputError(f"nothing is varied; allowed are {', '.join(AXES)}")
    chosen: dict[str, Sequence[Any]] = {}
    for axis, values in over.items():
        if axis not in AXES:
            raise InputError(f"unknown axis {axis!r}; allowed are {', '.join(AXES)}")
        usual = AXES[axis]
        if usual is None and values:
            raise InputError(f"the axis {axis!r} takes no values, since one run gives all of them; leave them out")
        if usual is not None and not (values or usual):
            raise InputError(f"the axis {axis!r} needs values, as in {axis}={'512,768' if axis == 'size' else 'MODEL,MODEL'}")
        chosen[axis] = list(dict.fromkeys(values or usual or ()))
    return chosen


def read_groups(path: str | Path) -> list[list[str]]:
    """The texts of a file, one a line; blank lines part groups. Errors: `InputError`."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 file with a text a line") from error
    groups: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            groups[-1].append(line.strip())
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]

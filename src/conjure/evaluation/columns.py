"""Which columns of a table are the two texts and the score: by known names, or as the user says. They are never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from conjure.errors import InputError

NUMBERED_STEMS = ("sentence", "sent", "text", "word", "phrase", "caption", "question", "string", "s")
TEXT_PAIRS = (
    *((f"{stem}1", f"{stem}2") for stem in NUMBERED_STEMS),
    *((f"{stem}a", f"{stem}b") for stem in NUMBERED_STEMS if stem != "s"),
    ("premise", "hypothesis"),
)
CLASS_LABELS = ("label", "goldlabel")  # beside premise and hypothesis: entailment, neutral or contradiction as 0, 1 and 2
SCORES = (
    "score", "rating", "similarity", "similarityscore", "relatedness", "relatednessscore", "label", "gold", "goldscore",
    "goldlabel", "humanscore", "humanrating", "humanmean", "meanscore", "simlex999",
)  # fmt: skip


def parse_text_columns(columns: str | None) -> tuple[str, str] | None:
    """Return the two names of the option `--columns` of a command that needs no scores. They are separated by a comma.

    Raises:
        InputError: If there are not two names.
    """
    if columns is None:
        return None
    first, second = _split_names(columns, 2, "two columns of texts, as in text1,text2")
    return first, second


def parse_columns(columns: str | None) -> tuple[str, str, str] | None:
    """Return the three names of the option `--columns`, which are separated by commas.

    Raises:
        InputError: If there are not three names.
    """
    if columns is None:
        return None
    first, second, score = _split_names(columns, 3, "two columns of texts and one of scores, as in text1,text2,score")
    return first, second, score


def find_columns(names: Sequence[str], source: str, chosen: Sequence[str] | None = None) -> tuple[str, str, str]:
    """Return the columns of the first texts, of the second texts and of the scores.

    Upper case, spaces and punctuation of the names do not matter, unless `chosen` is given.

    Args:
        names: All columns of the table.
        source: Where the table comes from, for error messages.
        chosen: The three columns; None finds them by their names.

    Raises:
        InputError: If a chosen column is missing, or there is not exactly one known pair and one known score.
    """
    if chosen is not None:
        _check_chosen(chosen, 3, "three different names: two columns of texts and one of scores", names, source)
        first, second, score = chosen
        return first, second, score
    advice = f"choose by columns A,B,SCORE (--columns) among its columns {_listed(names)}"
    by_key = _names_by_key(names)
    scores = [name for key in SCORES for name in by_key.get(key, ())]
    texts = _known_texts(by_key, source, advice)
    if len(scores) != 1:
        found = "several columns of scores" if scores else "no column 'score'"
        raise InputError(f"{source!r} has {found}; {advice}")
    if texts[0] in by_key.get("premise", ()) and any(scores[0] in by_key.get(key, ()) for key in CLASS_LABELS):
        raise InputError(f"{source!r} has {scores[0]!r} of premise and hypothesis, which may be numbers of classes; {advice}")
    return *texts, scores[0]


def find_text_columns(names: Sequence[str], source: str, chosen: Sequence[str] | None = None) -> tuple[str, str]:
    """Return the columns of the first texts and of the second texts.

    Args:
        names: All columns of the table.
        source: Where the table comes from, for error messages.
        chosen: The two columns; None finds them by their names, as `find_columns` does.

    Raises:
        InputError: If a chosen column is missing, or there is not exactly one known pair.
    """
    if chosen is None:
        advice = f"choose by columns A,B (--columns) among its columns {_listed(names)}"
        return _known_texts(_names_by_key(names), source, advice)
    _check_chosen(chosen, 2, "two different names of columns of texts", names, source)
    first, second = chosen
    return first, second


def _known_texts(by_key: Mapping[str, Sequence[str]], source: str, advice: str) -> tuple[str, str]:
    """Return the known pair of columns of texts.

    Raises:
        InputError: If there is not exactly one.
    """
    pairs = [(a, b) for first, second in TEXT_PAIRS for a in by_key.get(first, ()) for b in by_key.get(second, ())]
    if len(pairs) == 1:
        return pairs[0]
    found = "no known pair of columns of texts, such as text1 and text2"
    if pairs:
        found = f"several pairs of columns of texts: {'; '.join(f'{a!r} and {b!r}' for a, b in pairs)}"
    raise InputError(f"{source!r} has {found}; {advice}")


def _split_names(columns: str, number: int, expected: str) -> list[str]:
    """Return names that are separated by commas.

    Raises:
        InputError: If there are not `number` names; the message says what is expected.
    """
    names = [name.strip() for name in columns.split(",")]
    if len(names) != number or not all(names):
        raise InputError(f"columns is {columns!r}; must be {expected}")
    return names


def _check_chosen(chosen: Sequence[str], number: int, expected: str, names: Sequence[str], source: str) -> None:
    """Check that there are `number` different chosen columns, all of which are among `names`.

    Raises:
        InputError: If not; the message says what is expected.
    """
    if isinstance(chosen, str) or len(chosen) != number or len(set(chosen)) != number:
        raise InputError(f"columns is {chosen!r}; must be {expected}")
    for column in chosen:
        if column not in names:
            raise InputError(f"{source!r} has no column {column!r}; its columns are {_listed(names)}")


def _names_by_key(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the names by their letters and digits in lower case."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(re.sub(r"[\W_]+", "", name.lower()), []).append(name)
    return by_key


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"

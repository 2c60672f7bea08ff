"""English articles and plurals of the nouns in captions."""

from __future__ import annotations

IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice", "goose": "geese", "sheep": "sheep",
    "fish": "fish", "deer": "deer", "knife": "knives", "wolf": "wolves", "leaf": "leaves", "loaf": "loaves",
}  # fmt: skip


def article(noun: str) -> str:
    """Return the indefinite article of `noun`, chosen by its first letter."""
    return "an" if noun[:1].lower() in "aeiou" else "a"


def with_article(noun: str) -> str:
    """Return `noun` with its indefinite article, or without one for a plural: a dog, an old car, cherries."""
    ends_like_plural = noun.endswith("s") and not noun.endswith(("ss", "us"))
    is_plural = ends_like_plural or noun.split()[-1] in ("men", "women", "children", "people")
    return noun if is_plural else f"{article(noun)} {noun}"


def plural(noun: str) -> str:
    """Return the plural of an English noun phrase, formed from the ending of its last word."""
    head, _, last = noun.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        last = IRREGULAR_PLURALS[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "" if last.endswith("s") and not last.endswith("ss") else "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()

"""Limits of the requests of visitors, and the validation of their values."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from conjure.errors import InputError
from conjure.io.numbers import is_finite_number
from conjure.io.text import shorten, split_lines
from conjure.process_drift.groups import built_in_texts
from conjure.similarity.validation import check_distinct, check_matrix_texts, check_ranking, check_texts, parse_replacements

DEFAULT_SAMPLES = 3
DEFAULT_STEPS = 10
MAX_SEED = 2**31


class VisitorInputError(InputError):
    """An invalid value of a visitor. The message contains the value, and nothing that visitors must not see."""


@contextlib.contextmanager
def visitor_values() -> Iterator[None]:
    """Context manager, and decorator, for the validation of a visitor's values, whose errors become `VisitorInputError`."""
    try:
        yield
    except InputError as error:
        raise VisitorInputError(str(error)) from error


@dataclass(frozen=True)
class Limits:
    """Limits of the requests.

    Attributes:
        max_chars: Characters per text.
        max_texts: Texts per matrix, drift and ranking, and words that are replaced in a comparison.
        samples: Largest number of samples k.
        steps: Largest number of steps T.
        max_queue: Requests that wait.
        concurrency: Requests that are computed at the same time.
        max_jobs_per_visitor: Requests of one visitor that wait or are computed at the same time.
    """

    max_chars: int = 300
    max_texts: int = 16
    samples: int = 8
    steps: int = 50
    max_queue: int = 32
    concurrency: int = 1
    max_jobs_per_visitor: int = 4

    @property
    def default_sampling(self) -> tuple[int, int]:
        """The samples and steps of a request, unless the visitor changes them."""
        return min(DEFAULT_SAMPLES, self.samples), min(DEFAULT_STEPS, self.steps)

    @property
    def max_total_chars(self) -> int:
        """Characters of all texts of a request. Lines of a matrix may have white space around them."""
        return (self.max_chars + 2) * 2 * self.max_texts

    @visitor_values()
    def validated_text(self, text: object) -> str:
        """Return a text without surrounding white space.

        Raises:
            InputError: It is not a text, is blank, is too long, or is not valid Unicode.
        """
        if not isinstance(text, str):
            raise InputError("a text is not a string; enter a text")
        if not text.strip():
            raise InputError("a text is empty; enter a text")
        if len(text) > self.max_chars:
            raise InputError(f"a text has {len(text)} characters; at most {self.max_chars} are allowed")
        check_texts([text])
        return text.strip()

    @visitor_values()
    def validated_lines(self, lines: object) -> list[str]:
        """Return the texts of a matrix, which are given one per line.

        Raises:
            InputError: There are fewer than two texts or too many, a text is too long, or a text is given twice.
        """
        return check_matrix_texts(self._texts(lines))

    @visitor_values()
    def validated_candidates(self, lines: object) -> list[str]:
        """Return the candidates of a ranking, which are given one per line.

        Raises:
            InputError: There are no texts or too many, a text is too long, or a text is given twice.
        """
        texts = self._texts(lines)
        check_ranking(texts, 1, 0.5)
        return texts

    @visitor_values()
    def validated_drift_lines(self, lines: object) -> list[str]:
        """Return the texts of a drift, which are given one per line; a sample of the built-in texts if there are none.

        Raises:
            InputError: There are too many texts, a text is too long, or a text is given twice.
        """
        texts = self._texts(lines) or self.built_in_sample(self.max_texts)
        check_distinct(texts)
        return texts

    def built_in_sample(self, number: int) -> list[str]:
        """Return some of the built-in texts within the limits, from all groups in turn."""
        by_rank = itertools.chain.from_iterable(zip(*built_in_texts().values(), strict=False))
        allowed = (text for text in by_rank if len(text) <= self.max_chars)
        return list(itertools.islice(allowed, min(number, self.max_texts)))

    def _texts(self, lines: object) -> list[str]:
        if not isinstance(lines, str) or len(lines) > self.max_total_chars:
            raise InputError(f"give one text per line, at most {self.max_texts} of at most {self.max_chars} characters each")
        nonblank = [line for line in split_lines(lines) if line.strip()]
        if len(nonblank) > self.max_texts:
            raise InputError(f"there are {len(nonblank)} texts; at most {self.max_texts} are allowed")
        return [self.validated_text(line) for line in nonblank]

    @visitor_values()
    def validated_replacements(self, pairs: object) -> dict[str, str]:
        """Return the words that replace others, by the words that they replace.

        Args:
            pairs: OLD=NEW, one per line; None or blank for no replacement.

        Raises:
            InputError: It is not a text of this form, or has too many pairs or characters.
        """
        if pairs is None or (isinstance(pairs, str) and not pairs.strip()):
            return {}
        if not isinstance(pairs, str) or len(pairs) > self.max_total_chars:
            raise InputError(f"the words to replace are {_shown(pairs)}; give OLD=NEW, such as snow=desert, one per line")
        parts = [part.strip() for part in split_lines(pairs) if part.strip()]
        if len(parts) > self.max_texts:
            raise InputError(f"there are {len(parts)} words to replace; at most {self.max_texts} are allowed")
        replacements = parse_replacements(parts, "the word to replace")
        for text in replacements.values():
            self.validated_text(text)
        return replacements

    @visitor_values()
    def validated_guidance(self, name: str, guidance: object) -> float | None:
        """Return a guidance scale; None if it is None or blank, which stands for that of the model.

        Raises:
            InputError: It is not a finite number of at least 0.
        """
        value = guidance
        if isinstance(value, str):
            if not value.strip():
                return None
            with contextlib.suppress(ValueError):
                value = float(value)
        if value is None:
            return None
        if not is_finite_number(value) or not isinstance(value, int | float) or value < 0:
            raise InputError(f"{name} is {_shown(guidance)}; it must be a finite number >= 0")
        return float(value)

    @visitor_values()
    def validated_steps(self, name: str, steps: object) -> int:
        """Return a number of denoising steps.

        Raises:
            InputError: It is not an integer, or is out of range.
        """
        return _validated_integer(name, steps, 1, self.steps)

    @visitor_values()
    def validated_settings(self, samples: object, steps: object, seed: object) -> tuple[int, int, int]:
        """Return samples, steps and seed as integers.

        Raises:
            InputError: One of them is not an integer, or is out of range.
        """
        return (
            _validated_integer("samples", samples, 1, self.samples),
            self.validated_steps("steps", steps),
            _validated_integer("seed", seed, 0, MAX_SEED),
        )


def _validated_integer(name: str, value: object, smallest: int, largest: int) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and smallest <= value <= largest and value == int(value):
        return int(value)
    raise InputError(f"{name} is {_shown(value)}; it must be an integer from {smallest} to {largest}")


def _shown(value: object) -> str:
    """Return a value of a visitor as a message shows it."""
    return repr(shorten(str(value)))

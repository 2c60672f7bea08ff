"""Limits of the requests of visitors, and the validation of their values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from conjure.errors import InputError
from conjure.io.text import split_lines
from conjure.process_drift.groups import built_in_texts
from conjure.similarity.validation import check_distinct, check_matrix_texts, check_texts

DEFAULT_SAMPLES = 3
DEFAULT_STEPS = 10
MAX_SEED = 2**31


@dataclass(frozen=True)
class Limits:
    """Limits of the requests.

    Attributes:
        max_chars: Characters per text.
        max_texts: Texts per matrix, and per drift.
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

    def validated_text(self, text: object) -> str:
        """Return a text without surrounding white space.

        Raises:
            InputError: It is not a text, is blank, is too long, or is not valid Unicode.
        """
        if not isinstance(text, str) or not text.strip():
            raise InputError("a text is empty; give two texts")
        if len(text) > self.max_chars:
            raise InputError(f"a text has {len(text)} characters; at most {self.max_chars} are allowed")
        check_texts([text])
        return text.strip()

    def validated_lines(self, lines: object) -> list[str]:
        """Return the texts of a matrix, which are given one per line.

        Raises:
            InputError: There are fewer than two texts or too many, a text is too long, or a text is given twice.
        """
        if not isinstance(lines, str) or len(lines) > self.max_total_chars:
            raise InputError(f"give one text per line, at most {self.max_texts} of at most {self.max_chars} characters each")
        return check_matrix_texts(self.validated_text(line) for line in self._nonblank_lines(lines))

    def validated_drift_lines(self, lines: object) -> list[str]:
        """Return the texts of a drift, which are given one per line; a sample of the built-in texts if there are none.

        Raises:
            InputError: There are too many texts, a text is too long, or a text is given twice.
        """
        if not isinstance(lines, str) or len(lines) > self.max_total_chars:
            raise InputError(f"give one text per line, at most {self.max_texts} of at most {self.max_chars} characters each")
        texts = [self.validated_text(line) for line in self._nonblank_lines(lines)] or self.built_in_sample(self.max_texts)
        check_distinct(texts)
        return texts

    def built_in_sample(self, number: int) -> list[str]:
        """Return some of the built-in texts within the limits, from all groups in turn."""
        by_rank = itertools.chain.from_iterable(zip(*built_in_texts().values(), strict=False))
        allowed = (text for text in by_rank if len(text) <= self.max_chars)
        return list(itertools.islice(allowed, min(number, self.max_texts)))

    def _nonblank_lines(self, lines: str) -> list[str]:
        nonblank = [line for line in split_lines(lines) if line.strip()]
        if len(nonblank) > self.max_texts:
            raise InputError(f"there are {len(nonblank)} texts; at most {self.max_texts} are allowed")
        return nonblank

    def validated_steps(self, name: str, steps: object) -> int:
        """Return a number of denoising steps.

        Raises:
            InputError: It is not an integer, or is out of range.
        """
        return _validated_integer(name, steps, 1, self.steps)

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
    raise InputError(f"{name} is {str(value)[:80]!r}; it must be an integer from {smallest} to {largest}")

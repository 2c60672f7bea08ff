"""The answers to requests, and a cache of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MAX_CACHED_CHARS = 100_000_000  # of answers, which examples and shared links then get immediately


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Attributes:
        head: The distance and notes, as HTML.
        body: The images, as HTML.
        csv: The distances of a matrix, or the divergences of texts, as comma-separated values.
    """

    head: str
    body: str
    csv: str = ""


class AnswerCache:
    """A cache of answers, which several threads may share. The least recently used answers are removed first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[Any, ...], Answer] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: tuple[Any, ...]) -> Answer | None:
        """Return an answer, which becomes the most recently used one; None if it is not in the cache."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)

    def add(self, key: tuple[Any, ...], answer: Answer) -> Answer:
        """Add an answer, and return it. Beyond `MAX_CACHED_CHARS`, the least recently used answers are removed."""
        with self._lock:
            self._answers[key] = answer
            while sum(len(cached.head + cached.body + cached.csv) for cached in self._answers.values()) > MAX_CACHED_CHARS:
                self._answers.popitem(last=False)
        return answer

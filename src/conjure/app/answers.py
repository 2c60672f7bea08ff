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
        csv: The numbers of the answer as comma-separated values.
    """

    head: str
    body: str
    csv: str = ""


Settings = tuple[object, object, object, object, object]
"""Settings of a request as a visitor gives them: model, samples, steps, seed and guidance, see `Sampling`."""


@dataclass(frozen=True)
class Sampling:
    """The valid settings of a request.

    Attributes:
        model: The label of the model.
        samples: The number of samples.
        steps: The number of denoising steps.
        seed: The seed of the noise.
        guidance: The guidance scale; None for that of the model.
    """

    model: str
    samples: int
    steps: int
    seed: int
    guidance: float | None


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

"""Where a measure and people part: kinds of pairs that it takes for too similar or too different, and the pairs farthest off.

A pair's residual is its rank by the measure less its rank by people, both from 0 (least similar) to 100 (most): positive where
the measure finds two texts more alike than people do. Residuals need no scale in common; their mean over all pairs is 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjure.agreement import Agreement, agreement, places
from conjure.benchmarks import Pairs

FEWEST = 10  # pairs of which something is said
FARTHEST = 20

NEGATED = ("in neither", "in one", "in both")
NEGATIONS = re.compile("no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|.*n['’]t")
NUMBERS = re.compile(
    r"\d.*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    "(twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|dozen"
)


@dataclass(frozen=True)
class Group:
    """Pairs of one kind. bias: mean residual, and its 95 % interval. agreement: within the group, None where nothing varies."""

    kind: str
    name: str
    pairs: int
    bias: float
    bias95: tuple[float, float]
    agreement: Agreement | None

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, the correlation x100."""
        found = self.agreement
        return {
            "kind": self.kind,
            "name": self.name,
            "pairs": self.pairs,
            "bias": round(self.bias, 2),
            "bias95": [round(end, 2) for end in self.bias95],
            **{key: None if found is None else found.summary()[key] for key in ("spearman", "ci95")},
        }


def residuals(distances: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each pair, shape (pairs,), in -100..100; distances (pairs, samples)."""
    return places(-distances.mean(1)) - places(scores)


def farthest(distances: np.ndarray, scores: np.ndarray, number: int = FARTHEST) -> tuple[list[int], list[int]]:
    """Numbers of the pairs taken for far too similar, and of those taken for far too different, the farthest first."""
    left = residuals(distances, scores)
    order = np.argsort(left, kind="stable")
    return ([int(i) for i in order[::-1][:number] if left[i] > 0], [int(i) for i in order[:number] if left[i] < 0])


def groups(pairs: Pairs, distances: np.ndarray) -> list[Group]:
    """The pairs by kind: length, words in common, negation, numbers, and the parts of the set (of speech, in SimLex-999)."""
    left = residuals(distances, pairs.scores)
    found = []
    for kind, (order, names) in _kinds(pairs).items():
        for name in order:
            at = np.array([one == name for one in names])
            if at.sum() < FEWEST or at.all():
                continue
            mean, half = left[at].mean(), 1.96 * left[at].std(ddof=1) / math.sqrt(at.sum())
            varies = all(np.ptp(values[at]) > 0 for values in (distances.mean(1), pairs.scores))
            within = agreement(distances[at], pairs.scores[at]) if varies else None
            found.append(Group(kind, name, int(at.sum()), float(mean), (float(mean - half), float(mean + half)), within))
    return found


def _kinds(pairs: Pairs) -> dict[str, tuple[list[str], list[str]]]:
    """For each kind its groups in order, and the group of every pair."""
    words = [(_words(first), _words(second)) for first, second in pairs.texts]
    lengths = [(len(a) + len(b)) / 2 for a, b in words]
    common = [len(set(a) & set(b)) / max(len(set(a) | set(b)), 1) for a, b in words]
    kinds = {
        "length": _thirds(lengths, lambda low, high: f"{low:g} to {high:g} words"),
        "words in common": _thirds(common, lambda low, high: f"{100 * low:.0f} to {100 * high:.0f} %"),
        "negation": (list(NEGATED), [NEGATED[_negates(a) + _negates(b)] for a, b in words]),
        "numbers": (["none", "the same", "different"], [_numbers(a, b) for a, b in words]),
    }
    return kinds | ({} if pairs.part is None else {"part": (sorted(set(pairs.part)), list(pairs.part))})


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)?", text.lower())


def _negates(words: Sequence[str]) -> bool:
    return any(NEGATIONS.fullmatch(word) for word in words)


def _numbers(a: Sequence[str], b: Sequence[str]) -> str:
    first, second = (sorted(word for word in words if NUMBERS.fullmatch(word)) for words in (a, b))
    if not first and not second:
        return "none"
    return "the same" if first == second else "different"


def _thirds(values: Sequence[float], name: Callable[[float, float], str]) -> tuple[list[str], list[str]]:
    """Thirds of `values` by the values that they span, in order, and each value's own; fewer than three where values repeat."""
    array = np.asarray(values, dtype=float)
    third = np.searchsorted(np.quantile(array, [1 / 3, 2 / 3]), array, side="left")
    names = {one: name(array[third == one].min(), array[third == one].max()) for one in sorted(set(third.tolist()))}
    return list(names.values()), [names[one] for one in third.tolist()]

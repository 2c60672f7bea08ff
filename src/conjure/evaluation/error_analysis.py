"""Where a measure and human ratings differ: kinds of pairs with a systematic error, and the pairs with the largest errors.

The residual of a pair is its rank of similarity by the measure minus its rank by human ratings. Both ranks go from 0 (least
similar) to 100 (most similar), so a positive residual means that the measure overestimates the similarity. Ranks need no common
scale. The mean of the residuals over all pairs is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.divergence.intervals import t_interval
from conjure.evaluation.correlation import Agreement, Difference, agreement, difference, has_correlation, percentile_ranks
from conjure.evaluation.pair_files import Pairs

MIN_GROUP_SIZE = 10  # pairs
NUM_OUTLIERS = 20  # pairs in either direction
MAX_COLORS = 8  # groups in a figure

NEGATION_GROUPS = ("in neither", "in one", "in both")  # texts that contain a negation
NEGATIONS = re.compile("no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|.*n['’]t")
NUMBERS = re.compile(
    r"\d.*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen|"
    "(twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|dozen"
)


@dataclass(frozen=True)
class Group:
    """Pairs of one kind.

    Attributes:
        kind: What the pairs are grouped by, such as `length`.
        name: Name of the group.
        pairs: Number of pairs.
        bias: Mean residual, -100 to 100.
        bias_ci95: 95% confidence interval of the mean residual.
        agreement: Agreement with human ratings within the group; None if all distances or all ratings in it are equal.
        encoder: Agreement of the text encoder with human ratings within the group; None if the baseline `encoder` was not
            measured, or where `agreement` or this agreement is not defined.
        difference: `agreement` minus `encoder`, with the interval of a paired bootstrap; None where `encoder` is None.
    """

    kind: str
    name: str
    pairs: int
    bias: float
    bias_ci95: tuple[float, float]
    agreement: Agreement | None
    encoder: Agreement | None = None
    difference: Difference | None = None

    bias95 = deprecated_property("bias95", "bias_ci95")

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        within = None if self.agreement is None else self.agreement.summary()
        encoder = None
        if self.encoder is not None and self.difference is not None:
            encoder = {key: self.encoder.summary()[key] for key in ("spearman", "ci95")}
            encoder["difference"] = self.difference.summary()
        return {
            "kind": self.kind,
            "name": self.name,
            "pairs": self.pairs,
            "bias": self.bias,
            "bias_ci95": list(self.bias_ci95),
            **{key: None if within is None else within[key] for key in ("spearman", "ci95")},
            "encoder": encoder,
        }


def residuals(distances: Float[np.ndarray, "pairs samples"], scores: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """Return the residual of each pair, -100 to 100.

    Args:
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        scores: Human rating of each pair, shape (pairs,).
    """
    return percentile_ranks(-distances.mean(1)) - percentile_ranks(scores)


def largest_residuals(
    distances: Float[np.ndarray, "pairs samples"], scores: Float[np.ndarray, " pairs"], number: int = NUM_OUTLIERS
) -> tuple[list[int], list[int]]:
    """Return the pairs whose similarity is overestimated most, and those whose similarity is underestimated most.

    Args:
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        scores: Human rating of each pair, shape (pairs,).
        number: Largest number of pairs in either list.

    Returns:
        Two lists of indices, the largest residual first. Pairs without a residual are in neither.
    """
    values = residuals(distances, scores)
    order = np.argsort(values, kind="stable")
    overestimated = [int(i) for i in order[::-1][:number] if values[i] > 0]
    underestimated = [int(i) for i in order[:number] if values[i] < 0]
    return overestimated, underestimated


def groups(
    pairs: Pairs,
    distances: Float[np.ndarray, "pairs samples"],
    encoder_distances: Float[np.ndarray, "pairs _"] | None = None,
) -> list[Group]:
    """Return the mean residual of each kind of pair, and the agreement with human ratings within it.

    Pairs are grouped by length, words in common, negation, numbers, and the subset of the dataset (in SimLex-999 the part of
    speech). Groups of fewer than MIN_GROUP_SIZE pairs, and groups that contain all pairs, are left out.

    Args:
        pairs: The pairs.
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        encoder_distances: Distance of each pair by the text encoder, shape (pairs, samples); None if it was not measured.

    Raises:
        InputError: If a distance is not finite.
    """
    values = residuals(distances, pairs.scores)
    result = []
    for kind, (names, group_of_pair) in _kinds(pairs).items():
        for name in names:
            mask = np.array([group == name for group in group_of_pair])
            if mask.sum() < MIN_GROUP_SIZE or mask.all():
                continue
            bias, _, bias_ci95 = t_interval(values[mask])
            scores, within, encoder, change = pairs.scores[mask], None, None, None
            if has_correlation(distances[mask], scores):
                within = agreement(distances[mask], scores)
                if encoder_distances is not None and has_correlation(encoder_distances[mask], scores):
                    encoder = agreement(encoder_distances[mask], scores)
                    change = difference(distances[mask], encoder_distances[mask], scores)
            result.append(Group(kind, name, int(mask.sum()), bias, bias_ci95, within, encoder, change))
    return result


def main_kind(pairs: Pairs) -> tuple[str, list[str], list[str]]:
    """Return the kind that distinguishes pairs in figures: the subset of the dataset, words in common or length.

    Args:
        pairs: The pairs.

    Returns:
        The kind, the names of its groups in order, and the group of each pair. There is one group if no kind has several.
    """
    kinds = _kinds(pairs)
    for kind in ("subset", "words in common", "length"):
        names, group_of_pair = kinds.get(kind, ([], []))
        if 1 < len(names) <= MAX_COLORS:
            return kind, names, group_of_pair
    return "all pairs", ["all"], ["all"] * len(pairs)


def _kinds(pairs: Pairs) -> dict[str, tuple[list[str], list[str]]]:
    """Return for each kind the names of its groups, in order, and the group of each pair."""
    words = [(_words(first), _words(second)) for first, second in pairs.texts]
    lengths = [(len(a) + len(b)) / 2 for a, b in words]
    shared = [len(set(a) & set(b)) / max(len(set(a) | set(b)), 1) for a, b in words]
    kinds = {
        "length": _thirds(lengths, lambda low, high: f"{low:g} to {high:g} words"),
        "words in common": _thirds(shared, lambda low, high: f"{100 * low:.0f}% to {100 * high:.0f}%"),
        "negation": (list(NEGATION_GROUPS), [NEGATION_GROUPS[_has_negation(a) + _has_negation(b)] for a, b in words]),
        "numbers": (["none", "the same", "different"], [_compare_numbers(a, b) for a, b in words]),
    }
    return kinds | ({} if pairs.subset is None else {"subset": (sorted(set(pairs.subset)), list(pairs.subset))})


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:['’]\w+)?", text.lower())


def _has_negation(words: Sequence[str]) -> bool:
    return any(NEGATIONS.fullmatch(word) for word in words)


def _compare_numbers(a: Sequence[str], b: Sequence[str]) -> str:
    first, second = (sorted(word for word in words if NUMBERS.fullmatch(word)) for words in (a, b))
    if not first and not second:
        return "none"
    return "the same" if first == second else "different"


def _thirds(values: Sequence[float], label: Callable[[float, float], str]) -> tuple[list[str], list[str]]:
    """Split values into thirds.

    Args:
        values: One value per pair. With many equal values there are fewer than three groups.
        label: Makes the name of a group from its lowest and its highest value.

    Returns:
        The names of the groups in order, and the name of the group of each value.
    """
    array = np.asarray(values, dtype=float)
    third = np.searchsorted(np.quantile(array, [1 / 3, 2 / 3]), array, side="left")
    names = {index: label(array[third == index].min(), array[third == index].max()) for index in sorted(set(third.tolist()))}
    return list(names.values()), [names[index] for index in third.tolist()]

"""Two runs on the same pairs, and in each subset of a dataset, such as each part of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.evaluation.correlation import Agreement, Difference, agreement, difference, has_correlation
from conjure.evaluation.report import format_interval


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two runs on the same pairs.

    Attributes:
        pairs: Number of pairs.
        agreements: Agreement of each run with human ratings.
        difference: Agreement of the first run minus that of the second.
    """

    pairs: int
    agreements: tuple[Agreement, Agreement]
    difference: Difference

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "pairs": self.pairs,
            **{key: [agreement.summary()[key] for agreement in self.agreements] for key in ("spearman", "ci95")},
            "difference": self.difference.summary(),
        }

    def cells(self) -> list[str]:
        """Return a row of a table: pairs, both agreements, their difference with its interval and p, and the rank correlation."""
        change = self.difference
        return [
            str(self.pairs),
            *(f"{100 * agreement.spearman:.1f}" for agreement in self.agreements),
            f"{100 * change.spearman:+.1f}",
            format_interval([100 * end for end in change.ci95]),
            f"{change.p:.2g}",
            f"{100 * change.rank_correlation:.1f}",
        ]


def compare(
    first: Float[np.ndarray, "pairs first_samples"],
    second: Float[np.ndarray, "pairs second_samples"],
    scores: Float[np.ndarray, " pairs"],
) -> PairedComparison:
    """Compare the distances of two runs.

    Args:
        first: Distances of the first run.
        second: Distances of the second run.
        scores: Human rating of each pair.

    Raises:
        InputError: As for `agreement`.
    """
    agreements = (agreement(first, scores), agreement(second, scores))
    return PairedComparison(pairs=len(scores), agreements=agreements, difference=difference(first, second, scores))


def compare_subsets(
    first: Float[np.ndarray, "pairs first_samples"],
    second: Float[np.ndarray, "pairs second_samples"],
    scores: Float[np.ndarray, " pairs"],
    subsets: Sequence[str | None],
) -> dict[str, PairedComparison]:
    """Compare two runs in each subset; those for which no correlation is defined are left out.

    Args:
        first: Distances of the first run.
        second: Distances of the second run.
        scores: Human rating of each pair.
        subsets: The subset of each pair; None in datasets without subsets.

    Returns:
        The comparisons by subset, empty for a dataset with fewer than two subsets.
    """
    comparisons = {}
    names = sorted({name for name in subsets if name is not None})
    for name in names if len(names) > 1 else ():
        mask = np.array([subset == name for subset in subsets])
        if all(has_correlation(distances[mask], scores[mask]) for distances in (first, second)):
            comparisons[name] = compare(first[mask], second[mask], scores[mask])
    return comparisons

r"""Partial rank correlation: how far distances agree with human ratings beyond what another measure explains.

With $r$ the rank correlation of distances $d$, ratings $h$ and the other measure $e$ (distances negated),

$$r_{dh \cdot e} = \frac{r_{dh} - r_{de} r_{eh}}{\sqrt{(1 - r_{de}^2)(1 - r_{eh}^2)}} .$$

It is the correlation of what remains of the ranks of distances and of ratings after linear regression on the ranks of the other
measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from jaxtyping import Float

from conjure.evaluation.bootstrap import (
    NUM_BOOTSTRAP,
    centered_bootstrap,
    iter_resamples,
    percentile_interval,
    rank_correlation,
    weighted_spearman,
)
from conjure.evaluation.few_pairs import FEW_PAIRS, inversion_interval

MIN_PAIRS = 4  # three pairs of ranks always lie on one line after the regression
SAME_RANKS = 1e-12  # of 1 - r^2: nothing remains after the regression


@dataclass(frozen=True)
class PartialCorrelation:
    """Rank correlation of distances with human ratings, given another measure.

    Attributes:
        spearman: Partial rank correlation, -1 to 1; 0 if the other measure has the ranks of the distances or of the ratings.
        ci95: 95% confidence interval, by a bootstrap over pairs, and over samples where there are several. With fewer than 20
            pairs, it is the interval by inversion, as in `Agreement`, for one pair less.
        pairs: Number of pairs.
    """

    spearman: float
    ci95: tuple[float, float]
    pairs: int

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "spearman": 100 * self.spearman,
            "ci95": [100 * end for end in self.ci95],
            "pairs": self.pairs,
        }

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{100 * self.spearman:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def partial_rank_correlation(
    distances: Float[np.ndarray, "pairs samples"],
    given: Float[np.ndarray, "pairs _"],
    scores: Float[np.ndarray, " pairs"],
    seed: int = 0,
) -> PartialCorrelation | None:
    """Return the partial rank correlation of negated distances with human ratings, given another measure.

    Args:
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        given: Distances by the other measure, shape (pairs, samples).
        scores: Human rating of each pair, shape (pairs,).
        seed: Seed of the bootstrap.

    Returns:
        The correlation of the means over samples; None with fewer than four pairs.

    Reference:
        Fisher (1924), "The distribution of the partial correlation coefficient": it is distributed as a correlation of one pair
        less.
    """
    pairs, samples = len(scores), max(distances.shape[1], given.shape[1])
    if pairs < MIN_PAIRS:
        return None
    x, z = -distances.mean(1), -given.mean(1)
    estimate = _partial(rank_correlation(x, scores), rank_correlation(x, z), rank_correlation(z, scores))
    intervals = []
    if pairs < FEW_PAIRS:
        intervals.append(inversion_interval(estimate, pairs - 1))
    if pairs >= FEW_PAIRS or samples > 1:  # only the bootstrap contains the error over samples
        draws = np.empty(NUM_BOOTSTRAP)
        for indices, means, counts in iter_resamples([distances, given], seed):
            first, other = (-mean for mean in means)
            sides = ((first, scores), (first, other), (other, scores))
            draws[indices] = _partial(*(weighted_spearman(*side, counts) for side in sides))
        intervals.append(percentile_interval(centered_bootstrap(draws, estimate, samples), estimate))
    lows, highs = zip(*intervals, strict=True)
    return PartialCorrelation(estimate, (max(min(lows), -1.0), min(max(highs), 1.0)), pairs)


@overload
def _partial(xy: float, xz: float, zy: float) -> float: ...
@overload
def _partial(xy: Float[np.ndarray, " n"], xz: Float[np.ndarray, " n"], zy: Float[np.ndarray, " n"]) -> np.ndarray: ...
def _partial(xy: Any, xz: Any, zy: Any) -> Any:
    """Return partial correlations from three correlations."""
    remaining = (1 - np.square(xz)) * (1 - np.square(zy))
    is_defined = remaining > SAME_RANKS
    partial = np.where(is_defined, (xy - xz * zy) / np.sqrt(np.where(is_defined, remaining, 1)), 0.0)
    return np.clip(partial, -1, 1) if partial.ndim else float(np.clip(partial, -1, 1))

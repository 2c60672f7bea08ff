"""Inference on rank correlations of few pairs, for which bootstrap intervals and asymptotic p-values do not hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy import stats

from conjure.io.formatting import pluralize

FEW_PAIRS = 20  # from this number of pairs on, bootstrap intervals and the t distribution are used
NUM_PERMUTATIONS = 40_320  # all permutations of 8 pairs
NUM_SIMULATIONS = 4000  # for each correlation of the grid
GRID = 61  # correlations of the simulated distributions


def permutation_p(x: Float[np.ndarray, " pairs"], y: Float[np.ndarray, " pairs"]) -> float:
    """Return the two-sided p-value of a rank correlation by permutation: exact up to 8 pairs, otherwise of random permutations.

    Random permutations include the observed one, so that p is never 0.

    Args:
        x: Values of the first side.
        y: Values of the second side.
    """
    ranks, other_ranks = (stats.rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    result = stats.permutation_test(
        (ranks,), lambda permuted, axis: (permuted * other_ranks).sum(axis), permutation_type="pairings",
        n_resamples=NUM_PERMUTATIONS, vectorized=True, rng=0,
    )  # fmt: skip
    return float(result.pvalue)


def inversion_interval(correlation: float, pairs: int) -> tuple[float, float]:
    r"""Return the 95% interval of a rank correlation by inversion of its simulated distribution.

    The interval contains each population value for which neither a correlation at least as large, nor one at least as small, has
    a probability below 2.5%. The two sides are normal variables with correlation $\rho$, up to monotone transformations; their
    population rank correlation is $6 / \pi \, \arcsin(\rho / 2)$.

    Args:
        correlation: The rank correlation of the pairs.
        pairs: Their number, at least 3.
    """
    population, low, high = _distribution(pairs)
    rounding = 1e-9
    # the ends are refused values of the grid, next to the allowed ones; the quantiles increase with the population value
    too_small, too_large = population[high < correlation - rounding], population[low > correlation + rounding]
    return min(float(too_small.max(initial=-1.0)), correlation), max(float(too_large.min(initial=1.0)), correlation)


@lru_cache(maxsize=FEW_PAIRS)
def _distribution(pairs: int) -> tuple[Float[np.ndarray, " grid"], Float[np.ndarray, " grid"], Float[np.ndarray, " grid"]]:
    """Return population rank correlations, and the 2.5% and 97.5% quantiles of the rank correlation of `pairs` pairs at each."""
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, NUM_SIMULATIONS, pairs))
    ranks = _ranks(x)
    correlations = np.sin(np.linspace(-np.pi / 2, np.pi / 2, GRID))
    low, high = np.empty(GRID), np.empty(GRID)
    for i, rho in enumerate(correlations):
        statistic = 1 - 6 * np.square(ranks - _ranks(rho * x + np.sqrt(1 - rho**2) * noise)).sum(1) / (pairs * (pairs**2 - 1))
        low[i], high[i] = np.quantile(statistic, [0.025, 0.975], method="inverted_cdf")
    return 6 / np.pi * np.arcsin(correlations / 2), low, high


def _ranks(values: Float[np.ndarray, "rows pairs"]) -> Float[np.ndarray, "rows pairs"]:
    """Return the ranks within each row of values without ties."""
    return values.argsort(1).argsort(1).astype(float)


def few_pairs_notes(pairs: Mapping[str, int]) -> list[str]:
    """Return a note for each dataset with fewer than FEW_PAIRS pairs.

    Args:
        pairs: Number of pairs by title of the dataset.
    """
    return [
        f"{title} has only {pluralize(number, 'pair')}: its correlations are very uncertain; use at least {FEW_PAIRS} pairs"
        for title, number in pairs.items()
        if number < FEW_PAIRS
    ]

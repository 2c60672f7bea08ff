"""Means over samples, ratios of means, and summaries over texts, each with a 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.divergence.intervals import nonnegative_ends, nonnegative_interval, pool_errors
from conjure.io.formatting import format_interval, format_with_error
from conjure.io.numbers import none_if_not_finite

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Mean:
    """A mean that is not negative.

    Attributes:
        value: The mean.
        stderr: Its standard error (NaN where unknown).
        ci95: Its 95% interval, never negative (NaN where unknown).
    """

    value: float
    stderr: float = math.nan
    ci95: tuple[float, float] = (math.nan, math.nan)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return "undefined" if math.isnan(self.value) else format_with_error(self.value, self.stderr)

    @property
    def interval(self) -> str:
        """The interval as text; empty where it is unknown."""
        return format_interval(self.ci95, self.stderr)

    def as_percentage(self) -> Mean:
        """Return a ratio as a percentage."""
        return Mean(100 * self.value, 100 * self.stderr, (100 * self.ci95[0], 100 * self.ci95[1]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is unknown."""
        return {
            "value": none_if_not_finite(self.value),
            "stderr": none_if_not_finite(self.stderr),
            "ci95": None if math.isnan(self.ci95[0]) else list(self.ci95),
        }


def means_of(values: Float[np.ndarray, "texts samples"]) -> list[Mean]:
    """Return the mean of each text over samples.

    From ten texts on, standard errors are moderated by the variances of all texts (`divergence.intervals.pool_errors`).

    Args:
        values: Values whose means are not negative.
    """
    errors = pool_errors(values)
    averages = values.mean(1)
    low, high = nonnegative_ends(averages, errors.stderr, errors.degrees_of_freedom)
    return [
        Mean(float(average), float(stderr), (float(lower), float(upper)))
        for average, stderr, lower, upper in zip(averages, errors.stderr, low, high, strict=True)
    ]


def ratios_of(numerators: Float[np.ndarray, "texts samples"], denominators: Float[np.ndarray, "texts samples"]) -> list[Mean]:
    r"""Return for each text the ratio of two means over the same samples.

    The standard error is that of the delta method for paired samples: the ratio $R$ of the means of $a_i$ and $b_i$ has the
    error of the mean of $R + (a_i - R b_i) / \bar b$. It is moderated as in `means_of`.

    Args:
        numerators: The values $a_i$, not negative.
        denominators: The values $b_i$, not negative.

    Returns:
        The ratios; NaN if the mean of the denominator is 0.
    """
    scales = denominators.mean(1, keepdims=True)
    defined = scales[:, 0] > 0
    result = [Mean(math.nan)] * len(scales)
    if defined.any():
        a, b, scale = numerators[defined], denominators[defined], scales[defined]
        ratio = a.mean(1, keepdims=True) / scale
        for index, mean in zip(np.flatnonzero(defined), means_of(ratio + (a - ratio * b) / scale), strict=True):
            result[index] = mean
    return result


@dataclass(frozen=True)
class Quantile:
    """A quantile over texts.

    Attributes:
        value: The quantile.
        ci95: Its 95% interval. It is NaN where there are too few texts for an upper or a lower end.
    """

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """The distribution of a value over texts.

    Attributes:
        texts: The number of texts with a value.
        mean: The mean over texts, with its error over texts.
        quantiles: The quantiles by their levels.
    """

    texts: int
    mean: Mean
    quantiles: dict[float, Quantile]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is unknown."""
        quantiles = {
            f"{level:g}": {"value": quantile.value, "ci95": [none_if_not_finite(end) for end in quantile.ci95]}
            for level, quantile in self.quantiles.items()
        }
        return asdict(self) | {"mean": self.mean.to_dict(), "quantiles": quantiles}


def summarize(values: Sequence[float]) -> Summary | None:
    """Return the distribution of one value per text; None without a value. Texts without a value (NaN) are left out."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return None
    return Summary(len(known), Mean(*nonnegative_interval(known)), {level: quantile(known, level) for level in QUANTILES})


def quantile(values: Float[np.ndarray, " texts"], level: float) -> Quantile:
    r"""Return a quantile with its distribution-free 95% interval.

    The number of values below the true quantile has a binomial distribution. The ends of the interval are therefore the order
    statistics whose ranks are its quantiles 0.025 and 0.975.

    Args:
        values: One value per text.
        level: The level of the quantile, between 0 and 1.

    Reference:
        Conover (1999), "Practical Nonparametric Statistics", section 3.2.
    """
    from scipy.special import bdtr

    ordered, n = np.sort(values), len(values)
    cumulative = bdtr(np.arange(n + 1), n, level)
    lower = int(np.searchsorted(cumulative, 0.025, side="right"))  # the rank of the lower end; 0 if there is none
    upper = int(np.searchsorted(cumulative, 0.975)) + 1
    low = float(ordered[lower - 1]) if lower >= 1 else math.nan
    high = float(ordered[upper - 1]) if upper <= n else math.nan
    return Quantile(float(np.quantile(ordered, level)), (low, high))

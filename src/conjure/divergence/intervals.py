r"""Standard errors and 95% intervals of means over Monte-Carlo samples.

Signed values, such as an asymmetry, have Student's t interval. A distance is a mean of values that are not negative and whose
distribution is skewed to the right, so it has Student's t interval on the scale of the square root. With $m$ the mean of $k$
values, $s$ their standard deviation and $h = t_{0.975, k - 1} \, s / \sqrt k$, the delta method gives $\sqrt m$ the half-width
$h / (2 \sqrt m)$. The squares of both ends are

$$\left( \sqrt m \pm \frac{h}{2 \sqrt m} \right)^2 = m \pm h + \frac{h^2}{4 m} ,$$

with 0 as the lower end where $h > 2 m$. The interval is never negative. Where $h \le 2 m$ it is as wide as the t interval, but it
lies higher, since nearly all misses of the t interval of skewed values are below the true value.
`benchmarks/interval_coverage.py` measures coverage and width of both, and of alternatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MIN_POOLED_PAIRS = 10  # with fewer pairs, the spread of their variances is not estimated well enough
MAX_PRIOR_DEGREES = 6.0  # with more, intervals of the default model cover 1 to 2% less
MIN_SAMPLES = 3  # with fewer samples, a note says that the error of a distance is unknown or very uncertain


def t_interval(values: Float[np.ndarray, " samples"]) -> tuple[float, float, tuple[float, float]]:
    """Return mean, standard error and 95% interval (Student's t) of independent values that may be negative.

    Args:
        values: The values, at least one.

    Returns:
        The mean, its standard error, and the lower and upper end of the interval. Error and ends are NaN for a single value.
    """
    from scipy.special import stdtrit  # the quantile of Student's t; the import of scipy.stats would take a second

    k = len(values)
    mean = float(values.mean())
    if k == 1:
        return mean, math.nan, (math.nan, math.nan)
    error = float(values.std(ddof=1) / math.sqrt(k))
    half = float(stdtrit(k - 1, 0.975)) * error
    return mean, error, (mean - half, mean + half)


def nonnegative_interval(values: Float[np.ndarray, " samples"]) -> tuple[float, float, tuple[float, float]]:
    """Return mean, standard error and 95% interval of independent values that are not negative.

    Args:
        values: The values, at least one.

    Returns:
        The mean, its standard error, and the lower and upper end of the interval, which are not negative and contain the mean.
        Error and ends are NaN for a single value.
    """
    mean, error, ci95 = t_interval(values)
    if len(values) == 1:
        return mean, error, ci95
    low, high = nonnegative_ends(np.array(mean), np.array(error), len(values) - 1)
    return mean, error, (float(low), float(high))


def nonnegative_ends(
    mean: Float[np.ndarray, "*shape"], stderr: Float[np.ndarray, "*shape"], degrees_of_freedom: float
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return the ends of the 95% intervals of means that are not negative.

    Args:
        mean: The means.
        stderr: Their standard errors, NaN where unknown.
        degrees_of_freedom: The degrees of freedom of the standard errors.

    Returns:
        The lower and the upper ends, NaN where the error is unknown.
    """
    from scipy.special import stdtrit

    if degrees_of_freedom <= 0:
        return np.full(np.shape(mean), np.nan), np.full(np.shape(mean), np.nan)
    half = float(stdtrit(degrees_of_freedom, 0.975)) * stderr
    shift = np.divide(half**2, 4 * mean, out=np.zeros(np.shape(mean)), where=mean > 0)
    # the lower end is a square, so only rounding can make it negative
    return np.where(half >= 2 * mean, 0, np.maximum(mean - half + shift, 0)), mean + half + shift


@dataclass(frozen=True)
class PooledErrors:
    """Standard errors of the distances of many pairs.

    Attributes:
        stderr: The standard error of each pair, NaN with one sample.
        raw_stderr: The same from the samples of the pair alone.
        degrees_of_freedom: Those of each error: k - 1, and with pooling those of the prior.
        pooled_pairs: The number of pairs whose variances were pooled; 0 without pooling.
    """

    stderr: Float[np.ndarray, " pairs"]
    raw_stderr: Float[np.ndarray, " pairs"]
    degrees_of_freedom: float
    pooled_pairs: int


def pool_errors(values: Float[np.ndarray, "pairs samples"]) -> PooledErrors:
    r"""Return standard errors of the means of many pairs, each moderated by the variances of all pairs (empirical Bayes).

    The standard deviation of a distance grows with the distance, so variances relative to the squared mean are pooled,
    $v_i = s_i^2 / m_i^2$. They are modelled as $v_i \sim \sigma_i^2 \chi^2_d / d$ with $d = k - 1$, where
    $1 / \sigma_i^2 \sim \chi^2_{d_0} / (d_0 v_0)$. Mean and variance of $\log v_i$ over the $n$ pairs determine $v_0$ and $d_0$.
    The moderated variance is $(d_0 v_0 + d \, v_i) / (d_0 + d)$, with $d_0 + d$ degrees of freedom. $d_0$ is at most
    MAX_PRIOR_DEGREES: the pairs share the noise of a sample, so their variances contain less information than independent ones.

    Nothing is pooled for fewer than MIN_POOLED_PAIRS pairs, or where most variances are 0.

    Args:
        values: The distance of each pair in each sample, not negative.

    Reference:
        Smyth (2004), "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments".
    """
    pairs, k = values.shape
    if k == 1:
        unknown = np.full(pairs, np.nan)
        return PooledErrors(unknown, unknown, 0.0, 0)
    means, degrees = values.mean(1), k - 1
    raw = values.std(1, ddof=1) / math.sqrt(k)
    positive = means > 0
    relative = k * (raw[positive] / means[positive]) ** 2
    if len(relative) < MIN_POOLED_PAIRS or np.median(relative) == 0:
        return PooledErrors(raw, raw, float(degrees), 0)
    prior_degrees, prior_variance = _fit_prior(relative, degrees)
    prior_degrees = min(prior_degrees, MAX_PRIOR_DEGREES)
    moderated = (prior_degrees * prior_variance + degrees * relative) / (prior_degrees + degrees)
    stderr = np.zeros(pairs)
    stderr[positive] = means[positive] * np.sqrt(moderated / k)
    return PooledErrors(stderr, raw, prior_degrees + degrees, len(relative))


def _fit_prior(variances: Float[np.ndarray, " pairs"], degrees: int) -> tuple[float, float]:
    """Return degrees of freedom (may be infinite) and scale of the prior of variances with `degrees` degrees of freedom."""
    from scipy.special import digamma, polygamma

    logs = np.log(np.maximum(variances, 1e-5 * np.median(variances)))  # a variance of 0 has no logarithm
    centered = logs - digamma(degrees / 2) + math.log(degrees / 2)
    excess = float(centered.var(ddof=1) - polygamma(1, degrees / 2))
    if excess <= 0:  # the variances differ no more than estimates of a common variance do
        return math.inf, math.exp(centered.mean())
    half = _inverse_trigamma(excess)
    return 2 * half, math.exp(centered.mean() + float(digamma(half)) - math.log(half))


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = value > 0, by Newton's method on 1 / trigamma, which is convex (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if value > 1e7:
        return value**-0.5
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def pooled_note(pairs: int) -> str | None:
    """Return a note for standard errors that are pooled, or None.

    Args:
        pairs: The number of pairs whose variances were pooled; 0 if none were.
    """
    return f"the standard errors are pooled over {pairs} pairs" if pairs else None


def equal_predictions_note(pairs: int) -> str | None:
    """Return a note for different texts whose distance is exactly 0 in every sample, or None.

    Some pipelines change texts before they tokenize them, so that a comparison of tokens does not find all such texts.

    Args:
        pairs: The number of pairs of such texts.
    """
    if not pairs:
        return None
    subject = "the distance of the two texts is" if pairs == 1 else f"the distances of {pairs:,} pairs are"
    return (
        f"{subject} exactly 0: the pipeline passes the same tokens to the model for both texts of a pair, or the model ignores "
        "the texts"
    )


def few_samples_note(samples: int) -> str | None:
    """Return a note for a distance whose error is unknown or very uncertain, or None.

    Args:
        samples: The number k of Monte-Carlo samples.
    """
    if samples >= MIN_SAMPLES:
        return None
    problem = "the error of a distance from 1 sample is unknown" if samples == 1 else "an error from 2 samples is very uncertain"
    return f"{problem}; use at least {MIN_SAMPLES} samples"

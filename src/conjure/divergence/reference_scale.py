r"""A scale for a distance: the share of unrelated pairs of texts that are farther apart.

Let $S(d)$ be the share of unrelated pairs whose distance is larger than $d$. The similarity of a pair with the estimated distance
$\hat d$ is $S(\hat d)$. Two independent errors contribute to its interval:

- The distance has an error. As $S$ decreases, the 95% interval $[d_1, d_2]$ of the distance gives $[S(d_2), S(d_1)]$.
- The list of unrelated pairs is finite. Its $n$ pairs have no text in common and noise of their own, so the number of farther
  pairs is binomial, with Wilson's interval $[w_1, w_2]$.

Both are combined by the method of variance estimates recovery (Zou and Donner 2008), which keeps intervals asymmetric:

$$S(\hat d) - \sqrt{(S(\hat d) - S(d_2))^2 + (S(\hat d) - w_1)^2}, \quad
S(\hat d) + \sqrt{(S(d_1) - S(\hat d))^2 + (w_2 - S(\hat d))^2} .$$

The distances of the unrelated pairs are estimates too, so their logarithms vary more than those of the true distances. They are
moved towards their mean such that their variance is that of the true values (Louis 1984): the variance between pairs, minus the
mean squared error within pairs. Their mean is corrected too, since the logarithm of an estimate is too small on average.

References:
    Zou and Donner (2008), "Construction of confidence limits about effect measures: a general approach".
    Louis (1984), "Estimating a population of parameter values using Bayes and empirical Bayes methods".
    Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", method 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.io.formatting import format_value

Z = 1.959963984540054  # the 97.5% quantile of the normal distribution

UNCALIBRATED = (
    "similarity: unknown, since this process is not calibrated; run conjure calibrate with the same settings and --store FILE"
)
NO_SIMILARITY = "Similarity: not available, since this model was not calibrated with these settings."


@dataclass(frozen=True)
class Similarity:
    """The share of unrelated pairs that are farther apart than a pair.

    Attributes:
        value: The share, from 0 to 1.
        ci95: Its 95% interval, NaN if the error of the distance is unknown.
    """

    value: float
    ci95: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.ci95
        return f"{self.value:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")

    @property
    def sentence(self) -> str:
        """The similarity with its interval and its meaning.

        Examples:
            >>> Similarity(0.93, (0.88, 0.97)).sentence
            'similarity 0.93 (0.88 to 0.97): closer than 93% of unrelated pairs'
        """
        if self.value in (0, 1):  # "100% of unrelated pairs" could also be rounded, and would then not be all
            meaning = f"{'closer' if self.value else 'farther apart'} than all unrelated pairs"
        else:
            meaning = f"closer than {self.value:.{0 if 0.005 <= self.value < 0.995 else 1}%} of unrelated pairs"
        return f"similarity {self}: {meaning}"


@dataclass(frozen=True)
class ReferenceScale:
    """The distances of unrelated pairs and of paraphrases under one process, in one divergence.

    Attributes:
        unrelated: The distances of the unrelated pairs, in ascending order, corrected for their own errors.
        paraphrases: The distances of the paraphrases.
        auc: The probability that a paraphrase is closer than an unrelated pair, from the distances as they were measured.
        reliability: The share of the variance between unrelated pairs that is not due to errors.
        unit: The unit of the distances.
    """

    unrelated: Float[np.ndarray, " unrelated"]
    paraphrases: Float[np.ndarray, " paraphrases"]
    auc: float
    reliability: float
    unit: str

    @classmethod
    def from_samples(
        cls, unrelated: Float[np.ndarray, "unrelated samples"], paraphrases: Float[np.ndarray, "paraphrases samples"], unit: str
    ) -> ReferenceScale:
        """Return the scale for the distances of all pairs in each sample, of which there are at least two.

        Args:
            unrelated: The distances of the unrelated pairs.
            paraphrases: The distances of the paraphrases.
            unit: The unit of the distances.
        """
        far, near = unrelated.mean(1), paraphrases.mean(1)
        auc = float((near[:, None] < far).mean() + (near[:, None] == far).mean() / 2)
        reliability = 1.0
        if (far > 0).all() and np.ptp(far) > 0:
            logs = np.log(far)
            error = (unrelated.var(1, ddof=1) / unrelated.shape[1] / far**2).mean()  # of a logarithm, by the delta method
            if error > 0:
                reliability = max(0.0, 1 - float(error / logs.var(ddof=1)))
                center = logs.mean() + error / 2  # the logarithm of an estimate is too small by half of its squared error
                far = np.exp(center + math.sqrt(reliability) * (logs - logs.mean()))
        return cls(np.sort(far), near, auc, reliability, unit)

    def share_farther(self, distance: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the share of unrelated pairs that are farther apart; those that are equally far count half."""
        above = len(self.unrelated) - np.searchsorted(self.unrelated, distance, side="right")
        not_below = len(self.unrelated) - np.searchsorted(self.unrelated, distance, side="left")
        return (above + not_below) / (2 * len(self.unrelated))

    def similarities(
        self, distance: Float[np.ndarray, "*shape"], low: Float[np.ndarray, "*shape"], high: Float[np.ndarray, "*shape"]
    ) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Return similarities and the ends of their 95% intervals.

        Args:
            distance: The distances.
            low: The lower ends of their 95% intervals, NaN where unknown.
            high: The upper ends.

        Returns:
            The similarities, and the lower and upper ends of their intervals.
        """
        value = self.share_farther(distance)
        wilson_low, wilson_high = _wilson_interval(value, len(self.unrelated))
        known = ~np.isnan(low)
        below, above = self.share_farther(high), self.share_farther(low)
        lower = np.maximum(value - np.hypot(value - below, value - wilson_low), 0)
        upper = np.minimum(value + np.hypot(above - value, wilson_high - value), 1)
        return value, np.where(known, lower, np.nan), np.where(known, upper, np.nan)

    def similarity(self, distance: float, ci95: tuple[float, float]) -> Similarity:
        """Return the similarity of a pair.

        Args:
            distance: The distance.
            ci95: Its 95% interval, NaN if unknown.
        """
        value, low, high = (float(part[0]) for part in self.similarities(*(np.array([end]) for end in (distance, *ci95))))
        return Similarity(value, (low, high))

    @cached_property
    def auc_ci95(self) -> tuple[float, float]:
        """The 95% interval of `auc` over pairs."""
        return _auc_interval(self.auc, len(self.paraphrases), len(self.unrelated))

    def to_dict(self) -> dict[str, Any]:
        """Return a summary as plain data for JSON: quantiles of the distances, and how well paraphrases are separated."""
        quantiles = {
            name: dict(zip(("5%", "50%", "95%"), np.quantile(distances, (0.05, 0.5, 0.95)).tolist(), strict=True))
            for name, distances in (("unrelated", self.unrelated), ("paraphrases", self.paraphrases))
        }
        return {
            **quantiles,
            "unit": self.unit,
            "auc": self.auc,
            "auc_ci95": list(self.auc_ci95),
            "paraphrase_similarity": float(np.median(self.share_farther(self.paraphrases))),
            "reliability": self.reliability,
        }

    def __str__(self) -> str:
        lines = []
        for name, distances in (("unrelated pairs", self.unrelated), ("paraphrases", self.paraphrases)):
            lower, median, upper = (format_value(float(end)) for end in np.quantile(distances, (0.05, 0.5, 0.95)))
            lines.append(f"{len(distances)} {name}: median {median}, 90% between {lower} and {upper} ({self.unit})")
        low, high = self.auc_ci95
        lines.append(f"AUC of paraphrases against unrelated pairs: {self.auc:.3f} (95% CI: {low:.3f} to {high:.3f})")
        lines.append(f"median similarity of paraphrases: {np.median(self.share_farther(self.paraphrases)):.2f}")
        return "\n".join(lines)


def _wilson_interval(
    share: Float[np.ndarray, "*shape"], number: int
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return the ends of Wilson's 95% interval of shares of `number` independent pairs. They contain the shares."""
    center = (share + Z**2 / (2 * number)) / (1 + Z**2 / number)
    half = Z / (1 + Z**2 / number) * np.sqrt(share * (1 - share) / number + (Z / (2 * number)) ** 2)
    return np.minimum(center - half, share).clip(0, 1), np.maximum(center + half, share).clip(0, 1)


def _auc_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95% interval of an AUC by Newcombe's method 5, which is also valid for 0 and 1."""
    from scipy.optimize import brentq

    balanced = (positives + negatives) / 2 - 1

    def excess(value: float) -> float:
        variance = value * (1 - value) * (1 + balanced * ((1 - value) / (2 - value) + value / (1 + value)))
        return (auc - value) ** 2 - Z**2 * variance / (positives * negatives)

    # 0 and 1 are roots of their own if the AUC has this value; the end of the interval is the other root
    low = float(brentq(excess, 0, min(auc, 1 - 1e-9))) if auc > 0 else 0.0
    high = float(brentq(excess, max(auc, 1e-9), 1)) if auc < 1 else 1.0
    return low, high

"""Monte-Carlo estimates: mean, standard error and 95% interval over samples."""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.divergence.differences import PerStepDivergence
from conjure.errors import InputError
from conjure.io.formatting import format_interval, format_value, format_with_error, pluralize


def t_interval(values: Float[np.ndarray, " samples"]) -> tuple[float, float, tuple[float, float]]:
    """Return mean, standard error and 95% interval (Student's t) of independent values.

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


def check_finite(samples: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Return `samples` unchanged if all of them are finite.

    Raises:
        InputError: If a sample is not finite.
    """
    if not np.isfinite(samples).all():
        raise InputError(
            f"the distance is {samples.mean()}: the model's predictions overflow; use a smaller guidance, or float32"
        )
    return samples


@dataclass(frozen=True)
class Estimate:
    """The distance of two texts under a process.

    Attributes:
        distance: The mean over samples.
        stderr: The standard error of `distance` over samples (NaN with one sample).
        ci95: The 95% interval of `distance` over samples (NaN with one sample).
        forward: The directed divergence along trajectories of the first text.
        backward: The directed divergence along trajectories of the second text.
        asymmetry: The mean over samples of forward minus backward.
        asymmetry_ci95: The 95% interval of `asymmetry`.
        per_step: The contributions of the T visited steps to `distance`.
        per_step_ci95: The 95% intervals of `per_step`.
        samples: The values of the k samples.
        texts: The two texts.
        divergence: The divergence.
        weighting: The weighting of the steps.
        unit: The unit of all values, such as `nats` or `squared norm of noise`.
        antithetic: Whether the two texts start from opposite noise.
        seed: The seed of the noise.
        timesteps: The visited timesteps.
        snr: The signal-to-noise ratios at these timesteps.
        process: The settings of the process.
        fingerprint: The fingerprint of the process.
        version: The version of Conjure.
    """

    distance: float
    stderr: float
    ci95: tuple[float, float]
    forward: float
    backward: float
    asymmetry: float
    asymmetry_ci95: tuple[float, float]
    per_step: tuple[float, ...]
    per_step_ci95: tuple[tuple[float, float], ...]
    samples: tuple[float, ...]
    texts: tuple[str, str]
    divergence: str
    weighting: str
    unit: str
    antithetic: bool
    seed: int
    timesteps: tuple[float, ...]
    snr: tuple[float, ...]
    process: dict[str, Any]
    fingerprint: str
    version: str

    identity = deprecated_property("identity", "fingerprint")

    @classmethod
    def from_per_step(cls, divergence: PerStepDivergence, /, **metadata: Any) -> Estimate:
        """Return the estimate of a divergence that is split over samples and steps.

        Args:
            divergence: The divergence.
            metadata: The other fields: texts, divergence, weighting, unit, antithetic, seed, timesteps, snr, process, fingerprint
                and version.

        Raises:
            InputError: If a value is not finite.
        """
        samples = check_finite(divergence.total.sum(1))
        mean, error, ci95 = t_interval(samples)
        asymmetry, _, asymmetry_ci95 = t_interval((divergence.forward - divergence.backward).sum(1))
        return cls(
            distance=mean,
            stderr=error,
            ci95=ci95,
            forward=float(divergence.forward.sum(1).mean()),
            backward=float(divergence.backward.sum(1).mean()),
            asymmetry=asymmetry,
            asymmetry_ci95=asymmetry_ci95,
            per_step=tuple(divergence.total.mean(0).tolist()),
            per_step_ci95=tuple(t_interval(step)[2] for step in divergence.total.T),
            samples=tuple(samples.tolist()),
            **metadata,
        )

    def __float__(self) -> float:
        return self.distance

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. Errors and intervals are None with one sample."""
        plain = asdict(self)
        if math.isnan(self.stderr):
            plain |= dict.fromkeys(("stderr", "ci95", "asymmetry_ci95", "per_step_ci95"))
        return plain

    def __str__(self) -> str:
        interval = "" if math.isnan(self.stderr) else f" (95% CI: {format_interval(self.ci95, self.stderr)})"
        return f"{format_with_error(self.distance, self.stderr)}{interval}"

    def _repr_html_(self) -> str:
        first, second = (html.escape(text) for text in self.texts)
        forward, backward = (format_value(value, self.stderr) for value in (self.forward, self.backward))
        return (
            f"<b>{html.escape(str(self))}</b> {self.unit}, {html.escape(self.divergence)} of “{first}” and “{second}”"
            f"<br>{forward} along the trajectory of “{first}”, {backward} along the trajectory of “{second}”; "
            f"{pluralize(len(self.samples), 'sample')}, {pluralize(len(self.per_step), 'step')}"
        )

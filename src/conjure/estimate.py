"""A Monte-Carlo estimate of a distance, with its error: seeds in, mean and interval out."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from conjure.digits import between, counted, rounded, with_error
from conjure.divergence import Contributions
from conjure.errors import InputError


def noise_seed(seed: int, sample: int) -> int:
    """The seed of the noise of sample number `sample` in a run with `seed`; the same for every text (common random numbers)."""
    return seed_of((seed, sample))


def seed_of(entropy: Sequence[int]) -> int:
    """A seed of 63 bits, made of whole numbers from 0 on."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Noise:
    """The noise of the samples of a run with `seed`: the same for every text (common random numbers), sample by sample.

    antithetic: of two texts compared, the one that sorts second starts from the opposite noise. Similar texts walk nearly the
    same way from the same noise, so that the second direction tells little that is new; from the opposite noise it does, and
    the variance of the distance falls (benchmarks/variance.md), while samples stay independent of each other.
    """

    seed: int = 0
    antithetic: bool = False

    def of(self, sample: int, text: str, other: str) -> int:
        """The seed, for `Process.run`, of the trajectory of `text` that `other` judges."""
        seed = noise_seed(self.seed, sample)
        return -seed if self.antithetic and text > other else seed


def interval(values: np.ndarray) -> tuple[float, float, tuple[float, float]]:
    """Mean, standard error and 95 % interval (Student's t) of independent `values`, shape (k,); NaN error for k = 1."""
    from scipy.special import stdtrit  # the quantile of Student's t, without the second that scipy.stats takes to import

    k = len(values)
    mean = float(values.mean())
    if k == 1:
        return mean, math.nan, (math.nan, math.nan)
    error = float(values.std(ddof=1) / math.sqrt(k))
    half = float(stdtrit(k - 1, 0.975)) * error
    return mean, error, (mean - half, mean + half)


def finite(samples: np.ndarray) -> np.ndarray:
    """`samples` of a distance. Errors: `InputError` where the model's numbers were not finite."""
    if not np.isfinite(samples).all():
        raise InputError(f"the distance is {samples.mean()}: the model's numbers overflow; use a smaller guidance, or float32")
    return samples


@dataclass(frozen=True)
class Estimate:
    """The distance of two texts under a process.

    distance, stderr, ci95: mean over samples, its standard error and 95 % interval (NaN with one sample).
    forward, backward: the directed divergences from the first text's trajectories and from the second's.
    asymmetry, asymmetry_ci95: forward less backward, its mean over samples and 95 % interval.
    per_step, per_step_ci95: what each of the T visited steps adds to `distance`, and 95 % intervals.
    timesteps, snr (signal to noise): where they are.
    samples: the k per-sample values. unit: in what all these are, such as `nats` or `squared norm of noise`.
    texts, process, divergence, weighting, antithetic, seed, identity, version: what was compared and how.
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
    identity: str
    version: str

    def __float__(self) -> float:
        return self.distance

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what does not exist (the error of one sample) is None."""
        plain = asdict(self)
        if math.isnan(self.stderr):
            plain |= dict.fromkeys(("stderr", "ci95", "asymmetry_ci95", "per_step_ci95"))
        return plain

    def __str__(self) -> str:
        interval = "" if math.isnan(self.stderr) else f" (95 %: {between(self.ci95, self.stderr)})"
        return f"{with_error(self.distance, self.stderr)}{interval}"

    def _repr_html_(self) -> str:
        first, second = (html.escape(text) for text in self.texts)
        return (
            f"<b>{html.escape(str(self))}</b> {self.unit}, {html.escape(self.divergence)} of “{first}” and “{second}”"
            f"<br>{rounded(self.forward, self.stderr)} along “{first}”, {rounded(self.backward, self.stderr)} along “{second}”; "
            f"{counted(len(self.samples), 'sample')} of {counted(len(self.per_step), 'step')}"
        )


def estimate(parts: Contributions, **record: Any) -> Estimate:
    """The estimate of a divergence split over samples and steps; `record` is what the other fields hold.

    Errors: `InputError` where the model's numbers are not finite.
    """
    samples = finite(parts.total.sum(1))
    mean, error, ci95 = interval(samples)
    asymmetry, _, asymmetry_ci95 = interval((parts.forward - parts.backward).sum(1))
    return Estimate(
        distance=mean,
        stderr=error,
        ci95=ci95,
        forward=float(parts.forward.sum(1).mean()),
        backward=float(parts.backward.sum(1).mean()),
        asymmetry=asymmetry,
        asymmetry_ci95=asymmetry_ci95,
        per_step=tuple(parts.total.mean(0).tolist()),
        per_step_ci95=tuple(interval(step)[2] for step in parts.total.T),
        samples=tuple(samples.tolist()),
        **record,
    )

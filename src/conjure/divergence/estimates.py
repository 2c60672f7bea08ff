"""Monte-Carlo estimates: mean, standard error and 95% interval over samples."""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.divergence.differences import PerStepDivergence
from conjure.divergence.intervals import equal_predictions_note, few_samples_note, nonnegative_interval, t_interval
from conjure.divergence.reference_scale import ReferenceScale, Similarity
from conjure.errors import InputError
from conjure.io.files import import_pandas
from conjure.io.formatting import format_interval, format_value, format_with_error, pluralize
from conjure.io.text import quote_and_wrap
from conjure.plotting.charts import step_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_TEXT = 40  # characters of a text in the short description


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
        ci95: The 95% interval of `distance` over samples, never negative (`divergence.intervals`; NaN with one sample).
        forward: The directed divergence along trajectories of the first text (NaN for `direct`, which has no directions).
        backward: The same along trajectories of the second text. The distance `kl` does not contain it.
        asymmetry: The mean over samples of forward minus backward (NaN for `direct`).
        asymmetry_ci95: The 95% interval of `asymmetry`: Student's t, since it is signed.
        per_step: The contributions of the T visited steps to `distance`.
        per_step_ci95: The 95% intervals of `per_step`, never negative.
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
        scale: The scale of the distances of the process in this divergence; None if the process is not calibrated.
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
    scale: ReferenceScale | None = field(default=None, repr=False, compare=False)

    identity = deprecated_property("identity", "fingerprint")

    @classmethod
    def from_per_step(cls, divergence: PerStepDivergence, /, **metadata: Any) -> Estimate:
        """Return the estimate of a divergence that is split over samples and steps.

        Args:
            divergence: The divergence.
            metadata: The other fields: texts, divergence, weighting, unit, antithetic, seed, timesteps, snr, process,
                fingerprint, version and scale.

        Raises:
            InputError: If a value is not finite.
        """
        samples = check_finite(divergence.total.sum(1))
        mean, error, ci95 = nonnegative_interval(samples)
        steps = [nonnegative_interval(step) for step in divergence.total.T]
        forward, backward = divergence.directions(metadata["divergence"])
        asymmetry, _, asymmetry_ci95 = t_interval(forward - backward)
        return cls(
            distance=mean,
            stderr=error,
            ci95=ci95,
            forward=float(forward.mean()),
            backward=float(backward.mean()),
            asymmetry=asymmetry,
            asymmetry_ci95=asymmetry_ci95,
            per_step=tuple(step[0] for step in steps),
            per_step_ci95=tuple(step[2] for step in steps),
            samples=tuple(samples.tolist()),
            **metadata,
        )

    @property
    def directions(self) -> tuple[tuple[float, str], ...]:
        """The directed divergences that the distance consists of, each with the text whose trajectories it is computed on.

        Both for most divergences, the forward one for `kl`, and none for `direct`, which compares final latents.
        """
        both = ((self.forward, self.texts[0]), (self.backward, self.texts[1]))
        return {"kl": both[:1], "direct": ()}.get(self.divergence, both)

    @property
    def similarity(self) -> Similarity | None:
        """The share of unrelated pairs of texts that are farther apart; None if the process is not calibrated."""
        return None if self.scale is None else self.scale.similarity(self.distance, self.ci95)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the distance: one if it is 0 for different texts, and one if there are too few samples."""
        is_zero = self.texts[0] != self.texts[1] and not any(self.samples)
        notes = (equal_predictions_note(int(is_zero)), few_samples_note(len(self.samples)))
        return tuple(note for note in notes if note is not None)

    def __float__(self) -> float:
        return self.distance

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON.

        Errors and intervals are None with one sample, similarities also without a calibration, directions for `direct`.
        """
        plain = asdict(replace(self, scale=None)) | {"notes": list(self.notes)}
        del plain["scale"]
        similarity = self.similarity
        plain |= {"similarity": similarity and similarity.value, "similarity_ci95": similarity and similarity.ci95}
        if math.isnan(self.stderr):
            plain["similarity_ci95"] = None
            plain |= dict.fromkeys(("stderr", "ci95", "asymmetry_ci95", "per_step_ci95"))
        if not self.directions:
            plain |= dict.fromkeys(("forward", "backward", "asymmetry", "asymmetry_ci95"))
        return plain

    def to_pandas(self) -> DataFrame:
        """Return one row per denoising step as a pandas data frame: timestep, snr, contribution and its 95% interval.

        Raises:
            InputError: If pandas is not installed.
        """
        low, high = zip(*self.per_step_ci95, strict=True)
        columns = {"timestep": self.timesteps, "snr": self.snr, "contribution": self.per_step, "ci95_low": low, "ci95_high": high}
        return import_pandas().DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the contribution of each step to the distance, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        return step_bars(ax, self.timesteps, self.per_step, self.per_step_ci95, self.unit)

    def __str__(self) -> str:
        interval = "" if math.isnan(self.stderr) else f" (95% CI: {format_interval(self.ci95, self.stderr)})"
        return f"{format_with_error(self.distance, self.stderr)}{interval}"

    def __repr__(self) -> str:
        texts = " and ".join(quote_and_wrap(text, MAX_TEXT) for text in self.texts)
        return f"<Estimate {self}, {self.divergence}, {self.unit}: {texts}>"

    def _repr_html_(self) -> str:
        first, second = (html.escape(text) for text in self.texts)
        directions = ", ".join(
            f"{format_value(value, self.stderr)} along the trajectory of “{html.escape(text)}”" for value, text in self.directions
        )
        return (
            f"<b>{html.escape(str(self))}</b> {self.unit}, {html.escape(self.divergence)} of “{first}” and “{second}”"
            f"<br>{directions}{'; ' if directions else ''}"
            f"{pluralize(len(self.samples), 'sample')}, {pluralize(len(self.per_step), 'step')}"
            + ("" if self.similarity is None else f"<br>{self.similarity.sentence}")
        )

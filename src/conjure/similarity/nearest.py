"""Nearest neighbours of a text. More samples are drawn only for candidates that may still be among the nearest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from conjure.deprecation import deprecated_property, renamed_keywords
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.load_options import summarize_settings
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.estimates import check_finite
from conjure.divergence.intervals import nonnegative_interval
from conjure.divergence.reference_scale import ReferenceScale, Similarity
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.io.documents import rows_to_html
from conjure.io.files import import_pandas
from conjure.io.formatting import format_with_error
from conjure.io.text import quote_and_wrap
from conjure.plotting.charts import draw_points
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import jobs_for_pairs, run_metadata
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache
from conjure.similarity.validation import check_ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

FIRST_ROUND_SAMPLES = 4  # each further round doubles the number of samples

MAX_SHOWN = 5  # candidates in the short description


@dataclass(frozen=True)
class Neighbour:
    """A candidate and its distance.

    Attributes:
        text: The candidate.
        distance: The mean over samples.
        stderr: The standard error, NaN with one sample.
        ci95: The 95% interval of this distance, NaN with one sample, never negative. It is not corrected for the number of
            candidates.
        samples: The number of samples that were drawn.
        eliminated: Whether the candidate was eliminated, since at the requested confidence it is not among the nearest.
        similarity: The share of unrelated pairs of texts that are farther apart; None if the process is not calibrated.
    """

    text: str
    distance: float
    stderr: float
    ci95: tuple[float, float]
    samples: int
    eliminated: bool

    similarity: Similarity | None = None

    out = deprecated_property("out", "eliminated")


@dataclass(frozen=True)
class Neighbours:
    """Candidates ranked by their distance to a text.

    Attributes:
        text: The text.
        ranked: The candidates, nearest first; eliminated ones come last.
        top: The number of nearest candidates that were searched for.
        confidence: The requested confidence.
        is_certain: Whether the first `top` candidates are the nearest at this confidence. If not, they are the nearest only by
            their means.
        trajectories_run: The number of trajectories that were used.
        trajectories_max: The number of trajectories without elimination, for all samples of all candidates.
        unit: The unit of all distances.
        divergence: The divergence that was estimated.
        weighting: The weighting of the steps.
        antithetic: Whether the two texts of a pair start from opposite noise.
        seed: The seed of the noise.
        process: The settings of the process.
        fingerprint: The fingerprint of the process.
        version: The version of this package.
        scale: The scale of the distances of the process in this divergence; None if the process is not calibrated.
    """

    text: str
    ranked: tuple[Neighbour, ...]
    top: int
    confidence: float
    is_certain: bool
    trajectories_run: int
    trajectories_max: int
    unit: str
    divergence: str
    weighting: str
    antithetic: bool
    seed: int
    process: dict[str, Any]
    fingerprint: str
    version: str
    scale: ReferenceScale | None = field(default=None, repr=False, compare=False)

    settled = deprecated_property("settled", "is_certain")
    sources = deprecated_property("sources", "trajectories_run")
    most_sources = deprecated_property("most_sources", "trajectories_max")
    identity = deprecated_property("identity", "fingerprint")

    def __str__(self) -> str:
        lines = [
            f"nearest to {quote_and_wrap(self.text, 60)}, {self.divergence}, {self.unit}; {summarize_settings(self.process)}"
        ]
        for place, neighbour in enumerate(self.ranked[:MAX_SHOWN], 1):
            distance = format_with_error(neighbour.distance, neighbour.stderr)
            lines.append(f"  {place}. {quote_and_wrap(neighbour.text, 60)}: {distance}")
        if len(self.ranked) > MAX_SHOWN:
            lines.append(f"  and {len(self.ranked) - MAX_SHOWN:,} more")
        certainty = "certain" if self.is_certain else "not certain"
        return "\n".join([*lines, f"  the first {self.top} {certainty} at {self.confidence:.0%}"])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the ranking as plain data for JSON.

        Errors and intervals are None with one sample, similarities without a calibration.
        """
        plain = asdict(replace(self, scale=None))
        del plain["scale"]
        for neighbour in plain["ranked"]:
            similarity = neighbour["similarity"] or {"value": None, "ci95": None}
            neighbour |= {"similarity": similarity["value"], "similarity_ci95": similarity["ci95"]}
            if math.isnan(neighbour["stderr"]):
                neighbour |= {"stderr": None, "ci95": None, "similarity_ci95": None}
        return plain

    def to_pandas(self) -> DataFrame:
        """Return one row per candidate as a pandas data frame, nearest first: text, distance with its error, samples.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self._rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the distances of the candidates with their 95% intervals, nearest first, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        values = [(neighbour.distance, *neighbour.ci95) for neighbour in self.ranked]
        return draw_points(ax, [f"“{neighbour.text}”" for neighbour in self.ranked], values, f"{self.divergence}, {self.unit}")

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for neighbour in self.ranked:
            row = {name: getattr(neighbour, name) for name in ("text", "distance", "stderr", "samples", "eliminated")}
            similarity = math.nan if neighbour.similarity is None else neighbour.similarity.value
            rows.append(row | {"ci95_low": neighbour.ci95[0], "ci95_high": neighbour.ci95[1], "similarity": similarity})
        return rows


@renamed_keywords(among="candidates")
def nearest(
    process: Process,
    text: str,
    candidates: Iterable[str],
    *,
    top: int = 1,
    samples: int = 32,
    confidence: float = 0.95,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    progress: ProgressCallback | None = None,
) -> Neighbours:
    """Rank `candidates` by their distance to `text`, with fewer samples for those that are not among the `top` nearest.

    The search runs in rounds, after which each remaining candidate has 4, 8, 16, ... samples. After each round, a candidate is
    eliminated if it is significantly farther than at least `top` other remaining candidates. Since all candidates have the same
    noise, the tests are one-sided paired t-tests. One of the truly nearest candidates is eliminated only if a test against a
    truly farther candidate is wrong. The significance level is divided by the number of these tests. With probability
    `confidence`, none of the nearest is eliminated. The search stops as soon as `top` candidates remain. If `top` is the number
    of candidates, all of them have `samples` samples.

    Args:
        process: The model with its sampling settings.
        text: The text whose nearest neighbours are searched for.
        candidates: The texts to rank, each once.
        top: The number of nearest candidates to find.
        samples: The largest number of Monte-Carlo samples per candidate.
        confidence: The probability, between 0 and 1, that none of the nearest is eliminated.
        seed: The seed of the noise.
        divergence: As in `conjure.distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        progress: Called with the number of finished denoising steps and the total number, both of the current round.

    Returns:
        All candidates, nearest first.

    Raises:
        InputError: As `conjure.distance`, for an empty list of candidates, a candidate that occurs twice, `top` larger than the
            number of candidates, and a confidence out of range.

    Reference:
        Even-Dar, Mannor and Mansour (2006), "Action elimination and stopping conditions for the multi-armed bandit and
        reinforcement learning problems", for successive elimination.
    """
    if isinstance(candidates, str):
        raise InputError(f"the texts to rank are {candidates!r}; give a list of texts")
    candidates = list(candidates)
    check_ranking(candidates, top, confidence)
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic,
    )  # fmt: skip
    options.validate((text, *candidates))
    warn_of_indistinct_texts(process, [(text, candidate) for candidate in candidates])

    cache = TrajectoryCache(process, options.noise)
    samples_drawn = dict.fromkeys(candidates, 0)
    values: dict[str, np.ndarray] = {}
    rounds = _rounds(samples) if top < len(candidates) else [samples]  # without an elimination if all are to be ranked
    level = (1 - confidence) / (top * max(1, len(candidates) - top) * len(rounds))
    remaining, trajectories_run = list(candidates), 0
    for start, end in pairwise([0, *rounds]):
        jobs = jobs_for_pairs([(text, candidate) for candidate in remaining], range(start, end), options.noise)
        trajectories_run += len(jobs)
        cache.compute(jobs, final_latents=divergence == "direct", progress=progress)
        for candidate in remaining:
            samples_drawn[candidate] = end
            values[candidate] = check_finite(options.config.per_sample(cache.pair(text, candidate, end)))
        remaining_values = np.stack([values[candidate] for candidate in remaining])
        remaining = [
            candidate for candidate in remaining if _significantly_farther(values[candidate], remaining_values, level).sum() < top
        ]
        if len(remaining) <= top:
            break
    ranked = sorted(candidates, key=lambda candidate: (candidate not in remaining, values[candidate].mean()))
    metadata = run_metadata(process, options)
    scale = metadata["scale"]

    def neighbour(candidate: str) -> Neighbour:
        distance, stderr, ci95 = nonnegative_interval(values[candidate])
        similarity = scale.similarity(distance, ci95) if scale else None
        return Neighbour(candidate, distance, stderr, ci95, samples_drawn[candidate], candidate not in remaining, similarity)

    return Neighbours(
        text=text,
        ranked=tuple(map(neighbour, ranked)),
        top=int(top),
        confidence=float(confidence),
        is_certain=len(remaining) <= top,
        trajectories_run=trajectories_run,
        trajectories_max=len(jobs_for_pairs([(text, candidate) for candidate in candidates], range(samples), options.noise)),
        **metadata,
    )


def _rounds(samples: int) -> list[int]:
    """Return the number of samples per candidate after each round."""
    rounds = [min(FIRST_ROUND_SAMPLES, samples)]
    while rounds[-1] < samples:
        rounds.append(min(2 * rounds[-1], samples))
    return rounds


def _significantly_farther(
    values: Float[np.ndarray, " samples"], other_values: Float[np.ndarray, "candidates samples"], level: float
) -> Bool[np.ndarray, " candidates"]:
    """Test for each row of `other_values` whether the mean of `values` is larger, by a one-sided paired t-test at `level`."""
    from scipy.special import stdtrit

    samples = len(values)
    if samples < 2:
        return np.zeros(len(other_values), dtype=bool)
    difference = values - other_values
    stderr = difference.std(1, ddof=1) / math.sqrt(samples)
    return difference.mean(1) > -float(stdtrit(samples - 1, level)) * stderr

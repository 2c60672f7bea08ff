"""The results of an evaluation, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property, warn_renamed
from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DIVERGENCES, DivergenceConfig
from conjure.divergence.intervals import PooledErrors
from conjure.evaluation.correlation import Agreement
from conjure.evaluation.distance_columns import distance_columns
from conjure.evaluation.error_analysis import Group
from conjure.evaluation.few_pairs import few_pairs_notes
from conjure.evaluation.pair_files import Pairs
from conjure.evaluation.result_parts import BaselineComparison, Floors
from conjure.evaluation.scatter import plot_pairs
from conjure.io.documents import rows_to_html
from conjure.io.files import import_pandas
from conjure.io.formatting import pluralize
from conjure.plotting.charts import draw_points
from conjure.similarity.trajectory_cache import non_finite_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


@dataclass(frozen=True)
class TaskResult:
    """The result of a process on one task.

    Attributes:
        pairs: The evaluated pairs.
        config: The divergence that the distances are.
        distances: Distance of each pair in each Monte-Carlo sample, shape (pairs, samples).
        differences: Squared differences of predictions of each pair, from which any divergence can be computed.
        divergences: Agreement with human ratings of the distance and of the paper's baselines, by name of the divergence.
        subsets: Agreement of the distance in each subset of the dataset.
        groups: Residuals of the distance by kind of pair.
        baselines: Results of other measures, by name.
        reliability: Reliability of the ranks over samples (`conjure.evaluation.correlation.reliability`); NaN for one sample.
        ceiling: Highest correlation that this reliability allows; NaN for one sample.
        num_excluded: Number of pairs that are not evaluated, because the model's predictions are not finite for a text of them.
        floors: What agreement the task allows without the images; None if it was not measured.
    """

    pairs: Pairs
    config: DivergenceConfig
    distances: Float[np.ndarray, "pairs samples"]
    differences: Sequence[PairDifferences]
    divergences: dict[str, Agreement]
    subsets: dict[str, Agreement]
    groups: list[Group]
    baselines: dict[str, BaselineComparison]
    reliability: float
    ceiling: float
    num_excluded: int
    floors: Floors | None = None

    measure = deprecated_property("measure", "config")
    seen = deprecated_property("seen", "differences")
    parts = deprecated_property("parts", "subsets")
    left_out = deprecated_property("left_out", "num_excluded")

    @property
    def agreement(self) -> Agreement:
        """Agreement of the distance with human ratings."""
        return self.divergences[self.config.divergence]

    def __str__(self) -> str:
        return f"{self.pairs.title}: Spearman x100 {self.agreement}"

    __repr__ = __str__

    def columns(self) -> tuple[dict[str, Any], PooledErrors]:
        """Return texts, rating, subset and all divergences of the pairs by column, and the errors of the distances."""
        others = [name for name in DIVERGENCES if name in self.divergences and name != self.config.divergence]
        configs = [self.config, *(replace(self.config, divergence=name) for name in others)]
        distances, errors = distance_columns(self.differences, configs)
        texts = {"text1": self.pairs.first, "text2": self.pairs.second}
        return texts | {"score": self.pairs.scores, "part": self.pairs.subset or [None] * len(self.pairs)} | distances, errors

    def to_pandas(self) -> DataFrame:
        """Return one row per pair as a pandas data frame: texts, rating, subset, distances with errors, and baselines.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self._columns_of_pairs())

    def _repr_html_(self) -> str:
        columns = self._columns_of_pairs()
        return rows_to_html(str(self), [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])

    def _columns_of_pairs(self) -> dict[str, Any]:
        return self.columns()[0] | {f"baseline_{name}": baseline.distances.mean(1) for name, baseline in self.baselines.items()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw distances against human ratings, one color per kind of pair, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        axes = plot_pairs(self.pairs, self.distances, self.config, ax)
        axes.set_title(str(self), fontsize=9, parse_math=False)
        return axes

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100. `parts` are the subsets of the dataset."""
        has_reliability = self.distances.shape[1] > 1
        return {
            "title": self.pairs.title,
            "data": self.pairs.sha256,
            "is_complete": self.pairs.is_complete,
            "num_excluded": self.num_excluded,
            **self.agreement.summary(),
            "reliability": 100 * self.reliability if has_reliability else None,
            "ceiling": 100 * self.ceiling if has_reliability else None,
            "divergences": {name: agreement.summary() for name, agreement in self.divergences.items()},
            "parts": {name: subset.summary() for name, subset in self.subsets.items()},
            **_subset_means(self.subsets),
            "baselines": {name: baseline.summary() for name, baseline in self.baselines.items()},
            "groups": [group.summary() for group in self.groups],
            "floors": None if self.floors is None else self.floors.summary(self.agreement),
        }


@dataclass(frozen=True)
class Evaluation:
    """The results of a process on one or more tasks.

    Attributes:
        tasks: Results by name of the task, in order.
        config: The divergence that the distances of all tasks are.
        process: Settings of the process.
        fingerprint: Hash of everything that changes a result of the process.
        samples: Number of Monte-Carlo samples k.
        seed: Seed of the noise.
        antithetic: Whether the two texts of a pair start from opposite noise.
        version: Version of the package.
        non_finite_texts: Texts for which the model's predictions are not finite; pairs with them are excluded.
    """

    tasks: dict[str, TaskResult]
    config: DivergenceConfig
    process: dict[str, Any]
    fingerprint: str
    samples: int
    seed: int
    antithetic: bool
    version: str
    non_finite_texts: tuple[str, ...] = ()

    measure = deprecated_property("measure", "config")
    identity = deprecated_property("identity", "fingerprint")
    broken = deprecated_property("broken", "non_finite_texts")

    def __str__(self) -> str:
        settings = f"{pluralize(self.samples, 'sample')}, seed {self.seed}; {summarize_settings(self.process)}"
        lines = [f"{self.config.divergence}, {self.config.unit_label}; {settings}"]
        lines += [f"  {result}" for result in self.tasks.values()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON: `tasks.{name}.{spearman, ci95, pairs, reliability, ...}`; correlations times 100."""
        return {
            "tasks": {name: result.summary() for name, result in self.tasks.items()},
            "measure": self.measure_dict(),
            "samples": self.samples,
            "seed": self.seed,
            "antithetic": self.antithetic,
            "process": self.process,
            "fingerprint": self.fingerprint,
            "version": self.version,
            "non_finite_texts": list(self.non_finite_texts),
            "notes": list(self.notes),
        }

    def to_pandas(self) -> DataFrame:
        """Return one row per task as a pandas data frame: correlation x100 with its interval, and reliability.

        The pairs of a task are rows of `evaluation.tasks[name].to_pandas()`.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self._rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the correlation of each task with its 95% interval, and return the axes of matplotlib.

        The pairs of a task are drawn by `evaluation.tasks[name].plot()`.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        rows = self._rows()
        values = [(row["spearman"], row["ci95_low"], row["ci95_high"]) for row in rows]
        return draw_points(ax, [row["title"] for row in rows], values, "Spearman x100")

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for name, result in self.tasks.items():
            summary = result.summary()
            low, high = summary["ci95"]
            others = {key: summary[key] for key in ("pearson", "p", "reliability", "ceiling")}
            rows.append(
                {"task": name, "title": summary["title"], "pairs": summary["pairs"], "spearman": summary["spearman"],
                 "ci95_low": low, "ci95_high": high, **others}
            )  # fmt: skip
        return rows

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the results: texts whose pairs are excluded, few pairs, and agreement that the text encoder explains."""
        notes: list[str] = []
        if self.non_finite_texts:
            num_excluded = sum(result.num_excluded for result in self.tasks.values())
            message = non_finite_message(self.non_finite_texts)
            notes.append(f"{message}; excluded because of these: {pluralize(num_excluded, 'pair')}")
        notes += few_pairs_notes({result.pairs.title: len(result.pairs) for result in self.tasks.values()})
        for result in self.tasks.values():
            if result.floors is not None and result.floors.encoder_explains(result.agreement):
                notes.append(
                    f"The agreement in {result.pairs.title} beyond that of the text encoder is not significant: given the "
                    f"encoder's cosine, the partial correlation of distances and ratings is {result.floors.partial}"
                )
        return tuple(notes)

    def measure_dict(self) -> dict[str, str]:
        """Return what the distances are, as plain data."""
        return {
            "divergence": self.config.divergence,
            "weighting": self.config.weighting,
            "reduction": self.config.reduction,
            "unit": self.config.unit_label,
        }

    def told_measure(self) -> dict[str, str]:
        """Return `measure_dict()`. Deprecated name."""
        warn_renamed("Evaluation.told_measure", "Evaluation.measure_dict")
        return self.measure_dict()


def _subset_means(subsets: Mapping[str, Agreement]) -> dict[str, float | None]:
    """Return the mean rank correlation over the subsets, plain and weighted by their numbers of pairs, multiplied by 100."""
    if len(subsets) < 2:
        return {"mean_of_parts": None, "weighted_mean_of_parts": None}
    values = [subset.spearman for subset in subsets.values()]
    weights = [subset.pairs for subset in subsets.values()]
    return {
        "mean_of_parts": 100 * float(np.mean(values)),
        "weighted_mean_of_parts": 100 * float(np.average(values, weights=weights)),
    }

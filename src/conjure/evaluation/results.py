"""The results of an evaluation, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property, warn_renamed
from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.evaluation.correlation import Agreement, Difference
from conjure.evaluation.error_analysis import Group
from conjure.evaluation.few_pairs import few_pairs_notes
from conjure.evaluation.pair_files import Pairs
from conjure.evaluation.partial_correlation import PartialCorrelation
from conjure.io.formatting import pluralize
from conjure.similarity.trajectory_cache import non_finite_message


@dataclass(frozen=True)
class BaselineComparison:
    """The result of a baseline, compared with the process.

    Attributes:
        distances: Distance of each pair in each sample of the baseline, shape (pairs, samples).
        agreement: Agreement of the baseline with human ratings; None if all its distances are equal, as for a divergence that
            saturates.
        difference: Agreement of the process minus that of the baseline; None if all distances of the baseline are equal.
        subsets: Agreement of the baseline in each subset of the dataset.
    """

    distances: Float[np.ndarray, "pairs samples"]
    agreement: Agreement | None
    difference: Difference | None
    subsets: dict[str, Agreement]

    parts = deprecated_property("parts", "subsets")

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100. `all` is the common value of equal distances."""
        no_agreement = {"spearman": None, "all": float(self.distances[0, 0])}
        return {
            **(no_agreement if self.agreement is None else self.agreement.summary()),
            "difference": None if self.difference is None else self.difference.summary(),
            "parts": {name: subset.summary() for name, subset in self.subsets.items()},
        }


@dataclass(frozen=True)
class Floors:
    """What agreement with human ratings a task allows without the images (`conjure.evaluation.floors`).

    Attributes:
        encoder: Agreement of the cosine distance of the text encoders; None if the pipeline has none.
        partial: Partial rank correlation of the distances and the ratings, given that cosine; None if there is none, or with
            fewer than four pairs.
        shuffled: Agreement of the process with shuffled texts, on at most 100 pairs in one sample; None where no correlation is
            defined.
    """

    encoder: Agreement | None
    partial: PartialCorrelation | None
    shuffled: Agreement | None

    def encoder_explains(self, agreement: Agreement) -> bool:
        """Return whether the text encoder explains an agreement of the process.

        This is so if the process agrees with the ratings, and the partial correlation given the encoder is not significantly
        above 0, but significantly below the correlation: its interval reaches 0, and ends below that of the correlation.
        """
        return self.partial is not None and self.partial.ci95[0] <= 0 and self.partial.ci95[1] < agreement.ci95[0]

    def summary(self, agreement: Agreement) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        parts = {"encoder": self.encoder, "partial": self.partial, "shuffled": self.shuffled}
        return {
            **{name: None if part is None else part.summary() for name, part in parts.items()},
            "encoder_explains": self.encoder_explains(agreement),
        }


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

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100. `parts` are the subsets of the dataset."""
        has_reliability = self.distances.shape[1] > 1
        return {
            "title": self.pairs.title,
            "data": self.pairs.sha256,
            "is_complete": self.pairs.is_complete,
            "num_excluded": self.num_excluded,
            **self.agreement.summary(),
            "reliability": round(100 * self.reliability, 2) if has_reliability else None,
            "ceiling": round(100 * self.ceiling, 2) if has_reliability else None,
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
                    f"The text encoder's cosine explains the agreement in {result.pairs.title}: given it, the partial "
                    f"correlation of distances and ratings is {result.floors.partial}"
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
        "mean_of_parts": round(100 * float(np.mean(values)), 2),
        "weighted_mean_of_parts": round(100 * float(np.average(values, weights=weights)), 2),
    }

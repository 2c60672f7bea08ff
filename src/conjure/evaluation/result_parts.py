"""Parts of the result of a task: baselines, and what agreement the task allows without the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.evaluation.correlation import Agreement, Difference
from conjure.evaluation.partial_correlation import PartialCorrelation


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
        above 0, but significantly below the correlation: its interval reaches 0, and ends below that of the correlation, which is
        above 0.
        """
        if self.partial is None or agreement.ci95[0] <= 0:
            return False
        return self.partial.ci95[0] <= 0 and self.partial.ci95[1] < agreement.ci95[0]

    def summary(self, agreement: Agreement) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        parts = {"encoder": self.encoder, "partial": self.partial, "shuffled": self.shuffled}
        return {
            **{name: None if part is None else part.summary() for name, part in parts.items()},
            "encoder_explains": self.encoder_explains(agreement),
        }

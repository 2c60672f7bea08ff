"""Matrices of the distances between all pairs of texts, as in Figure 2 of Liu and Soatto (2026)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.intervals import few_samples_note, nonnegative_ends, pool_errors
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.io.formatting import format_with_error
from conjure.plotting.output import figure_bytes
from conjure.similarity import matrix_output
from conjure.similarity.matrix_analysis import Embedding2D, Separation, average_linkage, classical_mds, group_separation
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import compute_pairs, run_metadata
from conjure.similarity.validation import check_matrix_texts

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Embedding2D", "Matrix", "Separation", "matrix"]


@dataclass(frozen=True)
class Matrix:
    """The distances between all texts.

    Attributes:
        texts: The texts.
        distance: Means over samples. Symmetric, except for `kl`: its entry [i, j] is computed on the trajectories of text i.
        stderr: The standard errors of `distance`, NaN with one sample. From 10 pairs on, each error is moderated by the variances
            of all pairs (`conjure.divergence.intervals.pool_errors`); `raw_stderr` are the errors without that.
        sample_distances: The distances of each sample.
        unit: The unit of all distances.
        divergence: The divergence that was estimated.
        weighting: The weighting of the steps.
        antithetic: Whether the two texts of a pair start from opposite noise.
        samples: The number of samples k.
        seed: The seed of the noise.
        process: The settings of the process.
        fingerprint: The fingerprint of the process.
        version: The version of this package.
        degrees_of_freedom: The degrees of freedom of `stderr`: k - 1, and more if variances were pooled.
        pooled_pairs: The number of pairs whose variances were pooled; 0 if none were.
    """

    texts: tuple[str, ...]
    distance: Float[np.ndarray, "texts texts"]
    stderr: Float[np.ndarray, "texts texts"]
    sample_distances: Float[np.ndarray, "samples texts texts"]
    unit: str
    divergence: str
    weighting: str
    antithetic: bool
    samples: int
    seed: int
    process: dict[str, Any]
    fingerprint: str
    version: str
    degrees_of_freedom: float
    pooled_pairs: int

    each = deprecated_property("each", "sample_distances")
    map = deprecated_property("map", "mds_embedding")
    identity = deprecated_property("identity", "fingerprint")
    cell = deprecated_property("cell", "format_entry")
    save_map = deprecated_property("save_map", "save_mds")

    @cached_property
    def ci95(self) -> tuple[Float[np.ndarray, "texts texts"], Float[np.ndarray, "texts texts"]]:
        """The lower and the upper ends of the 95% intervals of `distance`, never negative; NaN with one sample."""
        return nonnegative_ends(self.distance, self.stderr, self.degrees_of_freedom)

    @cached_property
    def raw_stderr(self) -> Float[np.ndarray, "texts texts"]:
        """The standard errors of `distance` from the samples of each pair alone; NaN with one sample."""
        if self.samples == 1:
            return self.stderr
        return self.sample_distances.std(0, ddof=1) / self.samples**0.5

    @cached_property
    def linkage(self) -> Float[np.ndarray, "merges 4"]:
        """The hierarchical clustering of the texts in the format of scipy: average linkage, leaves in the optimal order."""
        return average_linkage(self.distance)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The indices of the texts in the order of the leaves of `linkage`, where similar texts are neighbours."""
        from scipy.cluster.hierarchy import leaves_list

        return tuple(int(i) for i in leaves_list(self.linkage))

    @cached_property
    def mds_embedding(self) -> Embedding2D:
        """The embedding of the texts in the plane by classical multidimensional scaling (Torgerson 1952).

        The entries of `distance` are means of squared norms, and are used as squared distances. Since each pair has its own
        trajectories, the entries need not be squared distances of points in a Euclidean space.
        """
        return classical_mds(self.distance)

    def separation(self, groups: Sequence[Iterable[str]]) -> Separation:
        """Return how well groups of the texts are separated: silhouettes (Rousseeuw 1987), with an interval over samples.

        Args:
            groups: At least two groups of texts of this matrix. Texts may be left out.

        Raises:
            InputError: If there are fewer than two groups, a group is empty, a text is not in the matrix, or is in two groups.
        """
        return group_separation(self.sample_distances, self.texts, groups)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the errors: whether they are pooled, and whether there are too few samples for an error."""
        pooled = f"the standard errors are pooled over {self.pooled_pairs} pairs" if self.pooled_pairs else None
        return tuple(note for note in (pooled, few_samples_note(self.samples)) if note is not None)

    def format_entry(self, i: int, j: int) -> str:
        """Return the entry [i, j] with its standard error as text."""
        return "0" if i == j else format_with_error(self.distance[i, j], self.stderr[i, j])

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data for JSON. Errors and intervals are None with one sample.

        `ci95` holds for each entry the lower and the upper end.
        """
        errors = {"stderr": self.stderr, "raw_stderr": self.raw_stderr, "ci95": np.stack(self.ci95, -1)}
        return {
            "texts": list(self.texts),
            "distance": self.distance.tolist(),
            **{name: values.tolist() if self.samples > 1 else None for name, values in errors.items()},
            "degrees_of_freedom": self.degrees_of_freedom,
            "pooled_pairs": self.pooled_pairs,
            "order": list(self.order),
            "notes": list(self.notes),
            **{name: getattr(self, name) for name in
               ("unit", "divergence", "weighting", "antithetic", "samples", "seed", "process", "fingerprint", "version")},
        }  # fmt: skip

    def to_csv(self, *, raw: bool = False) -> str:
        """Return the distances as comma-separated values, with the texts as first row and first column.

        Args:
            raw: Write texts unchanged. Otherwise a text that a spreadsheet would run as a formula gets an apostrophe before it.
        """
        return matrix_output.to_csv(self, raw=raw)

    def to_frame(self) -> DataFrame:
        """Return the distances as a pandas data frame.

        Raises:
            InputError: If pandas is not installed.
        """
        return matrix_output.to_frame(self)

    def heatmap(self) -> Figure:
        """Return the heat map of the distances with the dendrogram of the texts."""
        return matrix_output.heatmap(self)

    def save(self, path: str | Path) -> None:
        """Write the heat map with its dendrogram to `path`.

        Args:
            path: A .png, .svg or .pdf file, or an .html file, which also contains a table of the distances.

        Raises:
            InputError: If the suffix is another one, or the file cannot be written.
        """
        matrix_output.save(self, path)

    def save_mds(self, path: str | Path, groups: Sequence[Iterable[str]] = ()) -> None:
        """Write a chart of `mds_embedding` to `path`.

        Args:
            path: A .png, .svg or .pdf file.
            groups: Groups of texts. Each group has its own color.

        Raises:
            InputError: If the suffix is another one, or the file cannot be written.
        """
        matrix_output.save_mds(self, path, groups)

    def _repr_png_(self) -> bytes:
        return figure_bytes(self.heatmap(), "png")


def matrix(
    process: Process,
    texts: Iterable[str],
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    progress: ProgressCallback | None = None,
) -> Matrix:
    """Estimate the distances between all pairs of `texts`. N texts need N (N + 1) denoiser rows per sample and step.

    Args:
        process: The model with its sampling settings.
        texts: At least two texts, each once.
        samples: The number k of Monte-Carlo samples. Standard errors need at least two.
        seed: The seed of the noise.
        divergence: As in `conjure.distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        progress: Called with the number of finished denoising steps and the total number.

    Returns:
        The matrix. Its entries equal the results of `conjure.distance`.

    Raises:
        InputError: As `conjure.distance`, for fewer than two texts, and for a text that occurs twice.
    """
    if isinstance(texts, str):
        raise InputError(f"the texts of a matrix are {texts!r}; give a list of texts")
    texts = check_matrix_texts(texts)
    options = SamplingOptions.create(process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
                                     unit=unit, reduction=reduction, antithetic=antithetic)  # fmt: skip
    cache = compute_pairs(process, list(combinations(texts, 2)), options, progress)
    sample_distances = np.zeros((samples, len(texts), len(texts)))
    stderr = np.zeros((len(texts), len(texts)))
    directed = permutations if divergence == "kl" else combinations
    first, second = np.array(list(directed(range(len(texts)), 2))).T
    for i, j in zip(first, second, strict=True):
        sample_distances[:, i, j] = options.config.per_sample(cache.pair(texts[i], texts[j], samples))
    errors = pool_errors(sample_distances[:, first, second].T)
    stderr[first, second] = errors.stderr
    if divergence != "kl":
        sample_distances += sample_distances.swapaxes(1, 2)
        stderr += stderr.T
    return Matrix(
        tuple(texts),
        sample_distances.mean(0),
        stderr,
        sample_distances,
        samples=samples,
        degrees_of_freedom=errors.degrees_of_freedom,
        pooled_pairs=errors.pooled_pairs,
        **run_metadata(process, options),
    )

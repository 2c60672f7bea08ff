"""The distances between all pairs of texts: their statistics, and their output as CSV, data frame, heat map, page and chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.intervals import equal_predictions_note, few_samples_note, nonnegative_ends, pooled_note
from conjure.divergence.reference_scale import NO_SIMILARITY, UNCALIBRATED, ReferenceScale
from conjure.divergence.terms import distance_terms
from conjure.errors import InputError
from conjure.io.csv_files import csv_text
from conjure.io.files import check_output, import_pandas, write_output
from conjure.io.formatting import pluralize
from conjure.plotting.matrices import clustered_heatmap, draw_matrix
from conjure.plotting.output import EMBEDDING_SUFFIXES, FIGURE_SUFFIXES, axes_or_new, figure_bytes
from conjure.plotting.scatter import scatter_plot
from conjure.similarity.matrix_analysis import Embedding2D, Separation, average_linkage, classical_mds, group_separation
from conjure.similarity.matrix_page import MatrixCells, matrix_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


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
        scale: The scale of the distances of the process in this divergence; None if the process is not calibrated.
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
    scale: ReferenceScale | None = field(default=None, repr=False, compare=False)

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
    def similarity(self) -> Float[np.ndarray, "texts texts"] | None:
        """For each entry the share of unrelated pairs of texts that are farther apart; None if the process is not calibrated."""
        return None if self._similarities is None else self._similarities[0]

    @cached_property
    def similarity_ci95(self) -> tuple[Float[np.ndarray, "texts texts"], Float[np.ndarray, "texts texts"]] | None:
        """The lower and the upper ends of the 95% intervals of `similarity`; NaN with one sample."""
        return None if self._similarities is None else self._similarities[1:]

    @cached_property
    def _similarities(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        return None if self.scale is None else self.scale.similarities(self.distance, *self.ci95)

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
        """Notes on the distances: on different texts with the distance 0, on pooled errors, and on too few samples."""
        num_zero = int(np.count_nonzero(self.distance[np.triu_indices(len(self.texts), 1)] == 0))
        notes = (equal_predictions_note(num_zero), pooled_note(self.pooled_pairs), few_samples_note(self.samples))
        return tuple(note for note in notes if note is not None)

    def format_entry(self, i: int, j: int, *, similarity: bool = False) -> str:
        """Return the entry [i, j] as text: the distance with its standard error, or the similarity."""
        if similarity:
            return f"{self.require_similarity()[i, j]:.2f}"
        return self._cells.with_error(i, j)

    @cached_property
    def _cells(self) -> MatrixCells:
        return MatrixCells(self.texts, self.distance, self.stderr, self.ci95, self._similarities)

    def __str__(self) -> str:
        pairs = self.distance[~np.eye(len(self.texts), dtype=bool)]
        return (
            f"distances of {len(self.texts)} texts from {pairs.min():.4g} to {pairs.max():.4g}, {self.divergence}, {self.unit}\n"
            f"  {pluralize(self.samples, 'sample')}, seed {self.seed}; {summarize_settings(self.process)}"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data for JSON. Errors and intervals are None with one sample.

        `ci95` holds for each entry the lower and the upper end, and so does `similarity_ci95`. Similarities are None without a
        calibration.
        """
        similarities = {
            "similarity": None if self.similarity is None else self.similarity.tolist(),
            "similarity_ci95": None
            if self.similarity_ci95 is None or self.samples == 1
            else np.stack(self.similarity_ci95, -1).tolist(),
        }
        errors = {"stderr": self.stderr, "raw_stderr": self.raw_stderr, "ci95": np.stack(self.ci95, -1)}
        return {
            "texts": list(self.texts),
            "distance": self.distance.tolist(),
            **{name: values.tolist() if self.samples > 1 else None for name, values in errors.items()},
            **similarities,
            "degrees_of_freedom": self.degrees_of_freedom,
            "pooled_pairs": self.pooled_pairs,
            "order": list(self.order),
            "notes": list(self.notes),
            **{name: getattr(self, name) for name in
               ("unit", "divergence", "weighting", "antithetic", "samples", "seed", "process", "fingerprint", "version")},
        }  # fmt: skip

    def require_similarity(self) -> Float[np.ndarray, "texts texts"]:
        """Return `similarity`.

        Raises:
            InputError: If the process is not calibrated.
        """
        if self.similarity is None:
            raise InputError(UNCALIBRATED)
        return self.similarity

    def to_csv(self, *, raw: bool = False, similarity: bool = False) -> str:
        """Return the distances as comma-separated values, with the texts as first row and first column.

        With at least two samples, as many columns with the standard errors follow. Their heads begin with `stderr: `.

        Args:
            raw: Write texts unchanged. Otherwise a text that a spreadsheet would run as a formula gets an apostrophe before it.
            similarity: Return similarities instead of distances.

        Raises:
            InputError: If similarities are requested and the process is not calibrated.
        """
        if similarity:
            values, heads = self.require_similarity(), list(self.texts)
        else:
            values = self.distance if self.samples == 1 else np.hstack([self.distance, self.stderr])
            heads = [*self.texts, *(f"stderr: {text}" for text in self.texts if self.samples > 1)]
        rows = ([text, *row] for text, row in zip(self.texts, values.tolist(), strict=True))
        return csv_text([["", *heads], *rows], raw=raw)

    def to_frame(self) -> DataFrame:
        """Return the distances as a square pandas data frame, with the texts as rows and columns.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.distance, index=list(self.texts), columns=list(self.texts))

    def to_pandas(self) -> DataFrame:
        """Return one row per pair as a pandas data frame: text1, text2, distance, stderr, ci95_low and ci95_high.

        Pairs are in the order of the texts. With the divergence `kl`, each pair has a row for each direction.

        Raises:
            InputError: If pandas is not installed.
        """
        n, (low, high) = len(self.texts), self.ci95
        pairs = permutations(range(n), 2) if self.divergence == "kl" else combinations(range(n), 2)
        columns = {"distance": self.distance, "stderr": self.stderr, "ci95_low": low, "ci95_high": high}
        return import_pandas().DataFrame(
            [
                {"text1": self.texts[i], "text2": self.texts[j], **{name: values[i, j] for name, values in columns.items()}}
                for i, j in pairs
            ]
        )

    def heatmap(self) -> Figure:
        """Return the heat map of the distances with the dendrogram of the texts."""
        return clustered_heatmap(
            self.distance, self.stderr, self.texts, self.linkage, self.order,
            title=f"distances for the model {self.process['model']}, {pluralize(self.samples, 'sample')}",
            colorbar_label=f"{self.divergence}, {self.unit}",
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the distances as an image without the dendrogram, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        axes = axes_or_new(ax)
        draw_matrix(axes, self.distance, self.stderr, self.texts, self.order)
        return axes

    def save(self, path: str | Path) -> None:
        """Write the heat map with its dendrogram to `path`.

        Args:
            path: A .png, .svg or .pdf file, or an .html file: a page that shows the error, the interval and the similarity of the
                cell under the pointer, and contains them as tables. It needs no other file and no network.

        Raises:
            InputError: If the suffix is another one, or the file cannot be written.
        """
        path = check_output(path, FIGURE_SUFFIXES, "figure")
        file_format = path.suffix.lower().removeprefix(".")
        content = self.to_html().encode() if file_format == "html" else figure_bytes(self.heatmap(), file_format)
        write_output(path, content, make_folders=False)

    def save_mds(self, path: str | Path, groups: Sequence[Iterable[str]] = ()) -> None:
        """Write a chart of `mds_embedding` to `path`.

        Args:
            path: A .png, .svg or .pdf file.
            groups: Groups of texts. With at least two, each has its own color and marker, which the legend explains by its number
                and its first texts.

        Raises:
            InputError: If the suffix is another one, or the file cannot be written.
        """
        path = check_output(path, EMBEDDING_SUFFIXES, "figure")
        numbers = {text: number for number, group in enumerate(groups) for text in group}
        embedding = self.mds_embedding
        title = f"{self.process['model']}, {self.divergence}; the plane explains {embedding.explained:.0%} of the variance"
        figure = scatter_plot(embedding.points, self.texts, [numbers.get(text) for text in self.texts], title)
        write_output(path, figure_bytes(figure, path.suffix.lower().removeprefix(".")), make_folders=False)

    def _repr_png_(self) -> bytes:
        return figure_bytes(self.heatmap(), "png")

    def to_html(self) -> str:
        """Return the page of the matrix as one HTML document without external files."""
        return matrix_page(
            self._cells.reordered(self.order),
            self.linkage,
            settings=(
                f"{self.divergence}, {self.unit}; {summarize_settings(self.process)}; {pluralize(self.samples, 'sample')}, "
                f"seed {self.seed}; conjure {self.version}"
            ),
            unit=self.unit,
            notes=[*self.notes, *([] if self.scale else [NO_SIMILARITY])],
            glossary=distance_terms(self.divergence, self.unit, self.process, is_calibrated=self.scale is not None),
            is_directed=self.divergence == "kl",
        )

"""The output of a matrix of distances: comma-separated values, a data frame, a heat map, an HTML page and a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np

from conjure.io.csv_files import csv_text
from conjure.io.documents import Document, Table
from conjure.io.files import import_pandas
from conjure.io.formatting import pluralize
from conjure.plotting.charts import scatter_plot
from conjure.plotting.heatmaps import clustered_heatmap
from conjure.plotting.output import figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from conjure.similarity.matrix_result import Matrix


def matrix_csv(matrix: Matrix, *, raw: bool, similarity: bool) -> str:
    """Return a matrix as comma-separated values. Arguments and errors are those of `Matrix.to_csv`."""
    if similarity:
        values, heads = matrix.require_similarity(), list(matrix.texts)
    else:
        values = matrix.distance if matrix.samples == 1 else np.hstack([matrix.distance, matrix.stderr])
        heads = [*matrix.texts, *(f"stderr: {text}" for text in matrix.texts if matrix.samples > 1)]
    rows = ([text, *row] for text, row in zip(matrix.texts, values.tolist(), strict=True))
    return csv_text([["", *heads], *rows], raw=raw)


def frame_of_pairs(matrix: Matrix) -> DataFrame:
    """Return one row per pair as a pandas data frame. Columns and errors are those of `Matrix.to_pandas`."""
    n, (low, high) = len(matrix.texts), matrix.ci95
    pairs = permutations(range(n), 2) if matrix.divergence == "kl" else combinations(range(n), 2)
    columns = {"distance": matrix.distance, "stderr": matrix.stderr, "ci95_low": low, "ci95_high": high}
    return import_pandas().DataFrame(
        [
            {"text1": matrix.texts[i], "text2": matrix.texts[j], **{name: values[i, j] for name, values in columns.items()}}
            for i, j in pairs
        ]
    )


def matrix_heatmap(matrix: Matrix) -> Figure:
    """Return the heat map of the distances with the dendrogram of the texts."""
    return clustered_heatmap(
        matrix.distance, matrix.stderr, matrix.texts, matrix.linkage, matrix.order,
        title=f"{matrix.process['model']}, {pluralize(matrix.samples, 'sample')}",
        colorbar_label=f"{matrix.divergence}, {matrix.unit}",
    )  # fmt: skip


def mds_chart(matrix: Matrix, groups: Sequence[Iterable[str]]) -> Figure:
    """Return a chart of the embedding of the texts in the plane.

    Args:
        matrix: The matrix.
        groups: Groups of texts. Each group has its own color.
    """
    group_numbers = {text: number for number, group in enumerate(groups) for text in group}
    embedding = matrix.mds_embedding
    title = f"{matrix.process['model']}, {matrix.divergence}; the plane explains {embedding.explained:.0%} of the variance"
    return scatter_plot(embedding.points, matrix.texts, [group_numbers.get(text, 0) for text in matrix.texts], title)


def matrix_page(matrix: Matrix) -> str:
    """Return an HTML page with the heat map as an image, and tables of the distances with their errors and of similarities."""
    rows = [[matrix.texts[i], *(matrix.format_entry(i, j) for j in matrix.order)] for i in matrix.order]
    table = Table("Distances and standard errors", ["", *(matrix.texts[i] for i in matrix.order)], rows)
    process = matrix.process
    settings = (
        f"{matrix.divergence}, {matrix.unit}; model {process['model']}, {process['scheduler']}, T = {process['steps']}, "
        f"guidance {process['guidance']}, k = {matrix.samples}, seed {matrix.seed}; conjure {matrix.version}"
    )
    figures = {"Heat map": figure_bytes(matrix.heatmap(), "png")}
    tables = [table]
    if matrix.similarity is not None:
        rows = [[matrix.texts[i], *(matrix.format_entry(i, j, similarity=True) for j in matrix.order)] for i in matrix.order]
        tables.append(Table("Similarities: shares of unrelated pairs that are farther apart", table.columns, rows))
    return Document("Distance matrix", [settings], tables, "; ".join(matrix.notes), figures).to_html()

"""Output of a distance matrix: CSV, data frame, heat map with dendrogram, HTML page, and scatter plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conjure.errors import InputError
from conjure.io.csv_files import csv_text
from conjure.io.documents import Document, Table
from conjure.io.files import write_output
from conjure.io.formatting import pluralize
from conjure.plotting.charts import scatter_plot
from conjure.plotting.heatmaps import clustered_heatmap
from conjure.plotting.output import EMBEDDING_SUFFIXES, check_path, figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from conjure.similarity.matrices import Matrix


def to_csv(matrix: Matrix, *, raw: bool) -> str:
    """Return the distances as comma-separated values. See `conjure.Matrix.to_csv`."""
    rows = ([text, *row] for text, row in zip(matrix.texts, matrix.distance.tolist(), strict=True))
    return csv_text([["", *matrix.texts], *rows], raw=raw)


def to_frame(matrix: Matrix) -> DataFrame:
    """Return the distances as a pandas data frame. See `conjure.Matrix.to_frame`."""
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise InputError("data frames need the package pandas: pip install pandas") from error
    return DataFrame(matrix.distance, index=list(matrix.texts), columns=list(matrix.texts))


def heatmap(matrix: Matrix) -> Figure:
    """Return the heat map of the distances with the dendrogram of the texts."""
    return clustered_heatmap(
        matrix.distance, matrix.stderr, matrix.texts, matrix.linkage, matrix.order,
        title=f"{matrix.process['model']}, {pluralize(matrix.samples, 'sample')}",
        colorbar_label=f"{matrix.divergence}, {matrix.unit}",
    )  # fmt: skip


def save(matrix: Matrix, path: str | Path) -> None:
    """Write the heat map, or the page with the heat map and a table, to `path`. See `conjure.Matrix.save`."""
    path = check_path(path)
    file_format = path.suffix.lower().removeprefix(".")
    content = html_page(matrix).encode() if file_format == "html" else figure_bytes(heatmap(matrix), file_format)
    write_output(path, content, make_folders=False)


def save_mds(matrix: Matrix, path: str | Path, groups: Sequence[Iterable[str]]) -> None:
    """Write a chart of the texts in the plane to `path`. See `conjure.Matrix.save_mds`."""
    path = check_path(path, EMBEDDING_SUFFIXES)
    group_numbers = {text: number for number, group in enumerate(groups) for text in group}
    embedding = matrix.mds_embedding
    title = f"{matrix.process['model']}, {matrix.divergence}; the plane explains {embedding.explained:.0%} of the variance"
    figure = scatter_plot(embedding.points, matrix.texts, [group_numbers.get(text, 0) for text in matrix.texts], title)
    write_output(path, figure_bytes(figure, path.suffix.lower().removeprefix(".")), make_folders=False)


def html_page(matrix: Matrix) -> str:
    """Return an HTML page with the heat map as an image and the distances with their errors as a table."""
    rows = [[matrix.texts[i], *(matrix.format_entry(i, j) for j in matrix.order)] for i in matrix.order]
    table = Table("Distances and standard errors", ["", *(matrix.texts[i] for i in matrix.order)], rows)
    process = matrix.process
    settings = (
        f"{matrix.divergence}, {matrix.unit}; model {process['model']}, {process['scheduler']}, T = {process['steps']}, "
        f"guidance {process['guidance']}, k = {matrix.samples}, seed {matrix.seed}; conjure {matrix.version}"
    )
    figures = {"Heat map": figure_bytes(heatmap(matrix), "png")}
    return Document("Distance matrix", [settings], [table], "; ".join(matrix.notes), figures).to_html()

"""The HTML page of a distance matrix: a heat map with the details of a cell, and tables. It needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from conjure.io.documents import Table
from conjure.io.formatting import format_interval, shared_decimals
from conjure.io.templating import render
from conjure.io.text import printable
from conjure.plotting.matrices import MATRIX_COLORMAP, text_color

MAX_NUMBERED = 40  # texts; the cells of larger matrices show only colors
COLOR_STOPS = 9  # of the color scale below the heat map


@dataclass(frozen=True)
class MatrixCells:
    """What a table or page shows of a matrix.

    Attributes:
        texts: The texts.
        distance: The distances.
        stderr: Their standard errors, NaN where unknown.
        ci95: The lower and the upper ends of their 95% intervals, NaN where unknown.
        similarities: The similarities with the lower and the upper ends of their intervals; None without a calibration.
    """

    texts: Sequence[str]
    distance: Float[np.ndarray, "texts texts"]
    stderr: Float[np.ndarray, "texts texts"]
    ci95: tuple[Float[np.ndarray, "texts texts"], Float[np.ndarray, "texts texts"]]
    similarities: tuple[Float[np.ndarray, "texts texts"], ...] | None

    def reordered(self, order: Sequence[int]) -> MatrixCells:
        """Return the cells with rows and columns in another order."""
        square = np.ix_(order, order)
        low, high = self.ci95
        similarities = None if self.similarities is None else tuple(values[square] for values in self.similarities)
        texts = [self.texts[i] for i in order]
        return MatrixCells(texts, self.distance[square], self.stderr[square], (low[square], high[square]), similarities)

    @cached_property
    def decimals(self) -> int:
        """The number of decimals of all distances."""
        off_diagonal = ~np.eye(len(self.texts), dtype=bool)
        return shared_decimals(self.distance[off_diagonal], self.stderr[off_diagonal])

    def with_error(self, i: int, j: int) -> str:
        """Return the distance [i, j] with its error if it is known."""
        if i == j:
            return "0"
        number = f"{self.distance[i, j]:.{self.decimals}f}"
        return number if np.isnan(self.stderr[i, j]) else f"{number} ± {self.stderr[i, j]:.{self.decimals}f}"

    def details(self, i: int, j: int) -> str:
        """Return the distance with its error and interval, and the similarity with its interval; nothing on the diagonal."""
        if i == j:
            return ""
        details, (low, high) = self.with_error(i, j), self.ci95
        if not np.isnan(low[i, j]):
            details += f" (95% CI: {low[i, j]:.{self.decimals}f} to {high[i, j]:.{self.decimals}f})"
        if self.similarities is None:
            return details
        similarity, *ends = (values[i, j] for values in self.similarities)
        interval = format_interval((ends[0], ends[1]), 0.1)
        return f"{details}; similarity {similarity:.2f}" + (f" (95% CI: {interval})" if interval else "")

    def tables(self) -> list[Table]:
        """Return the distances with their errors, and the similarities, each as a square table."""
        tables = [self._table("Distances and standard errors", self.with_error)]
        if self.similarities is not None:
            similarity = self.similarities[0]
            title = "Similarities: shares of unrelated pairs that are farther apart"
            tables.append(self._table(title, lambda i, j: f"{similarity[i, j]:.2f}"))
        return tables

    def _table(self, title: str, cell: Callable[[int, int], str]) -> Table:
        rows = [[text, *(cell(i, j) for j in range(len(self.texts)))] for i, text in enumerate(self.texts)]
        return Table(title, ["", *self.texts], rows)


def matrix_page(
    cells: MatrixCells,
    linkage: Float[np.ndarray, "merges 4"],
    *,
    settings: str,
    unit: str,
    notes: Sequence[str],
    glossary: Mapping[str, str],
    is_directed: bool,
) -> str:
    """Return a matrix as one HTML page without external files. All texts are escaped.

    Args:
        cells: The entries, in the order of the leaves of `linkage`.
        linkage: The hierarchical clustering in the format of scipy.
        settings: What was computed.
        unit: The unit of the distances.
        notes: Notes on the errors.
        glossary: The explanations of the terms of the page, by term.
        is_directed: Whether the entries [i, j] and [j, i] differ.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colormap, n = colormaps[MATRIX_COLORMAP], len(cells.texts)
    largest, decimals = float(cells.distance.max()), cells.decimals
    colors = colormap(cells.distance / (largest or 1.0))
    names = [printable(text) for text in cells.texts]
    return render(
        "conjure.similarity",
        "matrix.html",
        title="Distance matrix",
        settings=settings,
        names=names,
        rows=[
            [
                {
                    "number": f"{cells.distance[i, j]:.{decimals}f}" if i != j else "0",
                    "background": to_hex(colors[i, j]),
                    "color": text_color(colors[i, j]),
                    "details": cells.details(i, j),
                }
                for j in range(n)
            ]
            for i in range(n)
        ],
        has_numbers=n <= MAX_NUMBERED,
        tree=Markup(_tree_path(linkage)),
        largest=f"{largest:.{decimals}f}",
        stops=[to_hex(colormap(stop)) for stop in np.linspace(0, 1, COLOR_STOPS)],
        unit=unit,
        is_directed=is_directed,
        tables=cells.tables(),
        notes=notes,
        glossary=glossary,
        data={"names": names},
    )


def _tree_path(linkage: Float[np.ndarray, "merges 4"]) -> str:
    """Return the dendrogram as the path of an SVG image of 100 x n units, whose row i is the i-th leaf."""
    from scipy.cluster.hierarchy import dendrogram

    tree = dendrogram(linkage, no_plot=True)
    height = max(map(max, tree["dcoord"])) or 1.0
    # scipy places leaf i at 5 + 10 i
    lines = (
        " L".join(f"{100 * (1 - d / height):.2f} {x / 10:.3f}" for d, x in zip(*coordinates, strict=True))
        for coordinates in zip(tree["dcoord"], tree["icoord"], strict=True)
    )
    return " ".join(f"M{line}" for line in lines)

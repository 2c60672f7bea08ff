"""Heat maps of distance matrices, with numbers in the cells where they are legible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from conjure.io.formatting import shared_decimals
from conjure.io.text import quote_and_wrap
from conjure.plotting.output import root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MATRIX_COLORMAP = "viridis_r"  # small distances are light
LARGEST_CELL, SMALLEST_CELL = 0.5, 0.2  # inches
MATRIX_SIDE = 12.0  # inches; cells of matrices of more texts than fit into it are smaller, down to `SMALLEST_CELL`
LABEL_WIDTH = 34  # characters of one line of a label; a text of 60 characters fits into two lines
LABEL_SIZE = 8.0  # points
LARGEST_NUMBER, SMALLEST_WITH_ERROR, SMALLEST_NUMBER = 9.0, 8.0, 5.0  # points; smaller numbers or their errors are left out
ERROR_SIZE = 0.75  # of the number above it
CHARACTER_WIDTH, LINE_HEIGHT = 0.64, 1.25  # of the size of a font
FILLED_WIDTH, FILLED_HEIGHT = 0.75, 0.78  # of a cell; fuller cells are hard to read


def clustered_heatmap(
    distances: Float[np.ndarray, "n n"],
    stderr: Float[np.ndarray, "n n"],
    labels: Sequence[str],
    linkage: Float[np.ndarray, "merges 4"],
    order: Sequence[int],
    *,
    title: str,
    colorbar_label: str,
) -> Figure:
    """Return a heat map of a distance matrix beside the dendrogram of its rows.

    Args:
        distances: The matrix.
        stderr: Standard errors of its entries, NaN where unknown.
        labels: The names of the n rows, which are also those of the columns.
        linkage: A hierarchical clustering of the rows in the format of scipy.
        order: Indices of the rows from top to bottom: the leaves of `linkage`.
        title: The title of the figure.
        colorbar_label: What the values are, with their unit.
    """
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import dendrogram

    side = max(3.2, len(labels) * min(max(MATRIX_SIDE / len(labels), SMALLEST_CELL), LARGEST_CELL))
    label_length = 0.3 + 0.075 * min(LABEL_WIDTH, max(map(len, labels)))
    figure = Figure(figsize=(side + label_length + 1.2, side + 0.9 * label_length + 1.1), layout="constrained")
    tree_axes, map_axes = figure.subplots(1, 2, width_ratios=[1, side])
    dendrogram(linkage, orientation="left", no_labels=True, ax=tree_axes, color_threshold=0, above_threshold_color="0.5")
    tree_axes.invert_yaxis()
    tree_axes.axis("off")
    colorbar = figure.colorbar(
        _draw_cells(map_axes, distances, labels, order), ax=map_axes, location="bottom", shrink=0.7, aspect=40
    )
    map_axes.yaxis.tick_right()
    colorbar.set_label(colorbar_label, fontsize=8)
    colorbar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9, parse_math=False)
    if _annotate(map_axes, distances, stderr, order):
        colorbar.set_label(f"{colorbar_label}\nin each cell the distance and, below it, its standard error", fontsize=8)
    return figure


def draw_matrix(
    axes: Axes,
    distances: Float[np.ndarray, "n n"],
    stderr: Float[np.ndarray, "n n"],
    labels: Sequence[str],
    order: Sequence[int],
) -> None:
    """Draw a distance matrix as an image, with its entries as numbers where they are legible.

    Args:
        axes: The axes.
        distances: The matrix.
        stderr: Standard errors of its entries, NaN where unknown. They decide how many digits are printed.
        labels: The names of the n rows, which are also those of the columns.
        order: Indices of the rows from top to bottom.
    """
    _draw_cells(axes, distances, labels, order)
    _annotate(axes, distances, stderr, order)


def text_color(background: Float[np.ndarray, " channels"]) -> str:
    """Return black or white, whichever has the larger contrast to a background.

    Args:
        background: Red, green and blue in 0..1.

    Reference:
        W3C, Web Content Accessibility Guidelines 2.2, for relative luminance and contrast.
    """
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.179 else "black"  # where both have the same contrast


def _draw_cells(axes: Axes, distances: Float[np.ndarray, "n n"], labels: Sequence[str], order: Sequence[int]) -> AxesImage:
    """Draw the colors of a matrix and the labels of its rows and columns, and return the image."""
    image = axes.imshow(distances[np.ix_(order, order)], cmap=MATRIX_COLORMAP, aspect="auto")
    lines = 2 if axes.get_window_extent().height / len(labels) >= 2.2 * LINE_HEIGHT * _pixels(axes, LABEL_SIZE) else 1
    names = [quote_and_wrap(labels[i], LABEL_WIDTH, lines=lines) for i in order]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(labelsize=LABEL_SIZE)
    return image


def _annotate(axes: Axes, distances: Float[np.ndarray, "n n"], stderr: Float[np.ndarray, "n n"], order: Sequence[int]) -> bool:
    """Print the entries into the cells, each with its error where there is room for both, all with the same number of decimals.

    Returns:
        Whether errors are printed.
    """
    root_figure(axes).draw_without_rendering()  # decides how large the cells are
    ordered, errors = (values[np.ix_(order, order)] for values in (distances, stderr))
    off_diagonal = ~np.eye(len(ordered), dtype=bool)
    decimals = shared_decimals(ordered[off_diagonal], errors[off_diagonal])
    num_characters = len(f"{ordered.max():.{decimals}f}")
    box = axes.get_window_extent()
    width, height = (length / len(ordered) / _pixels(axes, 1.0) for length in (box.width, box.height))
    widest = min(LARGEST_NUMBER, FILLED_WIDTH * width / (CHARACTER_WIDTH * num_characters))
    with_error = min(widest, FILLED_HEIGHT * height / (LINE_HEIGHT * (1 + ERROR_SIZE)))
    has_errors = bool(with_error >= SMALLEST_WITH_ERROR and not np.isnan(errors[off_diagonal]).any())
    size = with_error if has_errors else min(widest, FILLED_HEIGHT * height / LINE_HEIGHT)
    if size < SMALLEST_NUMBER:
        return False
    image = axes.images[-1]
    colors = image.to_rgba(ordered)

    def write(i: int, j: int, text: str, font_size: float, shift: float) -> None:
        axes.annotate(
            text, (j, i), (0, shift), textcoords="offset points", ha="center", va="center", fontsize=font_size,
            color=text_color(colors[i, j]),
        )  # fmt: skip

    for i, j in np.argwhere(off_diagonal).tolist():
        number = f"{ordered[i, j]:.{decimals}f}"
        if has_errors:
            write(i, j, number, size, size * ERROR_SIZE * LINE_HEIGHT / 2)
            write(i, j, f"±{errors[i, j]:.{decimals}f}", size * ERROR_SIZE, -size * LINE_HEIGHT / 2)
        else:
            write(i, j, number, size, 0.0)
    return has_errors


def _pixels(axes: Axes, points: float) -> float:
    """Return a length in pixels of the figure."""
    return points * root_figure(axes).dpi / 72

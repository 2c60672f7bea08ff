"""Heat maps: of distance matrices, and of values over the positions of an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from conjure.errors import InputError
from conjure.io.formatting import format_value
from conjure.io.text import quote_and_wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLORMAP = "inferno"  # for heat maps over images: 0 is black
HeatmapScale: TypeAlias = Literal["log", "linear", "step"]
LOG_RANGE = 100.0  # a logarithmic scale ends at this fraction of its largest value; early steps contribute little
MAX_ANNOTATED_LABELS = 16  # the entries of a larger matrix are not annotated with numbers


def heatmap_limits(heatmaps: Iterable[Float[np.ndarray, "_ _ _"]]) -> tuple[float, float]:
    """Return the upper limits of a color scale that several sequences of heat maps share.

    Args:
        heatmaps: Sequences of heat maps, each of shape (steps, rows, columns).

    Returns:
        The largest value at a single step, and the largest sum over the steps of one sequence; zeros without heat maps.
    """
    heatmaps = list(heatmaps)
    vmax_step = max((float(steps.max()) for steps in heatmaps), default=0.0)
    vmax_total = max((float(steps.sum(0).max()) for steps in heatmaps), default=0.0)
    return vmax_step, vmax_total


def check_heatmap_scale(scale: str) -> None:
    """Check the name of a color scale.

    Raises:
        InputError: If it is unknown.
    """
    if scale not in get_args(HeatmapScale):
        raise InputError(f"unknown heat map scale {scale!r}; must be one of {', '.join(get_args(HeatmapScale))}")


def scaled(
    heatmaps: Float[np.ndarray, "steps rows columns"], vmax: float, scale: HeatmapScale
) -> Float[np.ndarray, "steps rows columns"]:
    """Return values >= 0 as fractions of a color scale, in 0..1.

    Args:
        heatmaps: The values.
        vmax: The largest value of all heat maps that are shown together.
        scale: `log`: all heat maps share a logarithmic scale from `vmax / LOG_RANGE` to `vmax`. `linear`: all share a linear
            scale from 0 to `vmax`. `step`: each step has its own linear scale, which ends at its largest value.
    """
    if scale == "step":
        largest = heatmaps.max((1, 2), keepdims=True)
        return heatmaps / np.where(largest > 0, largest, 1)
    fractions = heatmaps / (vmax or 1.0)
    if scale == "linear":
        return fractions
    return 1 + np.log(np.maximum(fractions, 1 / LOG_RANGE)) / np.log(LOG_RANGE)


def colorize_heatmap(
    heatmaps: Float[np.ndarray, "steps rows columns"], shape: Sequence[int], vmax: float, scale: HeatmapScale = "log"
) -> Float[np.ndarray, "steps height width 3"]:
    """Return heat maps as color images of the given shape, interpolated bilinearly.

    Args:
        heatmaps: Values >= 0; 0 is shown as black.
        shape: Height and width of the images in pixels.
        vmax: The value of the lightest color.
        scale: See `scaled`.

    Returns:
        RGB images in 0..1.
    """
    from matplotlib import colormaps
    from PIL import Image

    size = (shape[1], shape[0])
    values = heatmaps.astype(np.float32)
    resized = np.stack([np.asarray(Image.fromarray(value).resize(size, Image.Resampling.BILINEAR)) for value in values])
    return colormaps[COLORMAP](scaled(resized.clip(0), vmax, scale))[..., :3]


def translucent_heatmap(fractions: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 4"]:
    """Return fractions of a color scale as RGBA in 0..1: where the fraction is 0, an image below remains visible."""
    from matplotlib import colormaps

    colors = colormaps[COLORMAP](fractions)
    colors[..., 3] = fractions
    return colors


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
        stderr: Standard errors of its entries, NaN where unknown. They decide how many digits are printed.
        labels: The names of the n rows, which are also those of the columns.
        linkage: A hierarchical clustering of the rows in the format of scipy.
        order: Indices of the rows from top to bottom: the leaves of `linkage`.
        title: The title of the figure.
        colorbar_label: What the values are, with their unit.
    """
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import dendrogram

    side = max(3.2, 0.36 * len(labels))
    figure = Figure(figsize=(side + 3.4, side + 1.6), layout="constrained")
    tree_axes, map_axes = figure.subplots(1, 2, width_ratios=[1, max(3.0, side)])
    dendrogram(linkage, orientation="left", no_labels=True, ax=tree_axes, color_threshold=0, above_threshold_color="0.35")
    tree_axes.invert_yaxis()
    tree_axes.axis("off")
    image = draw_matrix(map_axes, distances, stderr, labels, order)
    map_axes.yaxis.tick_right()
    colorbar = figure.colorbar(image, ax=map_axes, shrink=0.7, location="bottom")
    colorbar.set_label(colorbar_label, fontsize=8)
    colorbar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def draw_matrix(
    axes: Axes,
    distances: Float[np.ndarray, "n n"],
    stderr: Float[np.ndarray, "n n"],
    labels: Sequence[str],
    order: Sequence[int],
) -> AxesImage:
    """Draw a distance matrix as an image, with its entries as numbers unless there are too many.

    Args:
        axes: The axes.
        distances: The matrix.
        stderr: Standard errors of its entries, NaN where unknown. They decide how many digits are printed.
        labels: The names of the n rows, which are also those of the columns.
        order: Indices of the rows from top to bottom.

    Returns:
        The image, for a colorbar.
    """
    ordered, errors = (values[np.ix_(order, order)] for values in (distances, stderr))
    image = axes.imshow(ordered, cmap="viridis_r", aspect="auto")
    names = [quote_and_wrap(labels[i], 24, lines=2) for i in order]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    if len(names) <= MAX_ANNOTATED_LABELS:
        middle = (ordered.max() + ordered.min()) / 2
        for i, j in np.ndindex(ordered.shape):
            color = "white" if ordered[i, j] > middle else "black"
            number = format_value(float(ordered[i, j]), float(errors[i, j]))
            axes.text(j, i, number, ha="center", va="center", fontsize=7, color=color)
    return image

"""Heat maps of values over the positions of an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from conjure.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORMAP = "inferno"  # for heat maps over images: 0 is black
HeatmapScale: TypeAlias = Literal["log", "linear", "step"]
LOG_RANGE = 100.0  # a logarithmic scale ends at this fraction of its largest value; early steps contribute little


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


def draw_color_scale(
    axes: Axes,
    vmax: float,
    scale: HeatmapScale,
    orientation: Literal["vertical", "horizontal"],
    limit: str = "largest\nof the step",
) -> None:
    """Draw the color scale of heat maps.

    Args:
        axes: Narrow axes that the scale fills.
        vmax: The value of the lightest color.
        scale: See `scaled`.
        orientation: The direction of the scale.
        limit: The name of the lightest color where each heat map has its own scale (`step`).
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import NullLocator

    is_log = scale == "log" and vmax > 0
    norm = LogNorm(vmax / LOG_RANGE, vmax) if is_log else Normalize(0, 1 if scale == "step" else vmax)
    colorbar = axes.figure.colorbar(ScalarMappable(norm, COLORMAP), cax=axes, orientation=orientation)
    if is_log:
        colorbar.set_ticks([vmax / LOG_RANGE, vmax], labels=[f"≤ {vmax / LOG_RANGE:.2g}", f"{vmax:.2g}"])
    elif scale == "step":
        colorbar.set_ticks([0, 1], labels=["0", limit])
    else:
        colorbar.set_ticks([0, vmax], labels=["0", f"{vmax:.2g}"])
    colorbar.long_axis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=7)


def translucent_heatmap(fractions: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 4"]:
    """Return fractions of a color scale as RGBA in 0..1: where the fraction is 0, an image below remains visible."""
    from matplotlib import colormaps

    colors = colormaps[COLORMAP](fractions)
    colors[..., 3] = fractions
    return colors

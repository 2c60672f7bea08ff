"""Charts: lines with error bars, and labelled points of a plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from conjure.io.text import quote_and_wrap
from conjure.plotting.output import figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_CHART_SIZE = (7.2, 3.8)  # inches
MAX_TICKS = 25  # more values have a label at every second tick, or at fewer


def line_chart(
    values: Sequence[str], series: Mapping[str, Sequence[tuple[float, float, float]]], x_label: str, y_label: str
) -> bytes:
    """Return a chart of one or more series with error bars as PNG.

    Args:
        values: The settings on the x axis, which runs in their order. Where one of them is not a number, they are evenly spaced
            and not joined by lines.
        series: For each name of the legend the mean, the lower end and the upper end of its interval at each of `values`.
        x_label: The name of the x axis.
        y_label: The name of the y axis.
    """
    from matplotlib.figure import Figure

    try:
        positions, style = [float(value) for value in values], "o-"
    except ValueError:
        positions, style = list(map(float, range(len(values)))), "o"
    figure = Figure(figsize=LINE_CHART_SIZE, layout="constrained")
    axes = figure.subplots()
    for name, points in series.items():
        mean, low, high = np.array(points).T
        axes.errorbar(positions, mean, [mean - low, high - mean], fmt=style, markersize=4, capsize=2, linewidth=1.2, label=name)
    shown = slice(None, None, math.ceil(len(values) / MAX_TICKS))
    axes.set_xticks(positions[shown], values[shown])
    if positions[0] > positions[-1]:
        axes.invert_xaxis()
    if max(map(len, values)) > 5:
        axes.tick_params("x", labelrotation=60)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return figure_bytes(figure, "png", is_cropped=False)


def scatter_plot(points: Float[np.ndarray, "n 2"], labels: Sequence[str], groups: Sequence[int], title: str) -> Figure:
    """Return a chart of labelled points with equal scales on both axes.

    Args:
        points: Coordinates of the n points.
        labels: The name of each point.
        groups: The number of the group of each point; each group has its own color.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    colors = [f"C{group}" for group in groups]
    axes.scatter(points[:, 0], points[:, 1], s=26, c=colors)
    for label, point, color in zip(labels, points, colors, strict=True):
        name = quote_and_wrap(label, 28, lines=2)
        axes.annotate(name, point, (5, 3), textcoords="offset points", fontsize=8, color=color, parse_math=False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.18)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, parse_math=False)
    return figure

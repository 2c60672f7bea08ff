"""Labelled points of a plane, whose labels do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from conjure.io.text import printable, quote_and_wrap, shorten
from conjure.plotting.output import root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's bright scheme, which people with color vision deficiencies can distinguish
COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#bbbbbb")
MARKERS = "osD^vPX"
UNGROUPED = "0.5"  # gray
MAX_LEGEND_WIDTH = 34  # characters
POINT_SIZE = 5  # pixels around the center of a point that labels leave free
SMALLEST_WIDTH = 6.4  # inches
LINE_AREA = 0.075 * 0.15  # of a character, in square inches
LABEL_FRACTION = 0.09  # of the figure that labels may fill; with more, there is not always a place for each
PLACEMENT_STEPS = 400  # of adjustText; a limit of time would give another figure on a slower machine


def scatter_plot(points: Float[np.ndarray, "n 2"], labels: Sequence[str], groups: Sequence[int | None], title: str) -> Figure:
    """Return a chart of labelled points with equal scales on both axes. Labels are moved so that they do not overlap.

    Args:
        points: Coordinates of the n points.
        labels: The name of each point.
        groups: The number of the group of each point, None for no group. With at least two groups, each has its own color and
            marker, and a legend names it by its number and its first points.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure

    names = [quote_and_wrap(label, 22, lines=3) for label in labels]
    label_area = sum(LINE_AREA * sum(map(len, name.splitlines())) for name in names)
    width = max(SMALLEST_WIDTH, (label_area / LABEL_FRACTION) ** 0.5)
    figure = Figure(figsize=(width, 0.875 * width), layout="constrained")
    axes = figure.subplots()
    numbers = sorted({group for group in groups if group is not None})
    styles = {number: (COLORS[i % len(COLORS)], MARKERS[i // len(COLORS) % len(MARKERS)]) for i, number in enumerate(numbers)}
    for group in dict.fromkeys(groups):
        members = [i for i, other in enumerate(groups) if other == group]
        color, marker = (UNGROUPED, "o") if group is None else styles[group]
        name = "no group" if group is None else f"{group + 1}: {_first_texts([labels[i] for i in members])}"
        axes.scatter(points[members, 0], points[members, 1], s=26, c=color, marker=marker, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.16)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, parse_math=False)
    if len(numbers) > 1:
        legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    _place_labels(axes, points, names)
    return figure


def _first_texts(texts: Sequence[str]) -> str:
    """Return as many of the texts as fit into one entry of the legend; at least the beginning of the first one."""
    shown = shorten(printable(texts[0]), MAX_LEGEND_WIDTH)
    for text in texts[1:]:
        if len(shown) + len(text) + 2 > MAX_LEGEND_WIDTH:
            return f"{shown.removesuffix(' …')}, …"
        shown += f", {printable(text)}"
    return shown


def _place_labels(axes: Axes, points: Float[np.ndarray, "n 2"], names: Sequence[str]) -> None:
    """Write the names beside their points, and join those that are far from their points with a thin line."""
    from adjustText import adjust_text
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    texts = [axes.text(point[0], point[1], name, fontsize=8, parse_math=False) for point, name in zip(points, names, strict=True)]
    for text in texts:
        text.set_path_effects([withStroke(linewidth=2.5, foreground=axes.get_facecolor())])  # covers lines to other points
        text.set_in_layout(False)  # otherwise the axes have another size when labels are placed than when they are drawn
    root_figure(axes).draw_without_rendering()
    to_data = axes.transData.inverted()
    obstacles = [
        Bbox(to_data.transform([center - POINT_SIZE, center + POINT_SIZE])) for center in axes.transData.transform(points)
    ]
    adjust_text(
        texts,
        ax=axes,  # otherwise the current axes of pyplot, of which there are none
        objects=obstacles,
        avoid_self=False,
        iter_lim=PLACEMENT_STEPS,
        prevent_crossings=False,  # it swaps labels and so moves some out of the axes
        force_text=(0.3, 0.5),
        force_static=(0.3, 0.5),
        max_move=(30, 30),
        expand=(1.08, 1.25),
        arrowprops={"arrowstyle": "-", "color": UNGROUPED, "linewidth": 0.6},
    )

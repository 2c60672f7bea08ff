"""The scatter plot of distances against human ratings: as an SVG figure of a page, and on axes of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from conjure.divergence.divergences import DivergenceConfig
from conjure.evaluation.error_analysis import largest_residuals, main_kind
from conjure.evaluation.pair_files import Pairs
from conjure.io.templating import render
from conjure.io.text import shorten
from conjure.plotting.output import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Distances = Float[np.ndarray, "pairs samples"]

WIDTH, HEIGHT = 480, 340  # pixels of the SVG figure, which is scaled to the width of the page
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46  # its margins
LABEL_WIDTH, LABEL_HEIGHT, LABEL_DISTANCE = 36, 13, 8  # pixels
NUM_LABELS = 3  # labelled pairs in either direction
MAX_DESCRIBED = 1500  # with more pairs, only labelled points have a description, so that the page stays small


@dataclass(frozen=True)
class Point:
    """A pair in the figure.

    Attributes:
        x: Horizontal position in pixels.
        y: Vertical position in pixels.
        group: Index of its group.
        label_y: Vertical position of the label in pixels.
        label: `+1` for the pair whose similarity is overestimated most, `-1` for the opposite, empty for most pairs.
        description: Its texts with their distance and rating, or an empty text.
    """

    x: float
    y: float
    group: int
    label_y: float
    label: str
    description: str


def outliers(pairs: Pairs, distances: Distances, number: int = NUM_LABELS) -> dict[int, str]:
    """Return the labels of the pairs whose similarity is over- and underestimated most, by their index.

    Args:
        pairs: The pairs.
        distances: Distance of each pair in each sample.
        number: Largest number of pairs in either direction.
    """
    over, under = largest_residuals(distances, pairs.scores, number)
    signed = (("+", over), ("-", under))
    return {index: f"{sign}{place}" for sign, indices in signed for place, index in enumerate(indices, 1)}


def scatter_svg(pairs: Pairs, distances: Distances, config: DivergenceConfig) -> str:
    """Return the scatter plot of a task as HTML with an SVG figure, whose colors follow those of the page.

    Args:
        pairs: The pairs.
        distances: Distance of each pair in each sample.
        config: The divergence that the distances are.
    """
    kind, groups, group_of_pair = main_kind(pairs)
    means = distances.mean(1)
    (x_ticks, x), (y_ticks, y) = _axis(pairs.scores, LEFT, WIDTH - RIGHT), _axis(means, HEIGHT - BOTTOM, TOP)
    labels = outliers(pairs, distances)
    label_y = _label_positions({i: (float(x[i]), float(y[i])) for i in labels})
    points = [
        Point(
            round(float(x[i]), 1), round(float(y[i]), 1), groups.index(group), label_y.get(i, 0.0), labels.get(i, ""),
            _description(pairs, i, means[i]) if i in labels or len(pairs) <= MAX_DESCRIBED else "",
        )
        for i, group in enumerate(group_of_pair)
    ]  # fmt: skip
    points.sort(key=lambda point: point.label != "")  # labelled points are drawn over the others
    return render(
        "conjure.evaluation", "scatter.html", kind=kind, groups=groups, points=points, x_ticks=x_ticks, y_ticks=y_ticks,
        unit=config.unit_label, divergence=config.divergence,
        width=WIDTH, height=HEIGHT, left=LEFT, right=WIDTH - RIGHT, top=TOP, bottom=HEIGHT - BOTTOM,
    )  # fmt: skip


def _description(pairs: Pairs, index: int, distance: float) -> str:
    first, second = (shorten(text, 60) for text in pairs.texts[index])
    return f"“{first}” and “{second}”: distance {distance:.4g}, rating {pairs.scores[index]:g}"


def _label_positions(points: Mapping[int, tuple[float, float]]) -> dict[int, float]:
    """Return the vertical positions of labels on the right of points, such that no label covers another label or point.

    Args:
        points: The horizontal and vertical positions of the points.
    """
    placed: dict[int, float] = {}
    for index, (x, y) in sorted(points.items(), key=lambda item: item[1][1]):
        labels = [at for other, at in placed.items() if abs(points[other][0] - x) < LABEL_WIDTH]
        covered = [at for left, at in points.values() if LABEL_DISTANCE / 2 < left - x < LABEL_WIDTH]
        while any(abs(at - y) < LABEL_HEIGHT for at in labels + covered):
            y += 1
        placed[index] = round(y, 1)
    return placed


def _axis(values: Float[np.ndarray, " n"], start: float, end: float) -> tuple[list[tuple[float, str]], Float[np.ndarray, " n"]]:
    """Return the ticks of an axis with their positions, and the positions of values.

    Args:
        values: The values.
        start: The position of the first tick.
        end: The position of the last tick.
    """
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(values.min(), values.max())
    low, high = ticks[0], ticks[-1]
    positions = start + (np.array([*ticks, *values]) - low) / (high - low) * (end - start)
    count = len(ticks)
    return [(round(float(at), 1), f"{tick:g}") for at, tick in zip(positions[:count], ticks, strict=True)], positions[count:]


def plot_pairs(pairs: Pairs, distances: Distances, config: DivergenceConfig, axes: Axes | None = None) -> Axes:
    """Draw the scatter plot of a task on axes of matplotlib, one color per kind of pair.

    Args:
        pairs: The pairs.
        distances: Distance of each pair in each sample.
        config: The divergence that the distances are.
        axes: The axes; None makes a new figure.
    """
    axes = axes_or_new(axes)
    kind, groups, group_of_pair = main_kind(pairs)
    means = distances.mean(1)
    for group in groups:
        mask = np.array([name == group for name in group_of_pair])
        axes.scatter(pairs.scores[mask], means[mask], s=14, alpha=0.7, label=group)
    for index, label in outliers(pairs, distances).items():
        axes.annotate(label, (pairs.scores[index], means[index]), (4, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="human rating", ylabel=f"{config.divergence}, {config.unit_label}")
    if len(groups) > 1:
        axes.legend(title=kind, fontsize=8, title_fontsize=8)
    return axes

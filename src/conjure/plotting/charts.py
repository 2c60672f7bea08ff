"""Charts: lines and bars with error bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjure.io.formatting import format_timesteps
from conjure.io.text import wrap
from conjure.plotting.output import axes_or_new, figure_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_COLOR = "#7a8ca3"
ERROR_BARS: dict[str, Any] = {"capsize": 2, "ecolor": "0.4", "error_kw": {"linewidth": 0.8}}
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

    figure = Figure(figsize=LINE_CHART_SIZE, layout="constrained")
    draw_lines(figure.subplots(), values, series, x_label, y_label)
    return figure_bytes(figure, "png", is_cropped=False)


def draw_lines(
    axes: Axes | None,
    values: Sequence[str],
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    x_label: str,
    y_label: str,
) -> Axes:
    """Draw one or more series with error bars and return the axes. See `line_chart` for the arguments.

    Args:
        axes: The axes; None makes a new figure.
        values: As in `line_chart`.
        series: As in `line_chart`.
        x_label: As in `line_chart`.
        y_label: As in `line_chart`.
    """
    try:
        positions, style = [float(value) for value in values], "o-"
    except ValueError:
        positions, style = list(map(float, range(len(values)))), "o"
    axes = axes_or_new(axes)
    for name, points in series.items():
        mean, low, high = np.array(points).T
        axes.errorbar(
            positions, mean, error_lengths(mean, low, high), fmt=style, markersize=4, capsize=2, linewidth=1.2, label=name
        )
    shown = slice(None, None, math.ceil(len(values) / MAX_TICKS))
    axes.set_xticks(positions[shown], values[shown])
    if positions[0] > positions[-1]:
        axes.invert_xaxis()
    if max(map(len, values)) > 5:
        axes.tick_params("x", labelrotation=60)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def step_bars(
    axes: Axes | None, timesteps: Sequence[float], values: Sequence[float], ci95: Sequence[tuple[float, float]], y_label: str
) -> Axes:
    """Draw one bar per denoising step and return the axes.

    Args:
        axes: The axes; None makes a new figure.
        timesteps: The timestep of each step, which labels it.
        values: The height of each bar.
        ci95: Its 95% interval; NaN where unknown.
        y_label: The name of the y axis.
    """
    axes = axes_or_new(axes)
    steps, (low, high) = np.arange(len(timesteps)), np.array(ci95).T
    errors = None if np.isnan(low).any() else error_lengths(np.array(values), low, high)
    axes.bar(steps, values, color=BAR_COLOR, yerr=errors, **ERROR_BARS)
    ticks = steps[:: max(1, len(steps) // 12)]
    labels = format_timesteps(timesteps)
    axes.set_xticks(ticks, [labels[step] for step in ticks], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params("y", labelsize=7)
    axes.set_xlabel("timestep", fontsize=7)
    axes.set_ylabel(y_label, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def error_lengths(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Return the lengths of the lower and upper parts of error bars. Rounding can put an end on the wrong side of its value."""
    return [np.maximum(values - low, 0), np.maximum(high - values, 0)]


def draw_points(axes: Axes | None, names: Sequence[str], values: Sequence[tuple[float, float, float]], x_label: str) -> Axes:
    """Draw one point with its error bar per name, from top to bottom, and return the axes.

    Args:
        axes: The axes; None makes a new figure.
        names: The names, beside the vertical axis.
        values: The value of each name, and the lower and the upper end of its interval, which are NaN where unknown.
        x_label: What the values are, with their unit.
    """
    axes = axes_or_new(axes)
    mean, low, high = np.array(values).T
    errors = None if np.isnan(low).any() else error_lengths(mean, low, high)
    axes.errorbar(mean, range(len(names)), xerr=errors, fmt="o", markersize=4, capsize=2, linewidth=1.2, color=BAR_COLOR)
    labels = [wrap(name, 34, lines=2) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    axes.grid(axis="x", alpha=0.3)
    return axes

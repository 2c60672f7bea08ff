"""Figures of matrices print equal decimals where they are legible; labels of maps do not overlap."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from conjure.plotting.matrices import clustered_heatmap, draw_matrix, text_color
from conjure.plotting.scatter import scatter_plot
from conjure.similarity.matrix_analysis import average_linkage

LONG = "a text of up to sixty characters, which needs two lines, no {}"


def random_matrix(n: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(0).uniform(0.5, 300, (n, n))
    distances = (values + values.T) * (1 - np.eye(n))
    return distances, 0.05 * distances


def figure_of(n: int, stderr: np.ndarray | None = None) -> Figure:
    distances, errors = random_matrix(n)
    return clustered_heatmap(
        distances, errors if stderr is None else stderr, [LONG.format(i) for i in range(n)], average_linkage(distances),
        list(range(n)), title="a", colorbar_label="b",
    )  # fmt: skip


def numbers_of(figure: Figure) -> list[Any]:
    return list(figure.axes[1].texts)


@pytest.mark.parametrize(("n", "has_errors"), [(3, True), (20, True), (40, False)])
def test_numbers_have_equal_decimals_and_fit_into_their_cells(n, has_errors):
    figure = figure_of(n)
    texts = numbers_of(figure)
    assert len(texts) == n * (n - 1) * (1 + has_errors)
    assert {re.fullmatch(r"±?\d+(\.\d*)?", text.get_text()) is not None for text in texts} == {True}
    assert len({text.get_text().partition(".")[2].__len__() for text in texts}) == 1
    figure.draw_without_rendering()
    cell = figure.axes[1].get_window_extent()
    for text in texts[:: max(1, len(texts) // 50)]:
        box = text.get_window_extent()
        assert box.width < cell.width / n
        assert box.height < cell.height / n
        assert text.get_fontsize() >= 5
    assert "standard error" in figure.axes[-1].get_xlabel() or not has_errors
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert ("\n" in names[0]) == (n <= 20)
    assert all(len(line) <= 34 + 3 for line in names[0].splitlines())


def test_unknown_errors_and_numbers_that_are_illegible_are_left_out():
    texts = numbers_of(figure_of(3, np.full((3, 3), np.nan)))
    assert len(texts) == 6
    assert not any("±" in text.get_text() for text in texts)
    axes = Figure(figsize=(4, 4)).subplots()
    distances, errors = random_matrix(60)
    draw_matrix(axes, distances, errors, [str(i) for i in range(60)], list(range(60)))
    assert not axes.texts


def test_text_has_contrast():
    colors = np.array([[0, 0, 0], [1, 1, 1], [0.99, 0.91, 0.14], [0.27, 0.0, 0.33]])
    assert [text_color(color) for color in colors] == ["white", "black", "black", "white"]


@pytest.mark.parametrize("labels", [[f"word{i}" for i in range(40)], [LONG.format(i) for i in range(12)]])
def test_labels_of_maps_do_not_overlap(labels):
    points = np.random.default_rng(1).normal(size=(len(labels), 2))
    points[: len(points) // 2] *= 0.3  # crowded
    figure = scatter_plot(points, labels, [i % 4 for i in range(len(labels))], "title")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert len(axes.texts) == len(labels)
    boxes, inside = [text.get_window_extent() for text in axes.texts], axes.get_window_extent()
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    margins = [min(box.x0 - inside.x0, inside.x1 - box.x1, box.y0 - inside.y0, inside.y1 - box.y1) for box in boxes]
    assert min(margins) > -2  # pixels


def test_legend_of_groups():
    points = np.arange(14.0).reshape(7, 2)
    labels = ["cat", "dog", "a $long$ text that does not fit into the legend", "car", "bus", "sun", "moon"]
    figure = scatter_plot(points, labels, [0, 0, 1, 1, 1, None, None], "title")
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "1: cat, dog", "2: a $long$ text that does not fit in, …", "no group",
    ]  # fmt: skip
    colors = [np.asarray(collection.get_facecolor())[0] for collection in axes.collections]
    assert len(np.unique(colors, axis=0)) == 3
    (single,) = scatter_plot(points, labels, [0] * 7, "title").axes
    assert single.get_legend() is None

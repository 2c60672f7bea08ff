"""Plotting: images keep their pixels, sheets stay below the limits of WebP, paths are checked before any computation."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from conjure import InputError
from conjure.io.files import check_output
from conjure.plotting.charts import line_chart
from conjure.plotting.heatmaps import colorize_heatmap, draw_color_scale, heatmap_limits, scaled, translucent_heatmap
from conjure.plotting.images import MAX_SHEET_WIDTH, TILE_GAP, contact_sheet, encode_image, mosaic, tile_images
from conjure.plotting.output import EMBEDDING_SUFFIXES, FIGURE_SUFFIXES, figure_bytes


def test_wide_sheets_are_reduced():
    """WebP allows at most 16,383 pixels per side."""
    sheet = mosaic(np.random.default_rng(0).random((3, 120, 60, 300, 3), dtype=np.float32))
    assert sheet.shape[1] <= MAX_SHEET_WIDTH
    assert encode_image(sheet).startswith("data:image/webp")
    assert mosaic(np.ones((2, 5, 8, 8, 4))).shape == (16, 40, 4)


def test_mosaic_keeps_pixels_in_their_place():
    images = np.random.default_rng(0).random((2, 3, 4, 5, 3))
    sheet = mosaic(images)
    np.testing.assert_allclose(sheet[4:8, 5:10] / 255, images[1, 1], atol=0.5 / 255)
    uri = encode_image(sheet)
    assert uri.startswith("data:image/png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))), sheet)


def test_tiles_have_a_frame_and_a_gap():
    images = np.random.default_rng(0).random((2, 4, 5, 3))
    tiles = tile_images(images)
    margin = TILE_GAP // 2
    assert tiles.shape == (4 + TILE_GAP, 2 * (5 + TILE_GAP), 3)
    np.testing.assert_array_equal(tiles[margin:-margin, 5 + TILE_GAP + margin : -margin], images[1])
    assert tiles[margin - 1, margin, 0] == 0.8
    assert (tiles[0] == 1).all()


def test_color_limits_are_the_largest_contributions():
    first, second = np.array([[[1.0, 2.0]], [[3.0, 0.0]]]), np.array([[[0.0, 2.5]], [[0.0, 2.5]]])
    assert heatmap_limits([first, second]) == (3.0, 5.0)
    assert heatmap_limits([]) == (0.0, 0.0)
    full, half = (colorize_heatmap(first, (2, 4), vmax) for vmax in (3.0, 6.0))
    assert full.shape == (2, 2, 4, 3)
    assert full.sum() > half.sum()
    assert colorize_heatmap(first * 0, (2, 4), 0.0).max() < 0.05


def test_scales_of_heatmaps():
    heatmaps = np.array([[[0.0, 0.01]], [[1.0, 10.0]], [[0.0, 0.0]]])
    logarithmic, linear = np.array([[[0, 0]], [[0.5, 1]], [[0, 0]]]), np.array([[[0, 1]], [[0.1, 1]], [[0, 0]]])
    np.testing.assert_allclose(scaled(heatmaps, 10.0, "log"), logarithmic, atol=1e-12)
    np.testing.assert_allclose(scaled(heatmaps, 10.0, "step"), linear)
    np.testing.assert_allclose(scaled(heatmaps, 20.0, "linear"), heatmaps / 20)
    np.testing.assert_array_equal(translucent_heatmap(np.array([0.0, 0.25, 1.0]))[:, 3], [0, 0.25, 1])


@pytest.mark.parametrize(
    ("scale", "labels"), [("log", ["≤ 0.1", "10"]), ("linear", ["0", "10"]), ("step", ["0", "largest of the text"])]
)
def test_color_scales_have_their_ends_as_labels(scale, labels):
    axes = Figure().subplots()
    draw_color_scale(axes, 10.0, scale, "horizontal", "largest of the text")
    assert [label.get_text() for label in axes.get_xticklabels()] == labels


def test_charts_are_png():
    series = {"STS-B": [(1.0, 0.5, 1.5), (2.0, 1.5, 2.5)]}
    images = [[np.zeros((4, 4, 3)), np.ones((6, 4, 3))]]
    for content in (
        line_chart(["1", "2"], series, "steps", "Spearman x100"),
        line_chart(["lms", "dpmsolvermultistep"], series, "scheduler", "Spearman x100"),
        contact_sheet(images, rows=["first run"], columns=["a", "b"]),
        contact_sheet(images, rows=["first run"], columns=["a", "b"], heatmap_limit="largest of the text"),
    ):
        assert content.startswith(b"\x89PNG")


def test_line_charts_have_one_size_and_run_in_the_order_of_the_values(monkeypatch):
    figures = []

    def keep(figure: Figure, *arguments: Any, **options: Any) -> bytes:
        figures.append(figure)
        return figure_bytes(figure, *arguments, **options)

    monkeypatch.setattr("conjure.plotting.charts.figure_bytes", keep)
    sizes = set()
    for values in (["1", "2"], ["999", "500", "1"], ["lms", "dpmsolvermultistep"], [str(999 - step) for step in range(50)]):
        content = line_chart(values, {"STS-B": [(1.0, 0.5, 1.5)] * len(values)}, "steps", "Spearman x100")
        sizes.add(Image.open(io.BytesIO(content)).size)
    assert len(sizes) == 1
    assert [figure.axes[0].xaxis_inverted() for figure in figures] == [False, True, False, True]
    assert len(figures[-1].axes[0].get_xticks()) <= 25


def test_paths_are_checked(tmp_path):
    assert check_output(tmp_path / "figure.PNG", FIGURE_SUFFIXES, "figure") == tmp_path / "figure.PNG"
    assert not (tmp_path / "figure.PNG").exists()
    for path, message in (
        (tmp_path / "figure.gif", r"ends with '.gif'; allowed are .png, .svg, .pdf, .html"),
        (tmp_path / "missing" / "figure.png", "a folder that does not exist"),
        (tmp_path, "ends with ''"),
    ):
        with pytest.raises(InputError, match=message):
            check_output(path, FIGURE_SUFFIXES, "figure")
    with pytest.raises(InputError, match="allowed are .png, .svg, .pdf$"):
        check_output("figure.html", EMBEDDING_SUFFIXES, "figure")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="is not a regular file"):
        check_output(tmp_path / "pipe.png", FIGURE_SUFFIXES, "figure")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "folder.png", FIGURE_SUFFIXES, "figure")


def test_links_to_new_files_are_kept(tmp_path):
    (tmp_path / "link.png").symlink_to("figure.png")
    assert check_output(tmp_path / "link.png", FIGURE_SUFFIXES, "figure") == tmp_path / "link.png"
    assert [path.name for path in tmp_path.iterdir()] == ["link.png"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which not even root can create files")
def test_paths_that_cannot_be_written():
    with pytest.raises(InputError, match="cannot be written"):
        check_output("/proc/figure.png", FIGURE_SUFFIXES, "figure")

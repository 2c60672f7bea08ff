"""Many images in one: contact sheets, rows of tiles, and sprite sheets for HTML pages."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from conjure.io.documents import data_uri
from conjure.plotting.heatmaps import draw_color_scale
from conjure.plotting.output import figure_bytes

TILE_GAP = 6  # pixels between two tiles, their frames included
MAX_IMAGE_SIDE = 320  # pixels of the longer side of an image on an HTML page
MAX_SHEET_WIDTH = 16_000  # pixels; WebP allows 16,383
MAX_PNG_VALUES = 3_000_000  # larger images are encoded as WebP


def contact_sheet(
    images: Sequence[Sequence[Float[np.ndarray, "_ _ 3"]]],
    rows: Sequence[str],
    columns: Sequence[str],
    file_format: str = "png",
    heatmap_limit: str | None = None,
) -> bytes:
    """Return a grid of images with titles.

    Args:
        images: One sequence of RGB images in 0..1 for each row of the grid. Images may differ in shape.
        rows: The names of the rows.
        columns: The titles of the columns.
        file_format: A file format of matplotlib.
        heatmap_limit: If the last column has heat maps, each with its own linear scale from 0: what their lightest color stands
            for. The scale is then drawn below the column.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(columns) + 0.6, 2 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row_axes, row_images, row_name in zip(grid, images, rows, strict=True):
        for axes, image, title in zip(row_axes, row_images, columns, strict=True):
            axes.imshow(image.clip(0, 1), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row_name == rows[0]:
                axes.set_title(title, fontsize=8, parse_math=False)
        row_axes[0].set_ylabel(row_name, fontsize=8, parse_math=False)
    if heatmap_limit is not None:
        bar = grid[-1, -1].inset_axes((0, -0.1, 1, 0.05))
        draw_color_scale(bar, 1.0, "step", "horizontal", heatmap_limit)
    return figure_bytes(figure, file_format)


def tile_images(images: Float[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "tile_height total_width 3"]:
    """Return n images side by side, each in a thin gray frame, with a gap of `TILE_GAP` pixels between two images."""
    for pixels, gray in ((1, 0.8), (TILE_GAP // 2 - 1, 1.0)):
        border = (pixels, pixels)
        images = np.pad(images, ((0, 0), border, border, (0, 0)), constant_values=gray)
    return np.concatenate(images, axis=1)


def mosaic(
    sheet: Float[np.ndarray, "rows columns height width channels"], largest: int = MAX_IMAGE_SIDE
) -> UInt8[np.ndarray, "sheet_height sheet_width channels"]:
    """Return a grid of images as one image, without gaps.

    Args:
        sheet: Images in 0..1.
        largest: Images with a longer side are reduced to this number of pixels, or further if the sheet is too wide for WebP.

    Returns:
        Values in 0..255.
    """
    from PIL import Image

    rows, columns, height, width = sheet.shape[:4]
    scale = min(largest / max(height, width), MAX_SHEET_WIDTH / (columns * width), 1)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    pixels = (sheet.clip(0, 1) * 255).round().astype(np.uint8).reshape(rows * columns, height, width, -1)
    if scale < 1:
        pixels = np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in pixels])
    pixels = pixels.reshape(rows, columns, size[1], size[0], -1).transpose(0, 2, 1, 3, 4)
    return pixels.reshape(rows * size[1], columns * size[0], -1)


def encode_image(pixels: UInt8[np.ndarray, "height width channels"]) -> str:
    """Return an image as a data URI: small images losslessly as PNG, large ones as WebP."""
    from PIL import Image

    image_format = "png" if pixels.size < MAX_PNG_VALUES else "webp"
    options = {} if image_format == "png" else {"quality": 88}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return data_uri(buffer.getvalue(), image_format)

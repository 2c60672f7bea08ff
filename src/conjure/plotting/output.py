"""Formats of figures, and figures as bytes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_SUFFIXES = (".png", ".svg", ".pdf", ".html")
EMBEDDING_SUFFIXES = (".png", ".svg", ".pdf")


def axes_or_new(axes: Axes | None) -> Axes:
    """Return axes of matplotlib: the given ones, or those of a new figure.

    The new figure belongs to no graphical interface, so nothing has to be closed. Its file is written by `axes.figure.savefig`.

    Args:
        axes: The axes, or None.
    """
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.8), layout="constrained").subplots()


def root_figure(axes: Axes) -> Figure:
    """Return the figure that contains the axes, directly or in a part of it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def figure_bytes(figure: Figure, file_format: str, *, is_cropped: bool = True) -> bytes:
    """Return the content of a file that holds a figure.

    Args:
        figure: The figure.
        file_format: A file format of matplotlib, such as `png`, `svg` or `pdf`.
        is_cropped: Whether empty margins are cut off. Without it, figures of the same size give images of the same size.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # texts may have characters that the font lacks
        figure.savefig(buffer, format=file_format, dpi=150, bbox_inches="tight" if is_cropped else None, pad_inches=0.08)
    return buffer.getvalue()

"""Output files of figures: which paths are allowed, and figures as bytes."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conjure.errors import InputError
from conjure.io.files import check_regular_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_SUFFIXES = (".png", ".svg", ".pdf", ".html")
EMBEDDING_SUFFIXES = (".png", ".svg", ".pdf")


def check_path(path: str | Path, suffixes: Sequence[str] = FIGURE_SUFFIXES, what: str = "figure") -> Path:
    """Return `path` if a figure can be written to it. Call this before any long computation.

    Args:
        path: Name of the output file.
        suffixes: Allowed endings of the name, in lower case.
        what: What is written to it, for error messages.

    Raises:
        InputError: The suffix is not allowed, the folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{what} {str(path)!r} ends with {path.suffix!r}; allowed are {', '.join(suffixes)}")
    try:
        if path.is_dir() or not path.parent.is_dir():
            problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist, {str(path.parent)!r}"
            raise InputError(f"{what} {str(path)!r} {problem}; name a file in an existing folder")
        check_regular_output(path, f"{what} ")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        is_new = not path.exists()
        path.open("ab").close()
        if is_new:
            path.resolve().unlink()  # a link to a file that does not exist is kept
    except OSError as error:
        raise InputError(f"{what} {str(path)!r} cannot be written: {error.strerror}; name a writable file") from error
    return path


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

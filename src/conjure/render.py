"""Results as pictures, and as HTML pages that need nothing else: the grid of Figure 1, heat maps, contact sheets, lines."""

from __future__ import annotations

import base64
import html
import io
import tempfile
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conjure.errors import InputError
from conjure.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from conjure.estimate import Estimate
    from conjure.explanation import Direction, Explanation
    from conjure.matrices import Matrix

ENDINGS = (".png", ".svg", ".pdf", ".html")


def check_path(path: str | Path) -> Path:
    """`path`, if a figure can be written there; asked before the computing. Errors: `InputError`."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"figure {str(path)!r} ends with {path.suffix!r}; allowed are {', '.join(ENDINGS)}")
    try:
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else f"lies in a folder that does not exist, {str(path.parent)!r}"
            raise InputError(f"figure {str(path)!r} {what}; name a file in an existing folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        fresh = not path.exists()
        path.open("ab").close()
        if fresh:
            path.unlink()
    except OSError as error:
        raise InputError(f"figure {str(path)!r} cannot be written: {error.strerror}; name a file that can") from error
    return path


def save(explanation: Explanation, path: str | Path) -> None:
    """Write `explanation` to `path`, whole or not at all."""
    path = check_path(path)
    kind = path.suffix.lower().removeprefix(".")
    data = page(explanation).encode() if kind == "html" else figure_bytes(explanation, kind)
    write_whole(path, data)


def figure_bytes(explanation: Explanation, kind: str) -> bytes:
    """The grid in matplotlib's file format `kind`."""
    return _bytes(grid(explanation), kind)


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a text may hold what the font does not
        figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


def grid(explanation: Explanation) -> Figure:
    """Figure 1: for both directions the noisy x_t in the middle row, above and below it what either text takes it for."""
    from matplotlib.figure import Figure

    estimate = explanation.estimate
    steps = len(estimate.timesteps)
    figure = Figure(figsize=(0.95 * steps + 2.2, 7.3), layout="constrained")
    figure.suptitle(
        f"{_quoted(estimate.texts[0], 45)}  and  {_quoted(estimate.texts[1], 45)}\n"
        f"{estimate.divergence} {estimate} {estimate.unit}, {len(estimate.samples)} samples",
        fontsize=11,
        parse_math=False,
    )
    for axes, direction in zip(figure.subplots(2, 1), (explanation.forward, explanation.backward), strict=True):
        _block(axes, estimate, direction)
    return figure


def _block(axes: Axes, estimate: Estimate, direction: Direction) -> None:
    """Three rows of pictures as one mosaic, timesteps above the columns, contributions of the shown sample below."""
    rows = [_tiles(pictures) for pictures in (direction.first, direction.noisy, direction.second)]
    axes.imshow(np.concatenate(rows).clip(0, 1), interpolation="nearest")
    high, wide = (side + GAP for side in direction.noisy.shape[1:3])
    columns = wide * (np.arange(len(estimate.timesteps)) + 0.5)
    first, second = (f"x0 for\n{_quoted(text, 20, lines=3)}" for text in estimate.texts)
    names = [first, "noisy x_t", second]
    axes.set_title(f"along the trajectory of {_quoted(direction.text, 90)}", fontsize=9, parse_math=False)
    axes.set_yticks(high * (np.arange(3) + 0.5), names, fontsize=8, parse_math=False)
    axes.set_xticks(columns, [f"{squared:.3g}" for squared in direction.per_step], fontsize=7)
    above = axes.secondary_xaxis("top")
    above.set_xticks(columns, [f"t = {timestep:.0f}" for timestep in estimate.timesteps], fontsize=7)
    for one in (axes, above):
        one.tick_params(length=0)
        one.spines[:].set_visible(False)


GAP = 6  # pixels between pictures, their frames included


def _tiles(pictures: np.ndarray) -> np.ndarray:
    """Pictures (T, height, width, 3) side by side, each in a thin grey frame and with a gap around it."""
    for pixels, shade in ((1, 0.8), (GAP // 2 - 1, 1.0)):
        edge = (pixels, pixels)
        pictures = np.pad(pictures, ((0, 0), edge, edge, (0, 0)), constant_values=shade)
    return np.concatenate(pictures, axis=1)


def _quoted(text: str, width: int, lines: int = 1) -> str:
    """`text` in quotes on at most `lines` lines of about `width` characters, with an ellipsis where it was cut."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    wrapped = textwrap.wrap(f"“{printable}”", width)
    return "\n".join(wrapped if len(wrapped) <= lines else [*wrapped[: lines - 1], wrapped[lines - 1] + " …”"])


def page(explanation: Explanation) -> str:
    """One HTML file: the numbers as text, the grid as a picture in it. Texts are escaped."""
    estimate = explanation.estimate
    first, second = (html.escape(text) for text in estimate.texts)
    picture = base64.b64encode(figure_bytes(explanation, "png")).decode()
    steps = "".join(
        f"<tr><td>{timestep:.0f}</td><td>{ratio:.3g}</td><td>{value:.4g}</td></tr>"
        for timestep, ratio, value in zip(estimate.timesteps, estimate.snr, estimate.per_step, strict=True)
    )
    settings = ", ".join(f"{key} {estimate.process[key]}" for key in ("model", "scheduler", "steps", "guidance"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{first} and {second}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "img{max-width:100%}td,th{padding:.1rem .8rem;text-align:right}</style>"
        f"<h1>“{first}” and “{second}”</h1>{estimate._repr_html_()}<p>{html.escape(settings)}, conjure {estimate.version}</p>"
        f'<img alt="noisy pictures and what either text takes them for, step by step" src="data:image/png;base64,{picture}">'
        f"<table><tr><th>timestep</th><th>signal to noise</th><th>adds</th></tr>{steps}</table></html>\n"
    )


def save_matrix(matrix: Matrix, path: str | Path) -> None:
    """Write the heat map of `matrix` to `path`, whole or not at all."""
    path = check_path(path)
    kind = path.suffix.lower().removeprefix(".")
    write_whole(path, matrix_page(matrix).encode() if kind == "html" else heat_map_bytes(matrix, kind))


def heat_map_bytes(matrix: Matrix, kind: str) -> bytes:
    """The heat map in matplotlib's file format `kind`."""
    return _bytes(heat_map(matrix), kind)


def heat_map(matrix: Matrix) -> Figure:
    """Distances of all texts to all, like ones next to each other, with the tree that they make."""
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import dendrogram

    texts = len(matrix.texts)
    order = list(matrix.order)
    side = max(3.2, 0.36 * texts)
    figure = Figure(figsize=(side + 3.4, side + 1.6), layout="constrained")
    tree, heat = figure.subplots(1, 2, width_ratios=[1, max(3.0, side)])
    dendrogram(matrix.linkage, orientation="left", no_labels=True, ax=tree, color_threshold=0, above_threshold_color="0.35")
    tree.invert_yaxis()
    tree.axis("off")
    shown = matrix.distance[np.ix_(order, order)]
    picture = heat.imshow(shown, cmap="viridis_r", aspect="auto")
    names = [_quoted(matrix.texts[i], 24, lines=2) for i in order]
    heat.set_xticks(range(texts), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False)
    heat.set_yticks(range(texts), names, fontsize=8, parse_math=False)
    heat.yaxis.tick_right()
    if texts <= 16:
        middle = (shown.max() + shown.min()) / 2
        for i, j in np.ndindex(shown.shape):
            shade = "white" if shown[i, j] > middle else "black"
            heat.text(j, i, f"{shown[i, j]:.3g}", ha="center", va="center", fontsize=7, color=shade)
    bar = figure.colorbar(picture, ax=heat, shrink=0.7, location="bottom")
    bar.set_label(f"{matrix.divergence}, {matrix.unit}", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"{matrix.process['model']}, {matrix.samples} samples", fontsize=9, parse_math=False)
    return figure


def matrix_page(matrix: Matrix) -> str:
    """One HTML file: the heat map as a picture, the distances with their errors as a table."""
    from conjure.document import Document, Table

    def cell(i: int, j: int) -> str:
        error = "" if np.isnan(matrix.stderr[i, j]) or i == j else f" ± {matrix.stderr[i, j]:.2g}"
        return f"{matrix.distance[i, j]:.4g}{error}"

    order = matrix.order
    rows = [[matrix.texts[i], *(cell(i, j) for j in order)] for i in order]
    table = Table("Distances and standard errors", ["", *(matrix.texts[i] for i in order)], rows)
    used = matrix.process
    settings = f"{matrix.divergence}, {matrix.unit}; model {used['model']}, {used['scheduler']}, T = {used['steps']}, " \
               f"guidance {used['guidance']}, k = {matrix.samples}, seed {matrix.seed}; conjure {matrix.version}"  # fmt: skip
    return Document("All texts against all", [settings], [table], "", {"Heat map": heat_map_bytes(matrix, "png")}).page()


def contact_sheet(pictures: Sequence[Sequence[np.ndarray]], rows: Sequence[str], columns: Sequence[str]) -> bytes:
    """Rows of `pictures`, each (height, width, 3) in 0..1, with names for `rows` and `columns`, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(columns) + 0.6, 2 * len(rows) + 0.7), layout="constrained")
    for axes, row, name in zip(figure.subplots(len(rows), len(columns), squeeze=False), pictures, rows, strict=True):
        for axis, picture, text in zip(axes, row, columns, strict=True):
            axis.imshow(picture.clip(0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if name == rows[0]:
                axis.set_title(_quoted(text, 28, lines=3), fontsize=8, parse_math=False)
        axes[0].set_ylabel(name, fontsize=8, parse_math=False)
    return _bytes(figure, "png")


def lines(values: Sequence[str], drawn: Mapping[str, Sequence[tuple[float, float, float]]], across: str, up: str) -> bytes:
    """Values by name of what was varied, each (mean, low, high) over `values`, as PNG. Names that are no numbers stand evenly."""
    from matplotlib.figure import Figure

    try:
        places, style = [float(value) for value in values], "o-"
    except ValueError:
        places, style = list(map(float, range(len(values)))), "o"
    figure = Figure(figsize=(max(5.0, 0.38 * len(values) + 2), 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in drawn.items():
        mean, low, high = np.array(points).T
        axes.errorbar(places, mean, [mean - low, high - mean], fmt=style, markersize=4, capsize=2, linewidth=1.2, label=name)
    axes.set_xticks(places, values)
    if max(map(len, values)) > 5:
        axes.tick_params("x", labelrotation=60)
    axes.set(xlabel=across, ylabel=up)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return _bytes(figure, "png")

"""Results as pictures, and as HTML pages that need nothing else: the grid of Figure 1, heat maps, contact sheets, lines."""

from __future__ import annotations

import io
import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjure.digits import counted, rounded
from conjure.errors import InputError
from conjure.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from conjure.attribution import Attribution
    from conjure.estimate import Estimate
    from conjure.explanation import Direction, Explanation
    from conjure.matrices import Matrix

ENDINGS = (".png", ".svg", ".pdf", ".html")
MAP_ENDINGS = (".png", ".svg", ".pdf")


def check_path(path: str | Path, endings: Sequence[str] = ENDINGS) -> Path:
    """`path`, if a figure can be written there; asked before the computing. Errors: `InputError`."""
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise InputError(f"figure {str(path)!r} ends with {path.suffix!r}; allowed are {', '.join(endings)}")
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
    if kind == "html":
        from conjure.viewer import page

        write_whole(path, page(explanation).encode())
    else:
        write_whole(path, figure_bytes(explanation, kind))


def figure_bytes(explanation: Explanation, kind: str) -> bytes:
    """The grid in matplotlib's file format `kind`."""
    return _bytes(grid(explanation), kind)


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a text may hold what the font does not
        figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight", pad_inches=0.08)
    return buffer.getvalue()


COLUMNS = 20  # steps shown at most, evenly from all
HEAT = "inferno"  # the colours of maps: black for nothing


def grid(explanation: Explanation) -> Figure:
    """Figure 1: for both directions the noisy x_t in the middle row, above and below it what either text takes it for.

    Under each block a row of where they differ; below both what the steps add, where the differences add up, the words.
    Pictures, maps and the numbers under them are of the first sample, bars are means over all. Maps share one scale.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    estimate = explanation.estimate
    steps = len(estimate.timesteps)
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, COLUMNS)).round().astype(int))
    words = explanation.words
    low = max(2.3, 0.2 * (len(words.effects) + len(words.texts)) + 0.9) if words else 2.3
    figure = Figure(figsize=(max(0.95 * len(chosen) + 2.2, 10.5), 8.6 + low), layout="constrained")
    figure.suptitle(
        f"{quoted(estimate.texts[0], 45)}  and  {quoted(estimate.texts[1], 45)}\n"
        f"{estimate.divergence} {estimate} {estimate.unit}",
        fontsize=11,
        parse_math=False,
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=[8.6, low])
    above, below = parts
    directions = (explanation.forward, explanation.backward)
    most, most_of_all = scale(directions)
    blocks = above.subplots(2, 1)
    for axes, direction in zip(blocks, directions, strict=True):
        _block(axes, estimate, direction, chosen, most)
    if most:
        bar = above.colorbar(ScalarMappable(Normalize(0, most), HEAT), ax=blocks, shrink=0.3, aspect=25, panchor=False)
        bar.set_label(f"what a place adds at a step,\n{estimate.unit}", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    ratios = {"steps": 2.2, "first": 1.0, "second": 1.0, **({"words": 2.2} if words else {})}
    axes = below.subplot_mosaic([list(ratios)], width_ratios=list(ratios.values()))
    _steps(axes["steps"], estimate)
    for name, direction in zip(("first", "second"), directions, strict=True):
        _places(axes[name], direction, most_of_all)
    if words:
        _words(axes["words"], words)
    return figure


def _block(axes: Axes, estimate: Estimate, direction: Direction, chosen: np.ndarray, most: float) -> None:
    """Rows of pictures as one mosaic, timesteps above the columns, contributions of the shown sample below.

    most: what a place adds that the map shows lightest.
    """
    shown = [direction.first, direction.noisy, direction.second]
    first, second = (f"x0 for\n{quoted(text, 20, lines=3)}" for text in estimate.texts)
    names = [first, "noisy x_t", second]
    if direction.places is not None:
        shown.append(heat(direction.places, direction.noisy.shape[1:3], most))
        names.append("where they differ")
    axes.imshow(np.concatenate([_tiles(pictures[chosen]) for pictures in shown]).clip(0, 1), interpolation="nearest")
    high, wide = (side + GAP for side in direction.noisy.shape[1:3])
    columns = wide * (np.arange(len(chosen)) + 0.5)
    sample = "" if len(estimate.samples) == 1 else f", sample 1 of {len(estimate.samples)}"
    axes.set_title(f"along the trajectory of {quoted(direction.text, 80)}{sample}", fontsize=9, parse_math=False)
    axes.set_yticks(high * (np.arange(len(shown)) + 0.5), names, fontsize=8, parse_math=False)
    axes.set_xticks(columns, [f"{direction.per_step[step]:.3g}" for step in chosen], fontsize=7)
    axes.set_xlabel(f"what each step of this trajectory adds, {estimate.unit}", fontsize=7)
    above = axes.secondary_xaxis("top")
    above.set_xticks(columns, [f"t = {estimate.timesteps[step]:.0f}" for step in chosen], fontsize=7)
    for one in (axes, above):
        one.tick_params(length=0)
        one.spines[:].set_visible(False)


def _steps(axes: Axes, estimate: Estimate) -> None:
    """What each step adds to the distance, as a mean over samples with its 95 % interval."""
    steps = np.arange(len(estimate.timesteps))
    low, high = np.array(estimate.per_step_ci95).T
    known = None if np.isnan(low).any() else [np.array(estimate.per_step) - low, high - np.array(estimate.per_step)]
    axes.bar(steps, estimate.per_step, color="#7a8ca3", yerr=known, capsize=2, error_kw={"linewidth": 0.8})
    shown = steps[:: max(1, len(steps) // 12)]
    axes.set_xticks(shown, [f"{estimate.timesteps[step]:.0f}" for step in shown], fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params("y", labelsize=7)
    mean = f",\nmean of {len(estimate.samples)} samples with 95 % intervals" if known else ""
    axes.set_title(f"when: what each step adds to the distance{mean}", fontsize=8)
    axes.set_xlabel("timestep", fontsize=7)
    axes.set_ylabel(estimate.unit, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _places(axes: Axes, direction: Direction, most: float) -> None:
    """The final picture, and over it where the differences of all steps add up; most: what a place adds that is lightest."""
    axes.imshow(direction.final.clip(0, 1), interpolation="nearest")
    if direction.places is not None:
        high, wide = direction.final.shape[:2]
        summed = direction.places.sum(0)
        axes.imshow(summed, cmap=HEAT, vmax=most, vmin=0, alpha=0.55, interpolation="bilinear", extent=(0, wide, high, 0))
        axes.set_xlabel("all steps, light for most;\none scale for both", fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"where: on the picture of\n{quoted(direction.text, 22, lines=2)}", fontsize=8, parse_math=False)


def _words(axes: Axes, words: Attribution) -> None:
    """What each word does, text by text, with the sign of the table: to the left those that set the texts apart."""
    effects, (first, second) = words.effects, words.texts
    names = [quoted(effect.word, 18) + (f" → {quoted(effect.instead, 18)}" if effect.instead else "") for effect in effects]
    rows = [place + 1 + (effect.text != first) for place, effect in enumerate(effects)]  # below the heading of their text
    heading: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 7, "fontweight": "bold", "va": "center",
                               "bbox": {"facecolor": "white", "linewidth": 0, "pad": 0.5}}  # fmt: skip
    for row, text in ((0, first), (len(words.of(first)) + 1, second)):
        axes.text(0.01, row, f"in {quoted(text, 44)}", parse_math=False, **heading)
    changes = np.array([effect.change for effect in effects])
    low, high = np.array([effect.ci95 for effect in effects]).T
    known = None if np.isnan(low).any() else [changes - low, high - changes]
    colours = np.where(changes < 0, "#b5430f", "#7a8ca3")
    axes.barh(rows, changes, xerr=known, capsize=2, error_kw={"linewidth": 0.8}, color=colours)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(rows, names, fontsize=7, parse_math=False)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.tick_params("x", labelsize=7)
    axes.set_xlabel(words.unit, fontsize=7)
    axes.set_title("words: the change without them (below 0: they set the texts apart)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def scale(directions: Iterable[Direction]) -> tuple[float, float]:
    """What a place adds at most, at one step and in all steps together: what all maps show lightest. Zeros without maps."""
    maps = [direction.places for direction in directions if direction.places is not None]
    return max((places.max() for places in maps), default=0.0), max((places.sum(0).max() for places in maps), default=0.0)


def heat(places: np.ndarray, shape: Sequence[int], most: float) -> np.ndarray:
    """`places` (T, rows, columns), what each adds, in colours: (T, height, width, 3), black for nothing, light for `most`."""
    from matplotlib import colormaps
    from PIL import Image

    size = (shape[1], shape[0])
    shares = (places / (most or 1.0)).astype(np.float32)
    grown = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in shares]
    return colormaps[HEAT](np.stack(grown).clip(0, 1))[..., :3]


GAP = 6  # pixels between pictures, their frames included


def _tiles(pictures: np.ndarray) -> np.ndarray:
    """Pictures (T, height, width, 3) side by side, each in a thin grey frame and with a gap around it."""
    for pixels, shade in ((1, 0.8), (GAP // 2 - 1, 1.0)):
        edge = (pixels, pixels)
        pictures = np.pad(pictures, ((0, 0), edge, edge, (0, 0)), constant_values=shade)
    return np.concatenate(pictures, axis=1)


def printable(text: str) -> str:
    """`text` with a blank for each character that shows nothing, or steers what is shown, such as a null byte."""
    return "".join(character if character.isprintable() else " " for character in text)


def quoted(text: str, width: int, lines: int = 1) -> str:
    """`text` in quotes on at most `lines` lines of about `width` characters, with an ellipsis where it was cut."""
    wrapped = textwrap.wrap(f"“{printable(text)}”", width)
    return "\n".join(wrapped if len(wrapped) <= lines else [*wrapped[: lines - 1], wrapped[lines - 1] + " …”"])


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
    shown, error = (values[np.ix_(order, order)] for values in (matrix.distance, matrix.stderr))
    picture = heat.imshow(shown, cmap="viridis_r", aspect="auto")
    names = [quoted(matrix.texts[i], 24, lines=2) for i in order]
    heat.set_xticks(range(texts), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8, parse_math=False)
    heat.set_yticks(range(texts), names, fontsize=8, parse_math=False)
    heat.yaxis.tick_right()
    if texts <= 16:
        middle = (shown.max() + shown.min()) / 2
        for i, j in np.ndindex(shown.shape):
            shade = "white" if shown[i, j] > middle else "black"
            heat.text(j, i, rounded(float(shown[i, j]), float(error[i, j])), ha="center", va="center", fontsize=7, color=shade)
    bar = figure.colorbar(picture, ax=heat, shrink=0.7, location="bottom")
    bar.set_label(f"{matrix.divergence}, {matrix.unit}", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"{matrix.process['model']}, {counted(matrix.samples, 'sample')}", fontsize=9, parse_math=False)
    return figure


def save_map(matrix: Matrix, path: str | Path, groups: Sequence[Iterable[str]]) -> None:
    """Write the map of `matrix` to `path`, whole or not at all."""
    path = check_path(path, MAP_ENDINGS)
    write_whole(path, _bytes(scatter(matrix, groups), path.suffix.lower().removeprefix(".")))


def scatter(matrix: Matrix, groups: Sequence[Iterable[str]] = ()) -> Figure:
    """The texts as points of a plane, named, each group in a colour of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    of = {text: number for number, group in enumerate(groups) for text in group}
    colours = [f"C{of.get(text, 0)}" for text in matrix.texts]
    points = matrix.map.points
    axes.scatter(points[:, 0], points[:, 1], s=26, c=colours)
    for text, point, colour in zip(matrix.texts, points, colours, strict=True):
        axes.annotate(
            quoted(text, 28, lines=2), point, (5, 3), textcoords="offset points", fontsize=8, color=colour, parse_math=False
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.18)
    axes.set(xticks=[], yticks=[])
    axes.set_title(
        f"{matrix.process['model']}, {matrix.divergence}; the plane shows {matrix.map.share:.0%} of the spread",
        fontsize=9,
        parse_math=False,
    )
    return figure


def matrix_page(matrix: Matrix) -> str:
    """One HTML file: the heat map as a picture, the distances with their errors as a table."""
    from conjure.document import Document, Table

    order = matrix.order
    rows = [[matrix.texts[i], *(matrix.cell(i, j) for j in order)] for i in order]
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
                axis.set_title(quoted(text, 28, lines=3), fontsize=8, parse_math=False)
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

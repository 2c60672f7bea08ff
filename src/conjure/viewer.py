"""An explanation as one HTML page that needs no network: sliders over steps and samples, where they differ, when, which words."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from conjure.digits import between, counted, rounded
from conjure.document import Table, picture_address
from conjure.explanation import Direction, Explanation
from conjure.render import HEAT, printable, scale

LARGEST = 320  # pixels a side that a picture of the page has at most
WIDEST = 16_000  # pixels that a sheet of them has at most, which WebP needs


def page(explanation: Explanation) -> str:
    """The page. Texts are data: they are escaped, or set as text by its script."""
    estimate = explanation.estimate
    first, second = (html.escape(printable(text)) for text in estimate.texts)
    there, back = (rounded(value, estimate.stderr) for value in (estimate.forward, estimate.backward))
    most, most_of_all = scale(side for one in explanation.shown for side in (one.forward, one.backward))
    steps = _steps(explanation)
    used = estimate.process
    settings = ", ".join(f"{key} {used[key]}" for key in ("model", "scheduler", "steps", "guidance"))
    known = len(estimate.samples) > 1
    high, wide = explanation.forward.final.shape[:2]
    data = {
        "texts": [printable(text) for text in estimate.texts],
        "timesteps": estimate.timesteps,
        "per_step": estimate.per_step,
        "adds": [adds for _, _, adds, _ in steps.rows],
        "ci95": estimate.per_step_ci95 if known else None,
        "unit": estimate.unit,
        "samples": len(estimate.samples),
        "shape": f"{wide} / {high}",
        "shown": [[_sheets(side, most, most_of_all) for side in (one.forward, one.backward)] for one in explanation.shown],
    }
    return fill(
        "explanation.html",
        title=f"{first} and {second}",
        heading=f"“{first}” and “{second}”",
        number=html.escape(str(estimate)),
        summary=(
            f"{html.escape(estimate.divergence)}, {estimate.unit}: {there} along what the first text conjures, "
            f"{back} along what the second does; "
            f"{counted(len(estimate.samples), 'sample')} of {counted(len(estimate.per_step), 'step')}"
        ),
        settings=html.escape(f"{settings}, seed {estimate.seed}, conjure {estimate.version}"),
        scale=_scale(most, most_of_all, estimate.unit),
        words=_words(explanation),
        steps=steps.page(),
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # nothing in it can end the script that holds it
    )


def fill(template: str, **parts: str) -> str:
    """The package's `template` with `parts` for its `{{names}}`; what stands in a part is not looked at again."""
    text = files("conjure").joinpath("templates", template).read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], text)


def _sheets(side: Direction, most: float, most_of_all: float) -> Mapping[str, Any]:
    """The pictures of one direction as sheets: a row each of both texts' x0 and between them the noisy ones, the final picture
    behind the first row; and where they differ, step by step, behind them all steps together.

    most, most_of_all: what a place adds that the map of a step, and of all of them, shows lightest.
    """
    rows = np.stack([side.first, side.noisy, side.second])
    white = np.ones_like(rows[:, :1])
    white[0, 0] = side.final
    sheet = np.concatenate([rows, white], axis=1)
    return {
        "sheet": address(mosaic(sheet)),
        "heat": None if side.places is None else address(_heat(side.places, most, most_of_all)),
    }


def mosaic(sheet: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Pictures (rows, columns, height, width, channels) in 0..1 as one, each at most `largest` pixels a side: uint8."""
    rows, columns, high, wide = sheet.shape[:4]
    share = min(largest / max(high, wide), WIDEST / (columns * wide), 1)
    size = (max(1, int(wide * share)), max(1, int(high * share)))
    pixels = (sheet.clip(0, 1) * 255).round().astype(np.uint8).reshape(rows * columns, high, wide, -1)
    if share < 1:
        pixels = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in pixels])
    pixels = pixels.reshape(rows, columns, size[1], size[0], -1).transpose(0, 2, 1, 3, 4)
    return pixels.reshape(rows * size[1], columns * size[0], -1)


def _heat(places: np.ndarray, most: float, most_of_all: float) -> np.ndarray:
    """`places` (T, rows, columns), and behind them their sum, side by side in colours and opacity: uint8 (.., .., 4)."""
    from matplotlib import colormaps

    parts = np.stack([*(places / (most or 1)), places.sum(0) / (most_of_all or 1)])
    colours = colormaps[HEAT](parts)
    colours[..., 3] = parts**0.5  # what adds nothing hides nothing
    return mosaic(colours[None])


def address(pixels: np.ndarray) -> str:
    """A picture as a data address: small pictures as they are, large ones well compressed."""
    options: dict[str, int]
    kind, options = ("png", {}) if pixels.size < 3_000_000 else ("webp", {"quality": 88})
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return picture_address(buffer.getvalue(), kind)


def _steps(explanation: Explanation) -> Table:
    estimate = explanation.estimate
    each = zip(estimate.timesteps, estimate.snr, estimate.per_step, estimate.per_step_ci95, strict=True)
    rows = [
        [f"{timestep:.0f}", f"{ratio:.3g}", rounded(value, (bounds[1] - bounds[0]) / 2), between(bounds)]
        for timestep, ratio, value, bounds in each
    ]
    return Table("steps", ["timestep", "signal to noise", "adds", "95 % interval"], rows)


def _scale(most: float, most_of_all: float, unit: str) -> str:
    """What the colours of the heat maps stand for, where there is something to show."""
    if not most:
        return ""
    return (
        "<p class=quiet>Heat maps: clear for nothing, the lighter the more, on one scale for both directions and all samples. "
        f"A place adds at most {most:.3g} at a step, and {most_of_all:.3g} in all steps together, {unit}.</p>"
    )


def _words(explanation: Explanation) -> str:
    if explanation.words is None:
        return ""
    rows = []
    for effect in explanation.words.effects:
        which = "first" if effect.text == explanation.words.texts[0] else "second"
        rows.append(
            [printable(effect.done), which, rounded(effect.change, effect.stderr, "+"), between(effect.ci95, effect.stderr, "+")]
        )
    table = Table("words", ["change", "in text", "the divergence changes by", "95 % interval"], rows)
    return (
        "<h2>Which words</h2><p class=quiet>Along what the other text conjures: below 0 the word sets the texts apart, above 0 "
        f"it holds them together.</p><div class=wide>{table.page()}</div>"
    )

"""An explanation as one HTML page that needs no network: sliders over steps and samples, where they differ, when, which words."""

from __future__ import annotations

import html
import io
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from conjure.document import Table, picture_address
from conjure.explanation import Direction, Explanation
from conjure.render import printable

LARGEST = 320  # pixels a side that a picture of the page has at most
WIDEST = 16_000  # pixels that a sheet of them has at most, which WebP needs


def page(explanation: Explanation) -> str:
    """The page. Texts are data: they are escaped, or set as text by its script."""
    estimate = explanation.estimate
    first, second = (html.escape(printable(text)) for text in estimate.texts)
    used = estimate.process
    settings = ", ".join(f"{key} {used[key]}" for key in ("model", "scheduler", "steps", "guidance"))
    known = len(estimate.samples) > 1
    high, wide = explanation.forward.final.shape[:2]
    data = {
        "texts": [printable(text) for text in estimate.texts],
        "timesteps": estimate.timesteps,
        "per_step": estimate.per_step,
        "ci95": estimate.per_step_ci95 if known else None,
        "unit": estimate.unit,
        "samples": len(estimate.samples),
        "shape": f"{wide} / {high}",
        "shown": [[_sheets(side) for side in (one.forward, one.backward)] for one in explanation.shown],
    }
    return fill(
        "explanation.html",
        title=f"{first} and {second}",
        heading=f"“{first}” and “{second}”",
        number=html.escape(str(estimate)),
        summary=(
            f"{html.escape(estimate.divergence)}, {estimate.unit}: {estimate.forward:.4g} along what “{first}” conjures, "
            f"{estimate.backward:.4g} along what “{second}” conjures; "
            f"{len(estimate.samples)} samples of {len(estimate.per_step)} steps"
        ),
        settings=html.escape(f"{settings}, seed {estimate.seed}, conjure {estimate.version}"),
        words=_words(explanation),
        steps=_steps(explanation).page(),
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),  # nothing in it can end the script that holds it
    )


def fill(template: str, **parts: str) -> str:
    """The package's `template` with `parts` for its `{{names}}`; what stands in a part is not looked at again."""
    text = files("conjure").joinpath("templates", template).read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], text)


def _sheets(side: Direction) -> Mapping[str, Any]:
    """The pictures of one direction as sheets: a row each of both texts' x0 and between them the noisy ones, the final picture
    behind the first row; and where they differ, step by step, behind them all steps together."""
    rows = np.stack([side.first, side.noisy, side.second])
    white = np.ones_like(rows[:, :1])
    white[0, 0] = side.final
    sheet = np.concatenate([rows, white], axis=1)
    return {"sheet": address(mosaic(sheet)), "heat": None if side.places is None else address(_heat(side.places))}


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


def _heat(places: np.ndarray) -> np.ndarray:
    """`places` (T, rows, columns), and behind them their sum, side by side in colours and opacity: uint8 (.., .., 4)."""
    from matplotlib import colormaps

    whole = places.sum(0)
    parts = np.stack([*(places / (places.max() or 1)), whole / (whole.max() or 1)])
    colours = colormaps["inferno"](parts)
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
    bounds = [_between(bounds) for bounds in estimate.per_step_ci95]
    each = zip(estimate.timesteps, estimate.snr, estimate.per_step, bounds, strict=True)
    rows = [[f"{timestep:.0f}", f"{ratio:.3g}", f"{value:.4g}", bound] for timestep, ratio, value, bound in each]
    return Table("steps", ["timestep", "signal to noise", "adds", "95 % interval"], rows)


def _between(bounds: tuple[float, float], sign: str = "") -> str:
    """An interval in words, nothing where it is not known."""
    return "" if math.isnan(bounds[0]) else " to ".join(f"{bound:{sign}.4g}" for bound in bounds)


def _words(explanation: Explanation) -> str:
    if explanation.words is None:
        return ""
    rows = []
    for effect in explanation.words.effects:
        done, text = printable(effect.done), printable(effect.text)
        rows.append([done, f"“{text}”", f"{effect.change:+.4g}", _between(effect.ci95, "+")])
    table = Table("words", ["change", "of", "the divergence changes by", "95 % interval"], rows)
    return (
        "<h2>Which words</h2><p class=quiet>Along what the other text conjures: below 0 the word sets the texts apart, above 0 "
        f"it holds them together.</p><div class=wide>{table.page()}</div>"
    )

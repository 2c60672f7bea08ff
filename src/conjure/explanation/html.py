"""The HTML page of an explanation: sliders over steps and samples, heat maps, and tables. It needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.estimates import Estimate
from conjure.divergence.reference_scale import NO_SIMILARITY
from conjure.divergence.terms import distance_terms
from conjure.explanation.attribution import Attribution
from conjure.explanation.images import SampleImages, TrajectoryImages, counted_trajectories
from conjure.io.documents import Table
from conjure.io.formatting import format_interval, format_timesteps, format_value, pluralize
from conjure.io.templating import render
from conjure.io.text import capitalize_first, printable, quote_and_wrap
from conjure.plotting.heatmaps import LOG_RANGE, HeatmapScale, heatmap_limits, scaled, translucent_heatmap
from conjure.plotting.images import MAX_IMAGE_SIDE, encode_image, mosaic

COLOR_STOPS = 9  # of the color scale of heat maps
MAX_QUOTED = 60  # characters of a text within a sentence


def explanation_page(
    estimate: Estimate, sample_images: Sequence[SampleImages], words: Attribution | None, heatmap_scale: HeatmapScale = "log"
) -> str:
    """Return the page as one HTML document without external files.

    Texts are data: they are escaped, or inserted by the script of the page as text and not as markup.

    Args:
        estimate: The estimate of the distance.
        sample_images: The images of the first samples; at least one.
        words: The effects of words, if they are to be shown.
        heatmap_scale: See `Explanation.save`.
    """
    from matplotlib.colors import to_hex

    directions = ", ".join(
        f"{format_value(value, estimate.stderr)} along the trajectories of {quote_and_wrap(text, MAX_QUOTED)}"
        for value, text in estimate.directions
    )
    similarity = NO_SIMILARITY if estimate.similarity is None else estimate.similarity.sentence
    sampling = f"{pluralize(len(estimate.samples), 'sample')} of {pluralize(len(estimate.per_step), 'step')}"
    trajectories = [counted_trajectories(estimate, sample) for sample in sample_images]
    vmax_step, vmax_total = heatmap_limits(
        images.heatmaps for sample in trajectories for images in sample if images.heatmaps is not None
    )
    steps = _step_table(estimate)
    height, width = sample_images[0].forward.final.shape[:2]
    data = {
        "texts": [printable(text) for text in estimate.texts],
        "trajectories": [printable(images.text) for images in trajectories[0]],
        "kind": trajectories[0][0].kind_name,
        "timesteps": [timestep for timestep, *_ in steps.rows],
        "per_step": estimate.per_step,
        "per_step_labels": [contribution for _, _, contribution, _ in steps.rows],
        "per_step_ci95": estimate.per_step_ci95 if len(estimate.samples) > 1 else None,
        "unit": estimate.unit,
        "num_samples": len(estimate.samples),
        "words": None if words is None else _word_bars(words),
        "aspect_ratio": f"{width} / {height}",
        "sample_images": [
            [_sprite_sheets(images, vmax_step, vmax_total, heatmap_scale) for images in sample] for sample in trajectories
        ],
    }
    return render(
        "conjure.explanation",
        "explanation.html",
        estimate=estimate,
        title=" and ".join(f"“{text}”" for text in estimate.texts),
        similarity=capitalize_first(similarity),
        notes=[f"{capitalize_first(note)}." for note in estimate.notes],
        summary=f"{estimate.divergence}, {estimate.unit}{': ' if directions else ''}{directions}; {sampling}",
        settings=f"{summarize_settings(estimate.process)}; seed {estimate.seed}; conjure {estimate.version}",
        glossary=distance_terms(
            estimate.divergence, estimate.unit, estimate.process, is_calibrated=estimate.similarity is not None
        ),
        heatmap_scale=heatmap_scale,
        vmin_step=f"{vmax_step / LOG_RANGE:.3g}",
        vmax_step=f"{vmax_step:.3g}" if vmax_step else "",
        vmax_total=f"{vmax_total:.3g}",
        scale_ends=_scale_ends(vmax_step, heatmap_scale),
        stops=[to_hex(stop, keep_alpha=True) for stop in translucent_heatmap(np.linspace(0, 1, COLOR_STOPS))],
        media=_media(trajectories[0]),
        words=words,
        tables=[
            (title, table)
            for title, table in (
                ("Table of the effects of words", None if words is None else _word_table(words)),
                ("Table of the contributions of steps", steps),
                ("Table of the contributions over time", _time_table(trajectories[0])),
            )
            if table is not None
        ],
        data=data,
    )


def _sprite_sheets(images: TrajectoryImages, vmax_step: float, vmax_total: float, scale: HeatmapScale) -> dict[str, str | None]:
    """Return the images of one trajectory as two data URIs, one column per step and a last column for the end.

    The sheet has the rows x0 for the first text, x_t, and x0 for the second text; its last column holds the final image in the
    first row. The heat maps have one row; the last column holds their sum over steps. `vmax_step` and `vmax_total` are the upper
    limits of their color scales.
    """
    rows = np.stack([images.x0_first, images.x_t, images.x0_second])
    last_column = np.ones_like(rows[:, :1])
    last_column[0, 0] = images.final
    heatmaps = None if images.heatmaps is None else encode_image(_heatmap_sheet(images.heatmaps, vmax_step, vmax_total, scale))
    sheet = mosaic(np.concatenate([rows, last_column], axis=1), images.longest_side(MAX_IMAGE_SIDE))
    return {"images": encode_image(sheet), "heatmaps": heatmaps}


def _heatmap_sheet(heatmaps: np.ndarray, vmax_step: float, vmax_total: float, scale: HeatmapScale) -> np.ndarray:
    """Return the heat maps (T, rows, columns) and their sum, on a linear scale, side by side as RGBA."""
    fractions = np.stack([*scaled(heatmaps, vmax_step, scale), heatmaps.sum(0) / (vmax_total or 1)])
    return mosaic(translucent_heatmap(fractions)[None])


def _scale_ends(vmax: float, scale: HeatmapScale) -> tuple[str, str]:
    """Return what the ends of the color scale of single steps mean."""
    if scale == "step":
        return "0", "largest of the step"
    return f"≤ {vmax / LOG_RANGE:.2g}" if scale == "log" else "0", f"{vmax:.2g}"


def _step_table(estimate: Estimate) -> Table:
    steps = zip(format_timesteps(estimate.timesteps), estimate.snr, estimate.per_step, estimate.per_step_ci95, strict=True)
    rows = [
        [timestep, f"{snr:.3g}", format_value(value, (ci95[1] - ci95[0]) / 2), format_interval(ci95)]
        for timestep, snr, value, ci95 in steps
    ]
    return Table("steps", ["timestep", "signal to noise", "contribution", "95% CI"], rows)


def _media(trajectories: Sequence[TrajectoryImages]) -> list[tuple[str, Markup]]:
    """Return the text of each trajectory with the video or sound at its end; nothing for images."""
    return [
        (images.text, Markup(images.media.to_html()))
        for images in trajectories
        if images.media is not None and images.media.kind != "image"
    ]


def _time_table(trajectories: Sequence[TrajectoryImages]) -> Table | None:
    """Return the contributions over time, or None for images and where latents have no time."""
    rows = []
    for images in trajectories:
        if images.over_time is None or images.times is None:
            continue
        text, totals, are_inside = printable(images.text), images.over_time.sum(0), images.are_times_inside
        rows += [
            [text, f"{start:.3f} to {end:.3f}", f"{total:.3g}"]
            for (start, end), total in zip(images.times[are_inside], totals[are_inside], strict=True)
        ]
        if not are_inside.all():
            rows.append([text, f"not in the {images.kind_name}", f"{totals[~are_inside].sum():.3g}"])
    return Table("times", ["trajectory", "seconds", "contribution"], rows) if rows else None


def _word_bars(words: Attribution) -> list[dict[str, Any]]:
    """Return what the chart of the page shows of each text: its words with their effects."""
    return [
        {
            "text": printable(text),
            "effects": [
                {
                    "label": printable(effect.label),
                    "change": effect.change,
                    "ci95": None if math.isnan(effect.stderr) else effect.ci95,
                }
                for effect in words.effects_of(text)
            ],
        }
        for text in words.texts
    ]


def _word_table(words: Attribution) -> Table:
    rows = []
    for effect in words.effects:
        text = "first" if effect.text == words.texts[0] else "second"
        change = format_value(effect.change, effect.stderr, "+")
        rows.append([effect.label, text, change, format_interval(effect.ci95, effect.stderr, "+")])
    return Table("words", ["change of the text", "text", "change of the divergence", "95% CI"], rows)

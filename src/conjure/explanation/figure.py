"""The figure of an explanation: images of both trajectories, and contributions of steps, positions and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjure.divergence.estimates import Estimate
from conjure.explanation.attribution import Attribution, Effect
from conjure.explanation.images import SampleImages, TrajectoryImages, counted_trajectories
from conjure.io.formatting import format_timesteps
from conjure.io.text import quote_and_wrap
from conjure.plotting.charts import BAR_COLOR, ERROR_BARS, error_lengths
from conjure.plotting.heatmaps import HeatmapScale, colorize_heatmap, draw_color_scale, heatmap_limits, translucent_heatmap
from conjure.plotting.images import TILE_GAP, tile_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 20  # steps whose images are shown, evenly spaced from the first to the last
NEGATIVE_COLOR = "#b5430f"


def comparison_figure(
    estimate: Estimate,
    sample_images: Sequence[SampleImages],
    words: Attribution | None,
    title: str | None = None,
    heatmap_scale: HeatmapScale = "log",
) -> Figure:
    """Return Figure 1 of Liu and Soatto (2026) for one pair, with charts below it.

    The upper part shows, for each trajectory that the distance depends on, the images of x_t between the x0 that are predicted
    for the two texts, and heat maps of where the predictions differ. The charts show the contribution of each step, the heat maps
    summed over steps, and the effects of words. Images, heat maps and the numbers below them belong to the first sample; bars are
    means over samples. The sums of the heat maps over all steps share one linear color scale.

    Args:
        estimate: The estimate of the distance.
        sample_images: The images of the first samples, of which only the first is shown.
        words: The effects of words, if they are to be shown.
        title: What is compared; None for the two texts.
        heatmap_scale: The color scale of the heat maps of single steps, as in `heatmaps.scaled`.
    """
    from matplotlib.figure import Figure

    steps = len(estimate.timesteps)
    columns = np.unique(np.linspace(0, steps - 1, min(steps, MAX_COLUMNS)).round().astype(int))
    chart_height = max(2.3, 0.2 * (len(words.effects) + len(words.texts)) + 0.9) if words else 2.3
    directions = counted_trajectories(estimate, sample_images[0])
    num_rows = 3 if directions[0].heatmaps is None else 4
    image_height = len(directions) * (num_rows * _relative_height(directions[0]) + 0.8)
    figure = Figure(figsize=(max(len(columns) + 2.1, 10.5), image_height + chart_height), layout="constrained")
    first, second = (quote_and_wrap(text, 45) for text in estimate.texts)
    similarity = "" if estimate.similarity is None else f"; similarity {estimate.similarity}"
    result = f"{estimate.divergence} {estimate} {estimate.unit}{similarity}"
    figure.suptitle(f"{title or f'{first}  and  {second}'}\n{result}", fontsize=11, parse_math=False)
    parts: Any = figure.subfigures(2, 1, height_ratios=[image_height, chart_height])
    image_part, chart_part = parts

    vmax_step, vmax_total = heatmap_limits(images.heatmaps for images in directions if images.heatmaps is not None)
    panels = image_part.subplots(len(directions), 1, squeeze=False)[:, 0]
    for axes, images in zip(panels, directions, strict=True):
        _direction_panel(axes, estimate, images, columns, vmax_step, heatmap_scale)

    final_panels = ("first", "second")[: len(directions)]
    has_time = directions[0].over_time is not None
    widths = {"steps": 2.2, **({"time": 1.6} if has_time else {}), **dict.fromkeys(final_panels, 1.0)}
    widths |= {"words": 2.2} if words else {}
    charts = chart_part.subplot_mosaic([list(widths)], width_ratios=list(widths.values()))
    _step_chart(charts["steps"], estimate)
    for name, images in zip(final_panels, directions, strict=True):
        _final_image_panel(charts[name], images, vmax_total)
    if has_time:
        _time_chart(charts["time"], directions, estimate.unit)
    if words:
        _word_chart(charts["words"], words)
    return figure


def _relative_height(images: TrajectoryImages) -> float:
    """Return the height of the panel of a trajectory relative to one of square images: more for strips of videos, up to twice.

    Otherwise strips would be narrower than the labels of their columns.
    """
    if images.media is None or images.media.kind != "video":
        return 1.0
    height, width = images.final.shape[:2]
    return min(max(height / width, 1.0), 2.0)


def _direction_panel(
    axes: Axes, estimate: Estimate, images: TrajectoryImages, columns: np.ndarray, vmax: float, scale: HeatmapScale
) -> None:
    """Draw the images of one trajectory, with timesteps above the columns and contributions of the shown sample below."""
    rows = [images.x0_first, images.x_t, images.x0_second]
    first, second = (f"{images.kind_name} predicted for\n{quote_and_wrap(text, 20, lines=3)}" for text in estimate.texts)
    row_names = [first, f"noisy {images.kind_name}", second]
    if images.heatmaps is not None:
        rows.append(colorize_heatmap(images.heatmaps, images.x_t.shape[1:3], vmax, scale))
        row_names.append("where the predictions\ndiffer")
    axes.imshow(np.concatenate([tile_images(row[columns]) for row in rows]).clip(0, 1), interpolation="nearest")
    tile_height, tile_width = (side + TILE_GAP for side in images.x_t.shape[1:3])
    centers = tile_width * (np.arange(len(columns)) + 0.5)
    sample = "" if len(estimate.samples) == 1 else f", sample 1 of {len(estimate.samples)}"
    axes.set_title(f"trajectory of {quote_and_wrap(images.text, 80)}{sample}", fontsize=9, parse_math=False)
    axes.set_yticks(tile_height * (np.arange(len(rows)) + 0.5), row_names, fontsize=8, parse_math=False)
    axes.set_xticks(centers, [f"{images.per_step[step]:.3g}" for step in columns], fontsize=7)
    axes.set_xlabel(f"contribution of each step of this trajectory, {estimate.unit}", fontsize=7)
    top_axis = axes.secondary_xaxis("top")
    timesteps = format_timesteps(estimate.timesteps)
    top_axis.set_xticks(centers, [f"t = {timesteps[step]}" for step in columns], fontsize=7)
    for axis in (axes, top_axis):
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    if images.heatmaps is not None:
        height = 1 / len(rows)
        bar = axes.inset_axes((1.008, 0.04 * height, 0.008, 0.92 * height))  # beside the last row
        draw_color_scale(bar, vmax, scale, "vertical")


def _step_chart(axes: Axes, estimate: Estimate) -> None:
    """Draw the contribution of each step to the distance: means over samples with 95% intervals."""
    estimate.plot(axes)
    mean = f",\nmean of {len(estimate.samples)} samples with 95% intervals" if len(estimate.samples) > 1 else ""
    axes.set_title(f"when: contribution of each step to the distance{mean}", fontsize=8)


def _time_chart(axes: Axes, directions: Sequence[TrajectoryImages], unit: str) -> None:
    """Draw the contribution of each time of a video or a sound, summed over steps and positions, for each trajectory.

    Times before and after a sound that the pipeline cuts are gray.
    """
    for images in directions:
        if images.over_time is not None and images.times is not None:
            edges = np.append(images.times[:, 0], images.times[-1, 1])
            axes.stairs(images.over_time.sum(0), edges, baseline=None, label=quote_and_wrap(images.text, 22, lines=2))
    first = directions[0]
    is_cut = first.times is not None and not first.are_times_inside.all()
    if is_cut and first.times is not None and first.media is not None:
        for start, end in ((min(first.times[0, 0], 0.0), 0.0), (first.media.seconds, first.times[-1, 1])):
            axes.axvspan(start, max(start, end), color="0.9", linewidth=0, zorder=0)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.set_title("time: contribution of each time,\nsum over all steps", fontsize=8)
    axes.set_xlabel(f"seconds{f' (gray: not in the {first.kind_name})' if is_cut else ''}", fontsize=7)
    axes.set_ylabel(unit, fontsize=7)
    for text in axes.legend(fontsize=6, frameon=False).get_texts():
        text.set_parse_math(False)
    axes.spines[["top", "right"]].set_visible(False)


def _final_image_panel(axes: Axes, images: TrajectoryImages, vmax: float) -> None:
    """Draw the final image, and over it the sum of the heat maps of all steps."""
    axes.imshow(images.final.clip(0, 1), interpolation="nearest")
    if images.heatmaps is not None:
        height, width = images.final.shape[:2]
        total = translucent_heatmap(images.heatmaps.sum(0) / (vmax or 1.0))
        axes.imshow(total, interpolation="bilinear", extent=(0, width, height, 0))
        axes.set_xlabel("heat map: sum over all steps;\none scale for all trajectories", fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.set_title(
        f"where: final {images.kind_name} of\n{quote_and_wrap(images.text, 22, lines=2)}", fontsize=8, parse_math=False
    )


def _word_chart(axes: Axes, words: Attribution) -> None:
    """Draw the effect of each word, text by text; negative bars belong to words that separate the texts."""
    effects, (first, second) = words.effects, words.texts
    rows = [position + 1 + (effect.text != first) for position, effect in enumerate(effects)]  # below the heading of their text
    heading: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 7, "fontweight": "bold", "va": "center",
                               "bbox": {"facecolor": axes.get_facecolor(), "linewidth": 0, "pad": 0.5}}  # fmt: skip
    for row, text in ((0, first), (len(words.effects_of(first)) + 1, second)):
        axes.text(0.01, row, f"in {quote_and_wrap(text, 44)}", parse_math=False, **heading)
    changes = np.array([effect.change for effect in effects])
    low, high = np.array([effect.ci95 for effect in effects]).T
    errors = None if np.isnan(low).any() else error_lengths(changes, low, high)
    axes.barh(rows, changes, xerr=errors, color=np.where(changes < 0, NEGATIVE_COLOR, BAR_COLOR), **ERROR_BARS)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(rows, [_word_label(effect) for effect in effects], fontsize=7, parse_math=False)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.tick_params("x", labelsize=7)
    axes.set_xlabel(words.unit, fontsize=7)
    axes.set_title("words: change of the divergence without the word\n(negative: the word separates the texts)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _word_label(effect: Effect) -> str:
    replacement = f" → {quote_and_wrap(effect.replacement, 18)}" if effect.replacement else ""
    return quote_and_wrap(effect.word, 18) + replacement

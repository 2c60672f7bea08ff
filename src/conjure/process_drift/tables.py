"""Tables of the report of a drift: the texts, the summary over texts, and the groups of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from conjure.diffusion.media import KIND_NAMES
from conjure.io.documents import Table
from conjure.io.formatting import format_interval, format_value
from conjure.plotting.media import MediaKind
from conjure.process_drift.groups import GroupDrift
from conjure.process_drift.statistics import Summary
from conjure.process_drift.text_drift import TextDrift


def texts_table(texts: Sequence[TextDrift], unit: str, kind: MediaKind) -> Table:
    """Return the values of texts as a table.

    Args:
        texts: The texts, from the largest divergence to the smallest.
        unit: The unit of the divergences.
        kind: What the processes generate.
    """
    columns = ("text", f"divergence, {unit}", "95% CI", "relative", "95% CI", "nats", f"final {KIND_NAMES[kind]}, relative")
    return Table("Texts, from the largest divergence to the smallest", columns, [text.to_cells() for text in texts])


def summary_table(summaries: Mapping[str, Summary]) -> Table:
    """Return the distributions of some values over texts as a table; names that end with `relative` are shown in percent.

    Args:
        summaries: The distributions by name; at least one.
    """
    rows = []
    for name, summary in summaries.items():
        is_ratio = name.endswith("relative")
        scale, mean = (100, summary.mean.as_percentage()) if is_ratio else (1, summary.mean)
        interval = f" ({mean.interval})" if mean.interval else ""
        quantiles = [
            _quantile(scale * quantile.value, scale * quantile.ci95[0], scale * quantile.ci95[1])
            for quantile in summary.quantiles.values()
        ]
        heading = name.replace("_", " ") + (", %" if is_ratio else "")
        rows.append([heading, str(summary.texts), f"{mean}{interval}", *quantiles])
    levels = next(iter(summaries.values())).quantiles
    head = ["value", "texts", "mean (95% CI)", *(f"{level:.0%}" for level in levels)]
    return Table("Summary over texts: mean and quantiles, with 95% intervals", head, rows)


def group_table(groups: Sequence[GroupDrift], unit: str | None) -> Table:
    """Return groups of texts as a table.

    Args:
        groups: The groups.
        unit: The unit of their means; None for relative values, which are shown in percent.
    """
    rows = []
    for group in groups:
        mean = group.mean.as_percentage() if unit is None else group.mean
        low, high = group.ratio_ci95
        ratio = "" if math.isnan(group.ratio) else f"{group.ratio:.2f} ({low:.2f} to {high:.2f})"
        p_value = "" if math.isnan(group.p_value) else f"{group.p_value:.2g}" + " *" * group.is_significant
        rows.append([group.name, str(group.texts), str(mean), mean.interval, ratio, p_value])
    mean_of = "mean relative, %" if unit is None else f"mean divergence, {unit}"
    columns = ("group", "texts", mean_of, "95% CI", "times the other groups (95% CI)", "adjusted p")
    return Table("Groups, each compared with the texts of all other groups (*: significant)", columns, rows)


def _quantile(value: float, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return format_value(value)
    return f"{format_value(value, (high - low) / 4)} ({format_interval((low, high))})"

"""The results of an ablation: data, tables, figures and files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjure.deprecation import deprecated_property
from conjure.errors import InputError
from conjure.evaluation.axes import AXIS_LABELS
from conjure.evaluation.correlation import Agreement
from conjure.evaluation.few_pairs import few_pairs_notes
from conjure.evaluation.report import INTERVAL, format_interval, settings_line
from conjure.evaluation.results import Evaluation
from conjure.io.csv_files import csv_text
from conjure.io.documents import Document, Table, rows_to_html
from conjure.io.files import import_pandas, write_output
from conjure.plotting.charts import draw_lines, line_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_VALUES = 6  # of a setting in the short description
PAPER_STEPS = {5: 70.1, 10: 70.3, 15: 70.1, 20: 68.9, 30: 70.2, 50: 69.5}  # Table 3: STS-B, Stable Diffusion v1.4, as printed
NOTE = (
    "Spearman x100 of negated distances with human ratings. Intervals are 95% bootstrap intervals over pairs, and over samples "
    "where there are several. One setting is varied at a time. Prior: uniform over the steps from the noisiest one to the named "
    "one. Single step: only the named step. Samples: the first k samples. The column “paper” is Stable Diffusion v1.4, as "
    "printed in Liu and Soatto (2026)."
)


@dataclass(frozen=True)
class AblationPoint:
    """The result for one value of one setting.

    Attributes:
        axis: The setting.
        value: Its value.
        agreements: Agreement with human ratings, by name of the task.
        fingerprint: Fingerprint of the process that gave it.
    """

    axis: str
    value: str
    agreements: dict[str, Agreement]
    fingerprint: str

    found = deprecated_property("found", "agreements")
    identity = deprecated_property("identity", "fingerprint")


@dataclass(frozen=True)
class Ablation:
    """The results for all values of all settings.

    Attributes:
        base: Evaluation of the process with its own settings.
        points: One result per setting and value.
        titles: Title of each task, by its name.
        non_finite_texts: Texts for which the predictions of a process are not finite.
    """

    base: Evaluation
    points: list[AblationPoint]
    titles: dict[str, str] = field(default_factory=dict)
    non_finite_texts: tuple[str, ...] = ()

    cells = deprecated_property("cells", "points")
    broken = deprecated_property("broken", "non_finite_texts")

    @property
    def points_by_axis(self) -> dict[str, list[AblationPoint]]:
        """The results of each setting, in order."""
        axes = dict.fromkeys(point.axis for point in self.points)
        return {axis: [point for point in self.points if point.axis == axis] for axis in axes}

    def __str__(self) -> str:
        lines = [f"ablation of {', '.join(self.points_by_axis)}; Spearman x100 of the first dataset"]
        for axis, points in self.points_by_axis.items():
            values = [f"{point.value}: {_percent(next(iter(point.agreements.values())))[0]:.1f}" for point in points]
            shown = values if len(values) <= MAX_VALUES else [*values[: MAX_VALUES - 1], "…", values[-1]]
            lines.append(f"  {axis}: {', '.join(shown)}")
        return "\n".join(lines)

    __repr__ = __str__

    def rows(self) -> list[dict[str, Any]]:
        """Return one row of plain data per result and task; correlations are multiplied by 100."""
        return [
            {
                "axis": point.axis,
                "value": point.value,
                "task": task,
                "spearman": 100 * agreement.spearman,
                "low": 100 * agreement.ci95[0],
                "high": 100 * agreement.ci95[1],
                "pairs": agreement.pairs,
                "fingerprint": point.fingerprint,
            }
            for point in self.points
            for task, agreement in point.agreements.items()
        ]

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON: the rows as `cells`, and what the summary of an evaluation contains beside its tasks."""
        settings = {key: value for key, value in self.base.summary().items() if key != "tasks"}
        notes = {"non_finite_texts": list(self.non_finite_texts), "notes": self.notes}
        return {"cells": self.rows(), **settings, **notes}

    @property
    def notes(self) -> list[str]:
        """Notes on datasets with few pairs."""
        return few_pairs_notes({result.pairs.title: len(result.pairs) for result in self.base.tasks.values()})

    def document(self) -> Document:
        """Return the ablation as a document with one table and one figure per setting."""
        tables = []
        for axis, points in self.points_by_axis.items():
            has_paper = axis == "steps" and "stsb" in self.titles and self.base.tasks["stsb"].pairs.is_complete
            columns = [axis, *(column for title in self.titles.values() for column in (title, INTERVAL))]
            rows = [
                [point.value, *(cell for agreement in point.agreements.values() for cell in _cells(agreement))]
                for point in points
            ]
            if has_paper:
                columns.append("paper")
                for point, row in zip(points, rows, strict=True):
                    row.append(f"{PAPER_STEPS[int(point.value)]:.1f}" if int(point.value) in PAPER_STEPS else "")
            tables.append(Table(axis, columns, rows))
        return Document("Ablation", [settings_line(self.base), *self.notes], tables, NOTE, self.figures())

    def figures(self) -> dict[str, bytes]:
        """Return one chart (PNG) per setting, by the name of the setting."""
        return {axis: line_chart(*self._chart(axis)) for axis in self.points_by_axis}

    def plot(self, axis: str, ax: Axes | None = None) -> Axes:
        """Draw the correlations for all values of one setting, and return the axes of matplotlib.

        Args:
            axis: The setting.
            ax: The axes to draw on; None makes a new figure, `ax.figure`.

        Raises:
            InputError: If this setting was not varied.
        """
        if axis not in self.points_by_axis:
            raise InputError(f"axis is {axis!r}; must be one of {', '.join(self.points_by_axis)}")
        return draw_lines(ax, *self._chart(axis))

    def _chart(self, axis: str) -> tuple[list[str], dict[str, list[tuple[float, float, float]]], str, str]:
        """Return the arguments of a chart: the values of the x axis, the lines by title, and the names of the axes."""
        points = self.points_by_axis[axis]
        series = {title: [_percent(point.agreements[name]) for point in points] for name, title in self.titles.items()}
        return [point.value for point in points], series, AXIS_LABELS.get(axis, axis), "Spearman x100"

    def to_pandas(self) -> DataFrame:
        """Return one row per result and task as a pandas data frame, with the columns of `rows`.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.rows())

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self.rows())

    def save(self, folder: str | Path) -> None:
        """Write `ablation.json`, `ablation.csv`, `ablation.md`, `ablation.html` and one PNG file per setting.

        Raises:
            InputError: If a file cannot be written.
        """
        document, rows = self.document(), self.rows()
        texts = {
            "ablation.json": json.dumps(self.summary(), indent=1, default=str) + "\n",
            "ablation.csv": csv_text([rows[0], *(row.values() for row in rows)]),
            "ablation.md": document.to_markdown(),
            "ablation.html": document.to_html(),
        }
        files = {name: text.encode() for name, text in texts.items()}
        files |= {figure_name(axis): figure for axis, figure in document.images.items()}
        for name, content in files.items():
            write_output(Path(folder) / name, content)


def figure_name(axis: str) -> str:
    """Return the name of the figure of a setting."""
    return f"{axis.replace(' ', '-')}.png"


def _percent(agreement: Agreement) -> tuple[float, float, float]:
    """Return a correlation and the ends of its interval, multiplied by 100."""
    return 100 * agreement.spearman, 100 * agreement.ci95[0], 100 * agreement.ci95[1]


def _cells(agreement: Agreement) -> tuple[str, str]:
    spearman, *interval = _percent(agreement)
    return f"{spearman:.1f}", format_interval(interval)

"""Many runs, such as the checkpoints of a training: the agreement of each, and its difference to that of the first run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conjure.errors import InputError
from conjure.evaluation.correlation import Agreement, Difference, agreement, difference
from conjure.evaluation.few_pairs import few_pairs_notes
from conjure.evaluation.matched_runs import common_tasks, matched_distances, run_names
from conjure.evaluation.report import INTERVAL, describe_run, format_interval
from conjure.evaluation.run_folder import Run, load_run
from conjure.io.documents import Document, Table, rows_to_html
from conjure.io.files import import_pandas
from conjure.plotting.charts import draw_lines, line_chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

STEP = re.compile(r"(?<![\d.])\d+$")  # at the end, as in checkpoint-500, but not in 7.25
DEFAULT_NAME = re.compile(r"bench-[0-9a-f]{12}")  # of the folders of conjure bench
NOTE = (
    "Spearman x100 of negated distances with human ratings. Differences are those to the first run. Their 95% CI and their "
    "two-sided p are from the same paired bootstrap over pairs, and over samples where there are several. They are not corrected "
    "for the number of runs."
)


@dataclass(frozen=True)
class TaskSeries:
    """All runs on one task.

    Attributes:
        title: Title of the task.
        pairs: Number of pairs.
        agreements: Agreement of each run with human ratings.
        differences: Agreement of each run after the first, minus that of the first.
    """

    title: str
    pairs: int
    agreements: list[Agreement]
    differences: list[Difference]

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "title": self.title,
            "pairs": self.pairs,
            **{key: [result.summary()[key] for result in self.agreements] for key in ("spearman", "ci95")},
            "differences": [change.summary() for change in self.differences],
        }


@dataclass(frozen=True)
class RunSeries:
    """Three or more runs on their common tasks, each compared with the first.

    Attributes:
        runs: The runs, in the order in which they were given.
        tasks: Their results on each common task, by name.
    """

    runs: list[Run]
    tasks: dict[str, TaskSeries]

    @property
    def names(self) -> list[str]:
        """The names of the folders of the runs, or their paths if two are equal."""
        return run_names(self.runs)

    @property
    def steps(self) -> list[int] | None:
        """The steps of training: the integers at the end of the names of the folders. None unless each has another one."""
        names = [run.folder.resolve().name for run in self.runs]
        found = [STEP.search(name) for name in names if not DEFAULT_NAME.fullmatch(name)]
        steps = [int(match[0]) for match in found if match]
        return steps if len(set(steps)) == len(self.runs) else None

    def __str__(self) -> str:
        lines = [f"{len(self.runs)} runs against {self.names[0]}, Spearman x100"]
        for task in self.tasks.values():
            values = [f"{100 * result.spearman:.1f}" for result in task.agreements]
            lines.append(f"  {task.title}: {', '.join(values)}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def notes(self) -> list[str]:
        """Notes on datasets with few pairs."""
        return few_pairs_notes({task.title: task.pairs for task in self.tasks.values()})

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "runs": [str(run.folder) for run in self.runs],
            "fingerprints": [run.summary["fingerprint"] for run in self.runs],
            "measures": [run.summary["measure"] for run in self.runs],
            "antithetic": [run.summary.get("antithetic", False) for run in self.runs],
            "steps": self.steps,
            "tasks": {name: task.summary() for name, task in self.tasks.items()},
            "notes": self.notes,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row of plain data per task and run. Differences of the first run are None."""
        rows: list[dict[str, Any]] = []
        for name, task in self.tasks.items():
            for i, run in enumerate(self.names):
                summary, change = task.agreements[i].summary(), task.differences[i - 1].summary() if i else None
                rows.append(
                    {
                        "task": name,
                        "run": run,
                        "step": self.steps[i] if self.steps else None,
                        "pairs": task.pairs,
                        "spearman": summary["spearman"],
                        "ci95_low": summary["ci95"][0],
                        "ci95_high": summary["ci95"][1],
                        "difference": change and change["spearman"],
                        "difference_ci95_low": change and change["ci95"][0],
                        "difference_ci95_high": change and change["ci95"][1],
                        "p": change and change["p"],
                    }
                )
        return rows

    def to_pandas(self) -> DataFrame:
        """Return one row per task and run as a pandas data frame, with the columns of `rows`.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.rows())

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self.rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the correlations of all tasks over the steps of training, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        return draw_lines(ax, *self._chart())

    def _chart(self) -> tuple[list[str], dict[str, list[tuple[float, float, float]]], str, str]:
        """Return the arguments of a chart: the values of the x axis, the lines by title, and the names of the axes."""
        order = sorted(range(len(self.runs)), key=self.steps.__getitem__) if self.steps else list(range(len(self.runs)))
        values = [str(self.steps[i]) for i in order] if self.steps else self.names
        lines = {}
        for task in self.tasks.values():
            points = [(result.spearman, *result.ci95) for result in task.agreements]
            lines[task.title] = [(100 * points[i][0], 100 * points[i][1], 100 * points[i][2]) for i in order]
        return values, lines, "step of training" if self.steps else "run", "Spearman x100"

    def document(self) -> Document:
        """Return the runs as a document with one table per task and a chart."""
        names = self.names
        tables = []
        for task in self.tasks.values():
            rows = [[names[0], *_cells(task.agreements[0]), *[""] * 4]]
            for name, result, change in zip(names[1:], task.agreements[1:], task.differences, strict=True):
                interval = format_interval([100 * end for end in change.ci95])
                rows.append(
                    [name, *_cells(result), f"{100 * change.spearman:+.1f}", interval, f"{change.p:.2g}",
                     f"{100 * change.rank_correlation:.1f}"]
                )  # fmt: skip
            columns = ["run", "Spearman", INTERVAL, f"minus {names[0]}", INTERVAL, "p", "rank correlation"]
            tables.append(Table(f"{task.title}, {task.pairs} pairs", columns, rows))
        settings = [f"{name}: {describe_run(run.summary)}, {run.folder}" for name, run in zip(names, self.runs, strict=True)]
        values, lines, x_label, y_label = self._chart()
        charts = {f"Agreement by {x_label}": line_chart(values, lines, x_label, y_label)}
        return Document(f"Comparison of {len(self.runs)} runs", settings + self.notes, tables, NOTE, charts)


def diff_runs(folders: Sequence[str | Path]) -> RunSeries:
    """Compare runs, such as those of the checkpoints of a training, with the first of them on the tasks that all have.

    Args:
        folders: Folders of at least two runs of `conjure bench` or `conjure.evaluate`.

    Raises:
        InputError: If there are fewer than two folders, a folder contains no run, the runs have no common task, or their data
            for a task differ.
    """
    if isinstance(folders, str | Path) or len(folders) < 2:
        raise InputError(f"the runs are {folders!r}; give the folders of at least two runs")
    runs = [load_run(folder) for folder in folders]
    tasks = {}
    for name in common_tasks(runs):
        scores, distances = matched_distances(name, runs)
        tasks[name] = TaskSeries(
            title=runs[0].summary["tasks"][name]["title"],
            pairs=len(scores),
            agreements=[agreement(samples, scores) for samples in distances],
            differences=[difference(samples, distances[0], scores) for samples in distances[1:]],
        )
    return RunSeries(runs, tasks)


def _cells(result: Agreement) -> tuple[str, str]:
    return f"{100 * result.spearman:.1f}", format_interval([100 * end for end in result.ci95])

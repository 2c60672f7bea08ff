"""Comparison of two runs: which agrees better with human ratings, is the difference significant, and which pairs differ most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjure.deprecation import deprecated_property
from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.media import media_of
from conjure.diffusion.seeding import NoiseSeeds
from conjure.errors import InputError
from conjure.evaluation.correlation import percentile_ranks
from conjure.evaluation.few_pairs import few_pairs_notes
from conjure.evaluation.matched_runs import common_tasks, matched_distances, run_names
from conjure.evaluation.paired_comparison import PairedComparison, compare, compare_subsets
from conjure.evaluation.report import INTERVAL, describe_run, format_interval
from conjure.evaluation.run_folder import Run, load_run, process_from_settings
from conjure.io.documents import Document, Table, rows_to_html
from conjure.io.files import import_pandas
from conjure.io.text import quote_and_wrap
from conjure.plotting.charts import draw_points
from conjure.plotting.images import contact_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

NUM_RANK_CHANGES = 20
IMAGE_BATCH = 16  # images in one call of the pipeline

NOTE = (
    "Spearman x100 of negated distances with human ratings. The 95% CI of the difference and its two-sided p are from the same "
    "paired bootstrap over pairs, and over samples where there are several. The rank correlation is that between the distances "
    "of the two runs."
)
RANKS_NOTE = " Ranks are those of similarity, from 0 (least similar) to 100 (most similar)."


@dataclass(frozen=True)
class RankChange:
    """A pair whose rank of similarity differs between two runs.

    Attributes:
        task: Name of the task.
        texts: The two texts.
        ranks: Rank of similarity in each run, from 0 (least similar) to 100 (most similar).
        human_rank: Rank of similarity by human ratings.
    """

    task: str
    texts: tuple[str, str]
    ranks: tuple[float, float]
    human_rank: float

    people = deprecated_property("people", "human_rank")

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"texts": list(self.texts), "ranks": list(self.ranks), "human_rank": self.human_rank}


@dataclass(frozen=True, kw_only=True)
class TaskComparison(PairedComparison):
    """Two runs on the same task.

    Attributes:
        title: Title of the task.
        rank_changes: The pairs whose rank differs most between the runs; pairs whose rank is equal are left out.
        subsets: The comparison in each subset of the dataset, such as each part of speech.
    """

    title: str
    rank_changes: list[RankChange]
    subsets: dict[str, PairedComparison] = field(default_factory=dict)

    moved = deprecated_property("moved", "rank_changes")

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "title": self.title,
            **super().summary(),
            **({"subsets": {name: subset.summary() for name, subset in self.subsets.items()}} if self.subsets else {}),
            "rank_changes": [change.summary() for change in self.rank_changes],
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs on their common tasks.

    Attributes:
        runs: The runs.
        tasks: Comparison of each common task, by name.
    """

    runs: tuple[Run, Run]
    tasks: dict[str, TaskComparison]

    def summary(self) -> dict[str, Any]:
        """Return plain data for JSON; correlations are multiplied by 100."""
        return {
            "runs": [str(run.folder) for run in self.runs],
            "fingerprints": [run.summary["fingerprint"] for run in self.runs],
            "measures": [run.summary["measure"] for run in self.runs],
            "antithetic": [run.summary.get("antithetic", False) for run in self.runs],
            "tasks": {name: task.summary() for name, task in self.tasks.items()},
            "notes": self.notes,
        }

    @property
    def names(self) -> tuple[str, str]:
        """The names of the folders of the runs, or their paths if these are equal."""
        first, second = run_names(self.runs)
        return first, second

    def __str__(self) -> str:
        lines = [f"{self.names[0]} minus {self.names[1]}, Spearman x100"]
        for task in self.tasks.values():
            interval = format_interval([100 * end for end in task.difference.ci95])
            lines.append(
                f"  {task.title}: {100 * task.difference.spearman:+.1f} (95% CI: {interval}), p = {task.difference.p:.2g}"
            )
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def notes(self) -> list[str]:
        """Notes on datasets with few pairs."""
        return few_pairs_notes({task.title: task.pairs for task in self.tasks.values()})

    def to_pandas(self) -> DataFrame:
        """Return one row per task as a pandas data frame: both correlations x100, and their difference with its interval.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self._rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the difference of the correlations of each task with its 95% interval, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        rows = self._rows()
        values = [(row["difference"], row["ci95_low"], row["ci95_high"]) for row in rows]
        axes = draw_points(ax, [row["title"] for row in rows], values, f"{self.names[0]} minus {self.names[1]}, Spearman x100")
        axes.axvline(0, color="0.5", linewidth=0.8)
        return axes

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for name, task in self.tasks.items():
            summary = task.difference.summary()
            low, high = summary["ci95"]
            spearman = (agreement.summary()["spearman"] for agreement in task.agreements)
            columns = dict(zip(("spearman_first", "spearman_second"), spearman, strict=True))
            difference = {"difference": summary["spearman"], "ci95_low": low, "ci95_high": high, "p": summary["p"]}
            rows.append({"task": name, "title": task.title, "pairs": task.pairs, **columns, **difference})
        return rows

    def document(self, images: Mapping[str, bytes] | None = None, images_note: str = "") -> Document:
        """Return the comparison as a document.

        Args:
            images: PNG files by title, from `generate_images`.
            images_note: Why there are no images, if some were requested.
        """
        tasks, names = self.tasks.values(), self.names
        rows = [[task.title, *task.cells()] for task in tasks]
        columns = ["dataset", "pairs", *names, f"{names[0]} minus {names[1]}", INTERVAL, "p", "rank correlation"]
        tables = [Table("Datasets", columns, rows)]
        subset_rows = [[task.title, name, *subset.cells()] for task in tasks for name, subset in task.subsets.items()]
        if subset_rows:
            tables.append(Table("Subsets", ["dataset", "subset", *columns[1:]], subset_rows))
        for task in self.tasks.values():
            change_rows = [
                [str(place), *(f"{rank:.0f}" for rank in change.ranks), f"{change.human_rank:.0f}", *change.texts]
                for place, change in enumerate(task.rank_changes, 1)
            ]
            columns = ["", *(f"rank in {name}" for name in names), "human rank", "text 1", "text 2"]
            if change_rows:
                tables.append(Table(f"{task.title}: largest rank changes", columns, change_rows))
        settings = [f"{label}: {describe_run(run.summary)}, {run.folder}" for label, run in zip(names, self.runs, strict=True)]
        settings += [*self.notes, *filter(None, [images_note])]
        has_ranks = any(task.rank_changes for task in tasks)
        note = NOTE + RANKS_NOTE if has_ranks else NOTE
        return Document("Comparison of two runs", settings, tables, note, images or {})


def diff(first: str | Path, second: str | Path) -> Comparison:
    """Compare two runs on the tasks that both have.

    Args:
        first: Folder of a run of `conjure bench` or `conjure.evaluate`.
        second: Folder of another run.

    Raises:
        InputError: If a folder contains no run, the runs have no common task, or their data for a task differ.
    """
    runs = load_run(first), load_run(second)
    return Comparison(runs, {name: _compare_task(name, runs) for name in common_tasks(runs)})


def _compare_task(name: str, runs: tuple[Run, Run]) -> TaskComparison:
    first = runs[0].tables[name]
    scores, distances = matched_distances(name, runs)
    ranks = [percentile_ranks(-samples.mean(1)) for samples in distances]
    human_ranks = percentile_ranks(scores)
    changes = abs(ranks[0] - ranks[1])
    largest = [i for i in np.argsort(-changes, kind="stable")[:NUM_RANK_CHANGES] if changes[i] > 0]
    return TaskComparison(
        title=runs[0].summary["tasks"][name]["title"],
        **vars(compare(distances[0], distances[1], scores)),
        rank_changes=[
            RankChange(
                name,
                texts=(first.columns["text1"][i], first.columns["text2"][i]),
                ranks=(float(ranks[0][i]), float(ranks[1][i])),
                human_rank=float(human_ranks[i]),
            )
            for i in largest
        ],
        subsets=compare_subsets(distances[0], distances[1], scores, first.columns["part"]),
    )


def generate_images(comparison: Comparison, number: int, device: str | None = None) -> dict[str, bytes]:
    """Generate images of the pairs with the largest rank changes with the processes of both runs.

    The processes are loaded again by the model name and the settings in the run folders.

    Args:
        comparison: The comparison.
        number: Number of pairs per task.
        device: Device of the processes; None for the best one.

    Returns:
        One PNG file per pair, by its title.

    Raises:
        InputError: If a process cannot be loaded, or its fingerprint is not that of the run.
    """
    shown = [(task.title, change) for task in comparison.tasks.values() for change in task.rank_changes[:number]]
    if not shown:
        return {}
    pairs = [change.texts for _, change in shown]
    images_by_run = [_generate(run, pairs, device) for run in comparison.runs]
    return {
        f"{title}: “{change.texts[0]}” and “{change.texts[1]}”": contact_sheet(
            [images[change.texts] for images in images_by_run],
            rows=comparison.names,
            columns=[quote_and_wrap(text, 28, lines=3) for text in change.texts],
        )
        for title, change in shown
    }


def _generate(run: Run, pairs: Sequence[tuple[str, str]], device: str | None) -> dict[tuple[str, str], list[np.ndarray]]:
    """Return the two images (height, width, 3) in 0..1 of each pair of texts, from the noise of the first sample of the run.

    A video is shown as a strip of its frames, and a sound as its spectrogram.
    """
    try:
        process = process_from_settings(run.summary["process"], run.summary["fingerprint"], device)
    except InputError as error:
        raise InputError(f"images of the run {str(run.folder)!r} cannot be generated: {error}") from error
    noise = NoiseSeeds(run.summary["seed"], run.summary.get("antithetic", False))
    trajectories = {pair: noise.pair(0, *pair) for pair in pairs}
    kind, rate = process.kind, process.media_rate
    batch_size = AdaptiveBatchSize(process.device, IMAGE_BATCH if process.batch_prompts and kind == "image" else 1)

    def generate(batch: Sequence[tuple[str, int]], _: int) -> list[np.ndarray]:
        texts, seeds = zip(*batch, strict=True)
        outputs = process.run(texts, seeds, "np")
        return [media.picture() for media in media_of(outputs, kind, rate)]

    distinct = list(dict.fromkeys(itertools.chain(*trajectories.values())))  # pairs share texts
    generated = [picture for batch in map_batches(distinct, batch_size, generate) for picture in batch]
    pictures = dict(zip(distinct, generated, strict=True))
    return {pair: [pictures[first], pictures[second]] for pair, (first, second) in trajectories.items()}

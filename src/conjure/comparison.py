"""Two runs of `conjure bench` side by side: which agrees better with people, how sure that is, and on which pairs they part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjure.agreement import Agreement, Difference, agreement, difference, places
from conjure.document import Document, Table
from conjure.errors import InputError
from conjure.files import parquet_package
from conjure.report import ends, process_line

MOVED = 20


@dataclass(frozen=True)
class Run:
    """A finished run as its folder tells it. summary: its `summary.json`. tables: each task's columns, and the data's hash."""

    folder: Path
    summary: dict[str, Any]
    tables: dict[str, tuple[dict[str, list[Any]], str]]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Errors: `InputError` for a folder that holds no finished run."""
        pyarrow, parquet = parquet_package()
        folder = Path(folder)
        try:
            summary = json.loads((folder / "summary.json").read_text())
            tables = {}
            for name in summary["tasks"]:
                table = parquet.read_table(folder / f"{name}.parquet")
                columns = table.select(["text1", "text2", "score", "samples"]).to_pydict()
                tables[name] = columns, (table.schema.metadata or {})[b"data"].decode()
            process_line(summary["process"])
            summary["identity"], summary["measure"], summary["samples"]
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            raise InputError(f"{str(folder)!r} holds no finished run ({told}); give a folder that conjure bench wrote") from error
        return cls(folder, summary, tables)


@dataclass(frozen=True)
class Moved:
    """A pair on which two runs part. ranks: its rank of similarity in either run, 0 (least) to 100 (most); people: by people."""

    task: str
    texts: tuple[str, str]
    ranks: tuple[float, float]
    people: float


@dataclass(frozen=True)
class TaskComparison:
    """A task that both runs measured. agreements: of the one and the other. difference: the one less the other.

    moved: the pairs whose rank moved most between the runs; none whose rank did not.
    """

    title: str
    pairs: int
    agreements: tuple[Agreement, Agreement]
    difference: Difference
    moved: list[Moved]


@dataclass(frozen=True)
class Comparison:
    """Two runs on the tasks that they share."""

    runs: tuple[Run, Run]
    tasks: dict[str, TaskComparison]

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        return {
            "runs": [str(run.folder) for run in self.runs],
            "identities": [run.summary["identity"] for run in self.runs],
            "tasks": {
                name: {
                    "title": task.title,
                    "pairs": task.pairs,
                    **{key: [one.summary()[key] for one in task.agreements] for key in ("spearman", "ci95")},
                    "difference": task.difference.summary(),
                    "moved": [
                        {
                            "texts": list(one.texts),
                            "ranks": [round(rank, 1) for rank in one.ranks],
                            "people": round(one.people, 1),
                        }
                        for one in task.moved
                    ],
                }
                for name, task in self.tasks.items()
            },
        }

    def document(self, pictures: Mapping[str, bytes] | None = None) -> Document:
        """As a document, with `pictures` (PNG) by what they show."""
        rows = [
            [task.title, str(task.pairs), *(f"{one.spearman * 100:.1f}" for one in task.agreements),
             f"{100 * task.difference.spearman:+.1f}", ends([100 * end for end in task.difference.ci95]),
             f"{task.difference.p:.2g}", f"{100 * task.difference.ranks:.1f}"]
            for task in self.tasks.values()
        ]  # fmt: skip
        head = ["set", "pairs", "first", "second", "first less second", "95 %", "p", "ranks in common"]
        tables = [Table("Sets", head, rows)]
        for task in self.tasks.values():
            moved = [
                [str(at + 1), *(f"{rank:.0f}" for rank in one.ranks), f"{one.people:.0f}", *one.texts]
                for at, one in enumerate(task.moved)
            ]
            head = ["", "rank in first", "in second", "by people", "one text", "the other"]
            if moved:
                tables.append(Table(f"{task.title}: the pairs that moved most", head, moved))
        settings = [f"{which}: {process_line(run.summary['process'])}; k = {run.summary['samples']}, {run.folder}"
                    for which, run in zip(("first", "second"), self.runs, strict=True)]  # fmt: skip
        return Document("Two runs", settings, tables, NOTE + RANKS if len(tables) > 1 else NOTE, pictures or {})


NOTE = (
    "Spearman x100 of negated distances with human scores. The difference has a 95 % interval and a two-sided p from a paired "
    "bootstrap over pairs. Ranks in common is the rank correlation between the two runs' distances."
)
RANKS = " Ranks of pairs are those of similarity, 0 least and 100 most alike."


def diff(first: str | Path, second: str | Path) -> Comparison:
    """The runs in two folders that `conjure bench` or `conjure.evaluate` has written, on the tasks that both have.

    Errors: `InputError` where a folder holds no run, and where the runs share no task or have other data under one name.
    """
    runs = Run.read(first), Run.read(second)
    shared = [name for name in runs[0].tables if name in runs[1].tables]
    if not shared:
        names = " and ".join(", ".join(run.tables) for run in runs)
        raise InputError(f"the runs share no task; they have {names}; run conjure bench on the same tasks")
    return Comparison(runs, {name: _task(name, runs) for name in shared})


def _task(name: str, runs: Sequence[Run]) -> TaskComparison:
    (one, data), (other, others_data) = (run.tables[name] for run in runs)
    if data != others_data:
        raise InputError(f"the runs have other pairs under the name {name!r} ({len(one['score'])} and {len(other['score'])}); "
                         "run both on the same data, with the same --limit")  # fmt: skip
    scores = np.array(one["score"])
    distances = [np.array(table["samples"], dtype=float) for table in (one, other)]
    ranks = [places(-values.mean(1)) for values in distances]
    people = places(scores)
    moves = abs(ranks[0] - ranks[1])
    farthest = [i for i in np.argsort(-moves, kind="stable")[:MOVED] if moves[i] > 0]
    moved = [
        Moved(name, (one["text1"][i], one["text2"][i]), (float(ranks[0][i]), float(ranks[1][i])), float(people[i]))
        for i in farthest
    ]
    return TaskComparison(
        title=runs[0].summary["tasks"][name]["title"],
        pairs=len(scores),
        agreements=(agreement(distances[0], scores), agreement(distances[1], scores)),
        difference=difference(distances[0], distances[1], scores),
        moved=moved,
    )


def pictures_of(comparison: Comparison, number: int, device: str | None = None) -> dict[str, bytes]:
    """What both runs' processes draw for the two texts of the `number` pairs of each task that moved most, as PNG by title.

    The processes are loaded again by the names and settings that the runs tell, and must be the ones that ran.

    Errors: `InputError` where one cannot be loaded, or has changed since.
    """
    from conjure.render import contact_sheet

    chosen = [(task.title, moved) for task in comparison.tasks.values() for moved in task.moved[:number]]
    if not chosen:
        return {}
    texts = list(dict.fromkeys(text for _, moved in chosen for text in moved.texts))
    drawn = [dict(zip(texts, _draw(run, texts, device), strict=True)) for run in comparison.runs]
    return {
        f"{title}: “{moved.texts[0]}” and “{moved.texts[1]}”": contact_sheet(
            [[pictures[text] for text in moved.texts] for pictures in drawn],
            rows=["first run", "second run"], columns=moved.texts,
        )
        for title, moved in chosen
    }  # fmt: skip


def _draw(run: Run, texts: Sequence[str], device: str | None) -> list[np.ndarray]:
    """Pictures, (height, width, 3) in 0..1, from the noise of the run's first sample."""
    from conjure.estimate import noise_seed
    from conjure.loading import load
    from conjure.memory import Rows, in_batches
    from conjure.pictures import BATCH

    used = run.summary["process"]
    name = used["model"] if used["revision"] is None or "@" in used["model"] else f"{used['model']}@{used['revision']}"
    options = {key: used[key] for key in ("steps", "guidance", "height", "width", "unit")}
    process = load(name, **options, device=device, dtype=used["dtype"])
    if process.identity() != run.summary["identity"]:  # the sampler was chosen, by name or as the model's own
        others = (process.set(scheduler=scheduler) for scheduler in (used["scheduler"], "own"))
        process = next((one for one in others if one.identity() == run.summary["identity"]), process)
    if process.identity() != run.summary["identity"]:
        raise InputError(
            f"the model {name!r} is not the one that ran in {str(run.folder)!r}; leave out the pictures, or run it again"
        )
    seed = noise_seed(run.summary["seed"], 0)
    size = Rows(process.pipeline.device, 1 if process.alone else BATCH)
    drawn = in_batches(size, texts, lambda part: np.asarray(process.run(list(part), [seed] * len(part), "np")))
    return list(np.concatenate(list(drawn)))

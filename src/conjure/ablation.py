"""What the agreement of a process depends on: one setting varied at a time (Liu and Soatto 2026, Table 3 and Figure 3).

Steps, guidance, sampler, size and model each make another process, which has to be run. The prior over timesteps, the number of
samples and the weighting do not: one run's differences, step by step and sample by sample, give them all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conjure.agreement import Agreement, agreement
from conjure.benchmarks import Pairs, read
from conjure.checks import check_axes
from conjure.divergence import Measure
from conjure.document import Document, Table
from conjure.errors import InputError
from conjure.evaluation import Evaluation, distances_of, evaluate, write_file
from conjure.loading import load
from conjure.process import Process
from conjure.report import ends, settings_line
from conjure.run import Progress
from conjure.store import Store
from conjure.units import UNITS

PAPER_STEPS = {5: 70.1, 10: 70.3, 15: 70.1, 20: 68.9, 30: 70.2, 50: 69.5}  # Table 3: STS-B, Stable Diffusion v1.4, as printed


@dataclass(frozen=True)
class Cell:
    """One value of one setting. found: the agreement by task. identity: of the process that gave it."""

    axis: str
    value: str
    found: dict[str, Agreement]
    identity: str


@dataclass(frozen=True)
class Ablation:
    """Cells of all axes, with the evaluation that they vary. broken: texts for which numbers of some cell are not finite."""

    base: Evaluation
    cells: list[Cell]
    titles: dict[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """A row a cell and task, correlations x100."""
        return [
            {
                "axis": cell.axis,
                "value": cell.value,
                "task": task,
                "spearman": round(100 * found.spearman, 2),
                "low": round(100 * found.ci95[0], 2),
                "high": round(100 * found.ci95[1], 2),
                "pairs": found.pairs,
                "identity": cell.identity,
            }
            for cell in self.cells
            for task, found in cell.found.items()
        ]

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON."""
        base = self.base.summary()
        told = {key: value for key, value in base.items() if key != "tasks"}
        return {"cells": self.rows(), **told, "broken": list(self.broken)}

    def document(self) -> Document:
        """As a document: for each axis a table and a figure."""
        tables = []
        for axis in dict.fromkeys(cell.axis for cell in self.cells):
            cells = [cell for cell in self.cells if cell.axis == axis]
            paper = axis == "steps" and "stsb" in self.titles and self.base.tasks["stsb"].pairs.is_whole
            head = [
                axis,
                *(column for title in self.titles.values() for column in (title, "95 %")),
                *(["paper"] if paper else []),
            ]
            rows = [
                [cell.value, *(text for one in cell.found.values() for text in _told(one)),
                 *([f"{PAPER_STEPS[int(cell.value)]:.1f}" if int(cell.value) in PAPER_STEPS else ""] if paper else [])]
                for cell in cells
            ]  # fmt: skip
            tables.append(Table(axis, head, rows))
        return Document("What the agreement depends on", [settings_line(self.base)], tables, NOTE, self.figures())

    def figures(self) -> dict[str, bytes]:
        """A figure (PNG) an axis."""
        from conjure.render import lines

        found = {}
        for axis in dict.fromkeys(cell.axis for cell in self.cells):
            cells = [cell for cell in self.cells if cell.axis == axis]
            drawn = {
                title: [
                    (one.spearman * 100, one.ci95[0] * 100, one.ci95[1] * 100) for one in (cell.found[name] for cell in cells)
                ]
                for name, title in self.titles.items()
            }
            found[axis] = lines([cell.value for cell in cells], drawn, axis, "Spearman x100")
        return found

    def save(self, folder: str | Path) -> None:
        """Write `ablation.json`, `ablation.csv`, `ablation.md`, `ablation.html` and a PNG an axis. Errors: `InputError`."""
        folder, document = Path(folder), self.document()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows()[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        told = {"ablation.json": json.dumps(self.summary(), indent=1, default=str) + "\n", "ablation.csv": text.getvalue()}
        told |= {"ablation.md": document.markdown(), "ablation.html": document.page()}
        files = {name: content.encode() for name, content in told.items()}
        files |= {file_of(axis): figure for axis, figure in document.pictures.items()}
        for name, content in files.items():
            write_file(folder / name, content)


NOTE = (
    "Spearman x100 of negated distances with human scores, 95 % bootstrap intervals over pairs (and samples). One setting is "
    "varied at a time. Prior: uniform over the steps from the noisiest one to the named one. Single step: that one alone. "
    "Samples: the first k. The paper's column is Stable Diffusion v1.4 in Liu and Soatto (2026), as printed there."
)


def file_of(axis: str) -> str:
    """The name of the figure of an axis."""
    return f"{axis.replace(' ', '-')}.png"


def _told(found: Agreement) -> tuple[str, str]:
    return f"{100 * found.spearman:.1f}", ends([100 * end for end in found.ci95])


def ablate(
    process: Process,
    tasks: Sequence[Pairs | str],
    over: Mapping[str, Sequence[Any] | None],
    *,
    data: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
    started: Callable[[str], None] | None = None,
) -> Ablation:
    """The agreement of `process` with `tasks` over values of its settings.

    over: for each axis of `checks.AXES` the values, or None for the usual ones. guidance, steps, scheduler: of `Process.set`.
    size: pixels a side. model: names for `conjure.load`, each at its own guidance and sampler, loaded when its turn comes.
    prior, samples, weighting: take no values.
    data, samples, seed, progress, started: as in `conjure.evaluate`. out: a folder that keeps what was computed, as there; it
    may be that of a run of `conjure bench`, whose results are used. A store of the process is used instead.

    Errors: `InputError`, before anything is run, for an axis or a value that is not allowed (but for models).
    """
    processes = {axis: _processes(process, axis, values) for axis, values in check_axes(over).items()}
    judged = [read(task, data) if isinstance(task, str) else task for task in tasks]
    own = None
    if out is not None:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {str(out)!r} cannot be used: {error.strerror}; name another by --out") from error
        own = Store(Path(out) / "store.sqlite") if process.store is None else None
    store, broken = own or process.store, dict[str, None]()

    def measured(one: Process, what: str) -> Evaluation:
        if started:
            started(what)
        one = replace(one, store=store, workers=process.workers)
        found = evaluate(one, judged, samples=samples, seed=seed, progress=progress, started=started)
        broken.update(dict.fromkeys(found.broken))
        return found

    try:
        base = measured(process, "as given")
        cells = []
        for axis, varied in processes.items():
            for value, made in varied.items():
                found = measured(made(), f"{axis} {value}")
                agreements = {name: result.agreement for name, result in found.tasks.items()}
                cells.append(Cell(axis, value, agreements, found.identity))
            if not varied:
                cells += FREE[axis](base)
    finally:
        if own:
            own.close()
    ablation = Ablation(base, cells, {task.name: task.title for task in judged}, tuple(broken))
    if out is not None:
        ablation.save(out)
    return ablation


def _processes(process: Process, axis: str, values: Sequence[Any]) -> dict[str, Callable[[], Process]]:
    """What makes the processes of an axis, by value; nothing for an axis that needs no run of its own."""
    match axis:
        case "steps":
            varied = {str(steps): process.set(steps=steps) for steps in (_number(int, axis, value) for value in values)}
        case "guidance":
            varied = {f"{scale:g}": process.set(guidance=scale) for scale in (_number(float, axis, value) for value in values)}
        case "scheduler":
            varied = {str(value): process.set(scheduler=value) for value in values}
        case "size":
            varied = {str(side): process.set(height=side, width=side) for side in (_number(int, axis, value) for value in values)}
        case "model":
            settings = {"steps": process.steps, "device": str(process.pipeline.device), "dtype": process.settings()["dtype"]}
            # one after the other, as two large ones may not fit into one memory
            others = {model: partial(load, model, **settings) for model in values if model != process.model}
            return {process.model: partial(_same, process), **others}
        case _:
            varied = {}
    return {value: partial(_same, one) for value, one in varied.items()}


def _same(process: Process) -> Process:
    return process


def _number(kind: type, axis: str, value: Any) -> Any:
    try:
        if kind(value) == float(value):
            return kind(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{value!r} is no value of {axis}; allowed are {'whole ' if kind is int else ''}numbers")


def _prior(base: Evaluation) -> list[Cell]:
    """Uniform over the steps from the first, noisiest one to each, and each alone."""
    cells = []
    parts = {
        name: np.stack([result.measure.contributions(one).total for one in result.seen]) for name, result in base.tasks.items()
    }  # (pairs, samples, T)
    timesteps = next(iter(base.tasks.values())).seen[0].timesteps
    for axis, title, values_of in (
        ("prior", "{0:.0f} to {1:.0f}", lambda part, i: part[..., : i + 1].sum(-1)),
        ("single step", "{1:.0f}", lambda part, i: part[..., i]),
    ):
        for i, timestep in enumerate(timesteps):
            found = {name: agreement(values_of(part, i), base.tasks[name].pairs.scores) for name, part in parts.items()}
            cells.append(Cell(axis, title.format(timesteps[0], timestep), found, base.identity))
    return cells


def _samples(base: Evaluation) -> list[Cell]:
    return [
        Cell(
            "samples", str(k + 1),
            {name: agreement(result.distances[:, : k + 1], result.pairs.scores) for name, result in base.tasks.items()},
            base.identity,
        )
        for k in range(base.samples)
    ]  # fmt: skip


def _weighting(base: Evaluation) -> list[Cell]:
    """Every unit of the uniform weighting that exists at all levels, and nats."""
    cells = []
    for unit in (*UNITS, "nats"):
        measure = Measure(weighting="girsanov") if unit == "nats" else Measure(unit=unit)
        try:
            found = {
                name: agreement(distances_of(result.seen, measure), result.pairs.scores) for name, result in base.tasks.items()
            }
        except InputError:
            continue
        cells.append(Cell("weighting", unit, found, base.identity))
    return cells


FREE: dict[str, Callable[[Evaluation], list[Cell]]] = {"prior": _prior, "samples": _samples, "weighting": _weighting}

"""How well a process agrees with people: benchmarks measured, kept, and summed up.

One run of the trajectories gives the distance and all of the paper's baselines (Liu and Soatto 2026, Table 1), since every
measure is made of the same squared differences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from conjure.agreement import Agreement, agreement, reliability
from conjure.benchmarks import Pairs, read
from conjure.divergence import DIVERGENCES, Measure, Seen
from conjure.errors import InputError
from conjure.files import write_whole
from conjure.process import Process
from conjure.report import markdown, page
from conjure.run import Progress, cost, run
from conjure.similarity import Noise, Results, check, sources_of
from conjure.store import Store


@dataclass(frozen=True)
class TaskResult:
    """What a task gave. distances: shape (pairs, samples), of `measure`. seen: of each pair, for every other measure.

    divergences: the agreement of the distance and of each baseline, by name. parts: of the distance, by part of the set.
    reliability, ceiling: of the ranks over samples (`agreement.reliability`), NaN with one sample.
    """

    pairs: Pairs
    measure: Measure
    distances: np.ndarray
    seen: Sequence[Seen]
    divergences: dict[str, Agreement]
    parts: dict[str, Agreement]
    reliability: float
    ceiling: float

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        own = self.divergences[self.measure.divergence]
        known = {"reliability": self.reliability, "ceiling": self.ceiling} if self.distances.shape[1] > 1 else {}
        return {
            "title": self.pairs.title,
            "data": self.pairs.sha256,
            **_plain(own),
            "reliability": None,
            "ceiling": None,
            **{name: round(100 * value, 2) for name, value in known.items()},
            "divergences": {name: _plain(one) for name, one in self.divergences.items()},
            "parts": {name: _plain(one) for name, one in self.parts.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """A run over tasks. tasks: by name, in order. process, identity, samples, seed, antithetic, version: what was run."""

    tasks: dict[str, TaskResult]
    process: dict[str, Any]
    identity: str
    samples: int
    seed: int
    antithetic: bool
    version: str

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON: `tasks.{name}.{spearman, ci95, pairs, reliability}`, correlations x100."""
        return {
            "tasks": {name: result.summary() for name, result in self.tasks.items()},
            "samples": self.samples,
            "seed": self.seed,
            "antithetic": self.antithetic,
            "process": self.process,
            "identity": self.identity,
            "version": self.version,
        }


def evaluate(
    process: Process,
    tasks: Sequence[Pairs | str],
    *,
    data: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
    started: Callable[[str], None] | None = None,
) -> Evaluation:
    """The agreement of `process` with the judged pairs of `tasks`.

    tasks: names of `benchmarks.TASKS`, read from the folder `data` or from the Hub; or pairs of your own, from
    `benchmarks.read_file` or `benchmarks.of_frame`.
    samples, seed, divergence, weighting, reduction, antithetic: as in `conjure.distance`.
    out: a folder that keeps what was computed, source by source, so that the same call goes on where it was stopped, and another
    one with more samples or tasks finds what is there; in the end it holds a Parquet file a task, `summary.json` and the report.
    progress: over all tasks. started: told what is about to be run.

    Errors: `InputError`, also for a folder that cannot be written or holds a run of another process. Warns: `TextCutWarning`.
    """
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    judged = [read(task, data) if isinstance(task, str) else task for task in tasks]
    check((text for task in judged for pair in task.texts for text in pair), samples, noise, measure)
    sources = sources_of((pair for task in judged for pair in task.texts), range(samples), noise)
    results = Results(process, noise)
    store = _store(Path(out), process) if out is not None else None
    left = store.missing(sources) if store else sources
    if started:
        walks = f"{len(left):,} of {len(sources):,} trajectories to walk"
        started(f"{sum(map(len, judged)):,} pairs, {walks}, up to {sum(map(cost, left)) * process.steps:,} denoiser rows")
    for measured in run(process, left, progress=progress):
        if store:
            store.add(measured)
        else:
            results.add(measured, keep_final=True)
    if store:
        store.fill(results, sources)
        store.close()
    evaluation = Evaluation(
        {task.name: _result(results, task, measure, samples) for task in judged},
        process.settings(), process.identity(), samples, int(seed), antithetic, version("conjure"),
    )  # fmt: skip
    if out is not None:
        for name, result in evaluation.tasks.items():
            _write_parquet(Path(out) / f"{name}.parquet", result)
        summary = json.dumps(evaluation.summary(), indent=1, default=str) + "\n"
        for name, text in (("summary.json", summary), ("report.md", markdown(evaluation)), ("report.html", page(evaluation))):
            _write(Path(out) / name, text.encode())
    return evaluation


def _result(results: Results, task: Pairs, measure: Measure, samples: int) -> TaskResult:
    seen = [results.seen(*pair, samples) for pair in task.texts]
    measures = {measure.divergence: measure}
    if measure.weighting == "uniform":
        measures |= {name: Measure(name, "uniform", measure.unit, measure.reduction) for name in DIVERGENCES}
        if results.noise.antithetic:
            del measures["direct"]  # which compares pictures from the same noise
    values = {name: distances_of(seen, one) for name, one in measures.items()}
    own = values[measure.divergence]
    named = {} if task.part is None else {part: np.array([one == part for one in task.part]) for part in sorted(set(task.part))}
    known, ceiling = reliability(own)
    return TaskResult(
        task, measure, own, seen,
        divergences={name: agreement(value, task.scores) for name, value in values.items()},
        parts={part: agreement(own[at], task.scores[at]) for part, at in named.items() if at.sum() >= 3},
        reliability=known, ceiling=ceiling,
    )  # fmt: skip


def distances_of(seen: Sequence[Seen], measure: Measure) -> np.ndarray:
    """Distances, shape (pairs, samples), that `measure` makes of what was seen."""
    return np.stack([measure.contributions(one).total.sum(1) for one in seen])


def _plain(found: Agreement) -> dict[str, Any]:
    return {
        "spearman": round(100 * found.spearman, 2),
        "ci95": [round(100 * end, 2) for end in found.ci95],
        "pearson": round(100 * found.pearson, 2),
        "p": found.p,
        "pairs": found.pairs,
    }


def _store(folder: Path, process: Process) -> Store:
    """The store in `folder`, which belongs to one process: what else lies there is overwritten by the next run."""
    note = folder / "run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = json.loads(note.read_text()) if note.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {str(folder)!r} cannot be used: {error}; name another by --out") from error
    settings = json.loads(json.dumps({"identity": process.identity(), **process.settings()}, default=str))
    if held is None:
        _write(note, (json.dumps(settings, indent=1) + "\n").encode())
    elif held.get("identity") != settings["identity"]:
        changed = [f"{key} {held.get(key)!r} instead of {value!r}" for key, value in settings.items() if held.get(key) != value]
        shown = [one for one in changed if not one.startswith("identity")] or ["other weights"]
        raise InputError(f"the folder {str(folder)!r} holds a run with {'; '.join(shown)[:300]}; name another by --out")
    return Store(folder / "store.sqlite", process)


def _write_parquet(path: Path, result: TaskResult) -> None:
    """One row a pair: texts, human score, part, distance with its error, both directions, per step and per sample."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("tables of pairs need the package pyarrow: pip install 'conjure[bench]'") from error
    samples = result.distances.shape[1]
    parts = [result.measure.contributions(one) for one in result.seen]
    errors = result.distances.std(1, ddof=1) / samples**0.5 if samples > 1 else np.full(len(parts), np.nan)
    table = pyarrow.table(
        {
            "text1": result.pairs.first,
            "text2": result.pairs.second,
            "score": result.pairs.scores,
            "part": result.pairs.part or [None] * len(parts),
            "distance": result.distances.mean(1),
            "stderr": errors,
            "forward": [one.forward.sum(1).mean() for one in parts],
            "backward": [one.backward.sum(1).mean() for one in parts],
            "per_step": [one.total.mean(0).tolist() for one in parts],
            "samples": result.distances.tolist(),
        },
        metadata={"task": result.pairs.name, "data": result.pairs.sha256},
    )
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    _write(path, sink.getvalue().to_pybytes())


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}; make room and run the same command again"
        ) from error

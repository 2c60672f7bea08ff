"""How well a process agrees with people: benchmarks measured, kept, and summed up.

One run of the trajectories gives the distance and all of the paper's baselines (Liu and Soatto 2026, Table 1), since every
measure is made of the same squared differences.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from conjure import hub
from conjure.agreement import Agreement, Difference, agreement, check_scores, difference, reliability
from conjure.baselines import Baseline
from conjure.benchmarks import Pairs, read
from conjure.checks import check
from conjure.divergence import DIVERGENCES, Measure, Seen
from conjure.errors import InputError
from conjure.estimate import Noise
from conjure.failures import Group, groups
from conjure.files import parquet_package, write_whole
from conjure.memory import Rows
from conjure.process import Process
from conjure.report import markdown, page, settings_line
from conjure.run import Progress, Source, cost, end_of_batch, run
from conjure.similarity import Results, sources_of, told_broken
from conjure.store import Store

CHUNK = 64  # pairs that a baseline is asked for at once, and that a stop may lose


@dataclass(frozen=True)
class Compared:
    """What a baseline gave. distances: shape (pairs, samples). difference: of the process' agreement and its own.

    agreement, difference: None where all its distances are the same, as those of a divergence that saturates.
    """

    distances: np.ndarray
    agreement: Agreement | None
    difference: Difference | None
    parts: dict[str, Agreement]

    @classmethod
    def of(cls, task: Pairs, own: np.ndarray, distances: np.ndarray) -> Compared:
        """own: the distances of the process. Errors: `InputError` for distances that are not numbers."""
        if np.ptp(distances.mean(1)) == 0:
            return cls(distances, None, None, {})
        apart = difference(own, distances, task.scores)
        return cls(distances, agreement(distances, task.scores), apart, _parts(task, distances))

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        return {
            **({"spearman": None, "all": float(self.distances[0, 0])} if self.agreement is None else self.agreement.summary()),
            "process less this": None if self.difference is None else self.difference.summary(),
            "parts": {name: one.summary() for name, one in self.parts.items()},
        }


@dataclass(frozen=True)
class TaskResult:
    """What a task gave. distances: shape (pairs, samples), of `measure`. seen: of each pair, for every other measure.

    agreement: of the distance with people. divergences: of the distance and of each of the paper's baselines, by name.
    parts: of the distance, by part of the set. groups: where it and people part. baselines: by name.
    reliability, ceiling: of the ranks over samples (`agreement.reliability`), NaN with one sample.
    left_out: pairs that stand in nothing of this, since the model's numbers are not finite for one of their texts.
    """

    pairs: Pairs
    measure: Measure
    distances: np.ndarray
    seen: Sequence[Seen]
    divergences: dict[str, Agreement]
    parts: dict[str, Agreement]
    groups: list[Group]
    baselines: dict[str, Compared]
    reliability: float
    ceiling: float
    left_out: int

    @property
    def agreement(self) -> Agreement:
        return self.divergences[self.measure.divergence]

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON, correlations x100."""
        known = {"reliability": self.reliability, "ceiling": self.ceiling} if self.distances.shape[1] > 1 else {}
        return {
            "title": self.pairs.title,
            "data": self.pairs.sha256,
            "whole": self.pairs.is_whole,
            "left out": self.left_out,
            **self.agreement.summary(),
            "reliability": None,
            "ceiling": None,
            **{name: round(100 * value, 2) for name, value in known.items()},
            "divergences": {name: one.summary() for name, one in self.divergences.items()},
            "parts": {name: one.summary() for name, one in self.parts.items()},
            **_means(self.parts),
            "baselines": {name: one.summary() for name, one in self.baselines.items()},
            "groups": [one.summary() for one in self.groups],
        }


@dataclass(frozen=True)
class Evaluation:
    """A run over tasks. tasks: by name, in order. measure: of all their distances.

    process, identity, samples, seed, antithetic, version: what was run.
    broken: texts for which the model's numbers are not finite; pairs with them are left out.
    """

    tasks: dict[str, TaskResult]
    measure: Measure
    process: dict[str, Any]
    identity: str
    samples: int
    seed: int
    antithetic: bool
    version: str
    broken: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain data for JSON: `tasks.{name}.{spearman, ci95, pairs, reliability}`, correlations x100."""
        return {
            "tasks": {name: result.summary() for name, result in self.tasks.items()},
            "measure": self.told_measure(),
            "samples": self.samples,
            "seed": self.seed,
            "antithetic": self.antithetic,
            "process": self.process,
            "identity": self.identity,
            "version": self.version,
            "broken": list(self.broken),
        }

    def told_measure(self) -> dict[str, str]:
        """What the distances are, in plain words."""
        one = self.measure
        return {"divergence": one.divergence, "weighting": one.weighting, "reduction": one.reduction, "unit": str(one)}


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
    baselines: Sequence[Baseline] = (),
    out: str | Path | None = None,
    progress: Progress | None = None,
    started: Callable[[str], None] | None = None,
) -> Evaluation:
    """The agreement of `process` with the judged pairs of `tasks`.

    tasks: names of `benchmarks.TASKS`, read from the folder `data` or from the Hub; or pairs of your own, from
    `benchmarks.read_file` or `benchmarks.of_frame`.
    samples, seed, divergence, weighting, reduction, antithetic: as in `conjure.distance`.
    baselines: other measures of the same pairs, from `conjure.baselines`.
    out: a folder for a Parquet file a task, `summary.json`, the report and the Hub's files; what was computed is kept there as
    well, source by source, unless the process has a store of its own. So the same call goes on where it was stopped, and another
    one with more samples or tasks finds what is there.
    progress: over all tasks. started: told what is about to be run, and about how long it takes.

    Errors: `InputError`, also for a folder that cannot be written or holds a run of another process. Warns: `TextCutWarning`.
    """
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    judged = [read(task, data) if isinstance(task, str) else task for task in tasks]
    _check(judged)
    if out is not None:
        parquet_package()
    check((text for task in judged for pair in task.texts for text in pair), samples, noise, measure)
    settings, identity = process.settings(), process.identity()
    own = None
    if out is not None:
        _claim(Path(out), {"identity": identity, **settings})
        if process.store is None:
            own = Store(Path(out) / "store.sqlite")
            process = replace(process, store=own)
    try:
        # baselines first: they are quick, and what they cannot take is said before the long part
        others = {one.name: _compared(one, judged, process.store, progress, started) for one in baselines}
        results = _results(process, judged, samples, noise, progress, started)
        broken = tuple(results.broken())
        found = {task.name: _result(results, task, broken, measure, samples, others) for task in judged}
    finally:
        if own:
            own.close()
    evaluation = Evaluation(found, measure, settings, identity, samples, int(seed), antithetic, version("conjure"), broken)
    if out is not None:
        _write_all(Path(out), evaluation)
    return evaluation


def _check(judged: Sequence[Pairs]) -> None:
    """Refuse what would not correlate, or would be taken for another, before anything is run. Errors: `InputError`."""
    names = [task.name for task in judged]
    if not names:
        raise InputError("no task is given; give names, or pairs of your own")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tasks are called {name!r}; give each a name of its own, as in of_frame(frame, name='mine')")
    for task in judged:
        check_scores(task.scores)


def _results(
    process: Process,
    judged: Sequence[Pairs],
    samples: int,
    noise: Noise,
    progress: Progress | None,
    started: Callable[[str], None] | None,
) -> Results:
    sources = sources_of((pair for task in judged for pair in task.texts), range(samples), noise)
    results = Results(process, noise)

    def announce(left: Sequence[Source]) -> None:
        if started:
            walks = f"{len(left):,} of {len(sources):,} trajectories to walk"
            rows = f"up to {sum(map(cost, left)) * process.steps:,} denoiser rows"
            told = forecast(process, left)
            started(f"{sum(map(len, judged)):,} pairs, {walks}, {rows}{'' if told is None else f', {told}'}")

    results.measure(process, sources, finals=True, progress=progress, started=announce)
    return results


@dataclass(frozen=True)
class Forecast:
    """About what a run will take: seconds, and bytes of last latents, which the divergence `direct` compares."""

    seconds: float
    size: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time = f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.1f} hours"
        if minutes < 1.5:
            time = "about a minute"
        return time + (f", {self.size / 1e9:.1f} GB of latents" if self.size > 5e8 else "")


def forecast(process: Process, sources: Sequence[Source]) -> Forecast | None:
    """What `run` will take for `sources`: one batch of them is timed, at three steps at most. None for fewer than four batches,
    and for workers, who tell soon enough.

    An accelerator, whose batches grow, is quicker than that.
    """
    if not sources or process.workers:
        return None
    start = len(sources) // 2  # not where short texts may stand together
    batch = sources[start : end_of_batch(sources, start, Rows(process.pipeline.device, process.rows).number)]
    batches = sum(map(cost, sources)) / sum(map(cost, batch))
    if batches < 4:
        return None
    times, size = [time.perf_counter()], 0
    brief = replace(process, steps=min(3, process.steps))
    for measured in run(brief, batch, progress=lambda *_: times.append(time.perf_counter())):
        size = measured.final.numel() * 4
    seconds = batches * (times[-1] - times[0] + (process.steps - brief.steps) * (times[-1] - times[-2]))
    return Forecast(seconds, size * len(sources))


def _compared(
    baseline: Baseline,
    judged: Sequence[Pairs],
    store: Store | None,
    progress: Progress | None,
    started: Callable[[str], None] | None,
) -> dict[tuple[str, str], np.ndarray]:
    """Distances (samples,) of a baseline, by pair."""
    pairs = list(dict.fromkeys(pair for task in judged for pair in task.texts))
    kept = store.scored(baseline.settings()) if store else None
    known = kept.known() if kept else {}
    left = [pair for pair in pairs if pair not in known]
    if started and left:
        started(f"baseline {baseline.name}: {len(left):,} of {len(pairs):,} pairs")
    for at in range(0, len(left), CHUNK):
        part = left[at : at + CHUNK]
        distances = baseline.distances(part)
        if kept:
            kept.add(part, distances)
        known.update(zip(part, distances, strict=True))
        if progress:
            progress(at + len(part), len(left))
    return known


def _result(
    results: Results,
    task: Pairs,
    broken: Sequence[str],
    measure: Measure,
    samples: int,
    others: dict[str, dict[tuple[str, str], np.ndarray]],
) -> TaskResult:
    """What the pairs of `task` give, without those that have a `broken` text. Errors: `InputError` where too few are left."""
    whole, task = task, task.without(broken) if broken else task
    try:
        check_scores(task.scores)
    except InputError as error:
        raise InputError(f"{told_broken(broken)}; of what is left of {task.title}: {error}") from error
    seen = [results.seen(*pair, samples) for pair in task.texts]
    measures = {measure.divergence: measure}
    if measure.weighting == "uniform":
        measures |= {name: Measure(name, "uniform", measure.unit, measure.reduction) for name in DIVERGENCES}
        if results.noise.antithetic:
            del measures["direct"]  # which compares pictures from the same noise
    values = {name: distances_of(seen, one) for name, one in measures.items()}
    own = values[measure.divergence]
    known, ceiling = reliability(own)
    return TaskResult(
        task, measure, own, seen,
        divergences={name: agreement(value, task.scores) for name, value in values.items()},
        parts=_parts(task, own),
        groups=groups(task, own),
        baselines={name: Compared.of(task, own, np.stack([of[pair] for pair in task.texts])) for name, of in others.items()},
        reliability=known, ceiling=ceiling,
        left_out=len(whole) - len(task),
    )  # fmt: skip


def _parts(task: Pairs, distances: np.ndarray) -> dict[str, Agreement]:
    named = {} if task.part is None else {part: np.array([one == part for one in task.part]) for part in sorted(set(task.part))}
    varied = {
        part: at
        for part, at in named.items()
        if at.sum() >= 3 and np.ptp(distances[at].mean(1)) != 0 and np.ptp(task.scores[at]) != 0
    }
    return {part: agreement(distances[at], task.scores[at]) for part, at in varied.items()}


def distances_of(seen: Sequence[Seen], measure: Measure) -> np.ndarray:
    """Distances, shape (pairs, samples), that `measure` makes of what was seen."""
    return np.stack([measure.contributions(one).total.sum(1) for one in seen])


def _means(parts: dict[str, Agreement]) -> dict[str, Any]:
    """Mean Spearman x100 over the parts of a set, plain and weighted by their pairs."""
    if len(parts) < 2:
        return {"mean_of_parts": None, "weighted_mean_of_parts": None}
    values, sizes = [one.spearman for one in parts.values()], [one.pairs for one in parts.values()]
    return {
        "mean_of_parts": round(100 * float(np.mean(values)), 2),
        "weighted_mean_of_parts": round(100 * float(np.average(values, weights=sizes)), 2),
    }


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make `folder`, which belongs to one process: what else lies there is overwritten by the next run."""
    note = folder / "run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = json.loads(note.read_text()) if note.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(f"the folder {str(folder)!r} cannot be used: {error}; name another by --out") from error
    settings = json.loads(json.dumps(settings, default=str))
    if held is None:
        write_file(note, (json.dumps(settings, indent=1) + "\n").encode())
    elif held.get("identity") != settings["identity"]:
        changed = [f"{key} {held.get(key)!r} instead of {value!r}" for key, value in settings.items() if held.get(key) != value]
        shown = [one for one in changed if not one.startswith("identity")] or ["other weights"]
        raise InputError(f"the folder {str(folder)!r} holds a run with {'; '.join(shown)[:300]}; name another by --out")


def _write_all(folder: Path, evaluation: Evaluation) -> None:
    for name, result in evaluation.tasks.items():
        _write_parquet(folder / f"{name}.parquet", result)
    told = {"summary.json": json.dumps(evaluation.summary(), indent=1, default=str) + "\n"}
    told |= {"report.md": markdown(evaluation), "report.html": page(evaluation)}
    told |= {f"hub/{path}": text for path, text in hub.files(evaluation, settings_line(evaluation)).items()}
    for name, text in told.items():
        write_file(folder / name, text.encode())
    for path in (folder / "hub").rglob("*.yaml"):
        if str(path.relative_to(folder)) not in told:  # of an earlier run
            path.unlink()


def _write_parquet(path: Path, result: TaskResult) -> None:
    """One row a pair: texts, human score, part, distance with its error, both directions, per step and sample, baselines."""
    pyarrow, parquet = parquet_package()
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
            **{f"baseline {name}": one.distances.mean(1) for name, one in result.baselines.items()},
        },
        metadata={
            "task": result.pairs.name,
            "data": result.pairs.sha256,
            "divergence": result.measure.divergence,
            "weighting": result.measure.weighting,
            "unit": str(result.measure),
        },
    )
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    write_file(path, sink.getvalue().to_pybytes())


def write_file(path: Path, content: bytes) -> None:
    """Write a file of a run, whole or not at all. Errors: `InputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}; make room and run the same command again"
        ) from error

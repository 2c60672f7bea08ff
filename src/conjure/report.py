"""An evaluation as a document: Markdown, and one HTML page that needs no other file, with the paper's tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from conjure.benchmarks import SEVEN
from conjure.digits import counted
from conjure.document import Document, Table
from conjure.failures import farthest, residuals
from conjure.similarity import told_broken

if TYPE_CHECKING:
    from conjure.evaluation import Evaluation, TaskResult

# Spearman x100 of Stable Diffusion v1.4 in Liu and Soatto (2026), Tables 1 and 2: the paper's own figures, not run here
PAPER = {
    "stsb": 70.3, "sts12": 57.9, "sts13": 61.0, "sts14": 60.8, "sts15": 73.6, "sts16": 67.9, "sickr": 66.0, "rg65": 60.2,
    "simlex999": 20.5,
}  # fmt: skip
PAPER_PARTS = {("simlex999", "adjective"): 34.0, ("simlex999", "noun"): 30.0, ("simlex999", "verb"): -14.3}
PAPER_ENCODER = {"rg65": 77.5, "simlex999": 34.2}
PAPER_MEANS = {"jeffreys": 65.4, "kl": 64.0, "initial": 53.0, "final": 56.9, "direct": 51.3}


def markdown(evaluation: Evaluation, pairs: bool = True) -> str:
    """The report in Markdown. pairs: with the kinds of pairs, and the pairs, on which model and people part."""
    return _document(evaluation, pairs).markdown()


def page(evaluation: Evaluation) -> str:
    """The report as one HTML page."""
    return _document(evaluation, pairs=True).page()


NOTE = (
    "Spearman x100 of negated distances with human scores; intervals are 95 % bootstrap percentiles over pairs (and over samples "
    "where there are several). Reliability is that of the ranks over samples, the ceiling what noise in the distances leaves to "
    "be reached. The paper's column is Stable Diffusion v1.4 in Liu and Soatto (2026), as printed there."
)
BIAS = " Bias is the mean rank by the model less that by people, of 100: positive where the model finds texts more alike."


def settings_line(evaluation: Evaluation) -> str:
    """What was run, in one line."""
    noise = ", antithetic" if evaluation.antithetic else ""
    measured = f"{evaluation.measure.divergence}, {evaluation.measure.weighting}, {evaluation.measure}"
    return (
        f"{measured}; {process_line(evaluation.process)}; k = {evaluation.samples}, seed {evaluation.seed}{noise}; "
        f"conjure {evaluation.version}, identity {evaluation.identity[:12]}"
    )


def process_line(used: Mapping[str, Any]) -> str:
    """The settings of a process in one line."""
    guidance = "" if used["guidance"] is None else f", guidance {used['guidance']:g}"
    return (
        f"{used['model']}{'@' + used['revision'] if used['revision'] else ''} ({used['pipeline']}), {used['scheduler']}, "
        f"T = {used['steps']}{guidance}, unit {used['unit']}, {used['dtype']}"
    )


def ends(interval: Sequence[float] | None) -> str:
    """An interval in words."""
    return "" if interval is None else " to ".join(f"{end:.1f}" for end in interval)


def _document(evaluation: Evaluation, pairs: bool) -> Document:
    summary: dict[str, dict[str, Any]] = evaluation.summary()["tasks"]
    theirs = evaluation.measure.divergence == "jeffreys" and evaluation.measure.weighting == "uniform"
    for task in summary.values():  # whether the paper's figures may stand beside it
        task["paper"] = task["whole"] and theirs
    tables = [_sets(summary), _divergences(summary)]
    tables += [table for table in (_baselines(summary), _parts(summary)) if table.rows]
    for name, result in evaluation.tasks.items() if pairs else ():
        tables += _failures(summary[name], result)
    told = [settings_line(evaluation)]
    if evaluation.broken:
        out = sum(result.left_out for result in evaluation.tasks.values())
        told.append(f"{told_broken(evaluation.broken)}; left out with them: {counted(out, 'pair')}.")
    return Document("Agreement with people", told, tables, NOTE + BIAS if pairs else NOTE)


def _is_whole(summary: dict[str, dict[str, Any]], name: str) -> bool:
    return name in summary and summary[name]["whole"]


def mean_of_seven(summary: dict[str, dict[str, Any]], *keys: str) -> tuple[float, float] | None:
    """Mean Spearman x100 of the paper's seven sets, and weighted by pairs, of what `keys` lead to; None unless all are there."""
    if not all(_is_whole(summary, name) for name in SEVEN):
        return None
    values = []
    for name in SEVEN:
        found = summary[name]
        for key in keys:
            if key not in found:
                return None
            found = found[key]
        if found["spearman"] is None:
            return None
        values.append(found["spearman"])
    counts = [summary[name]["pairs"] for name in SEVEN]
    weighted = sum(count * value for count, value in zip(counts, values, strict=True)) / sum(counts)
    return sum(values) / len(SEVEN), weighted


def _sets(summary: dict[str, dict[str, Any]]) -> Table:
    def paper(name: str) -> str:
        return f"{PAPER[name]:.1f}" if name in PAPER and summary[name]["paper"] else ""

    rows = []
    for name, task in summary.items():
        sure = "" if task["reliability"] is None else f"{task['reliability']:.1f} ({task['ceiling']:.1f})"
        rows.append(
            [task["title"], str(task["pairs"]), f"{task['spearman']:.1f}", ends(task["ci95"]), f"{task['pearson']:.1f}", sure,
             paper(name)]
        )  # fmt: skip
    if (means := mean_of_seven(summary)) is not None:
        pairs = str(sum(summary[name]["pairs"] for name in SEVEN))
        theirs = f"{PAPER_MEANS['jeffreys']:.1f}" if summary["stsb"]["paper"] else ""
        rows.append(["mean of the seven", pairs, f"{means[0]:.1f}", "", "", "", theirs])
        rows.append(["mean weighted by pairs", pairs, f"{means[1]:.1f}", "", "", "", ""])
    return Table("Sets", ["set", "pairs", "Spearman", "95 %", "Pearson", "reliability (ceiling)", "paper"], rows)


def _divergences(summary: dict[str, dict[str, Any]]) -> Table:
    names = list(next(iter(summary.values()))["divergences"])
    rows = [[task["title"], *(f"{task['divergences'][name]['spearman']:.1f}" for name in names)] for task in summary.values()]
    if mean_of_seven(summary) is not None:
        means = [mean_of_seven(summary, "divergences", name) for name in names]
        rows.append(["mean of the seven", *("" if one is None else f"{one[0]:.1f}" for one in means)])
        rows.append(["the paper's mean", *(f"{PAPER_MEANS[name]:.1f}" for name in names)])
    return Table("Divergences", ["set", *names], rows)


def _baselines(summary: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for name, task in summary.items():
        for baseline, one in task["baselines"].items():
            less = one["process less this"]
            if less is None:
                rows.append([task["title"], baseline, f"all {one['all']:.3g}", *[""] * 6])
                continue
            paper = PAPER_ENCODER.get(name) if baseline == "encoder" and task["paper"] else None
            rows.append(
                [task["title"], baseline, f"{one['spearman']:.1f}", ends(one["ci95"]), f"{less['spearman']:+.1f}",
                 ends(less["ci95"]), f"{less['p']:.2g}", f"{less['rank correlation']:.1f}",
                 "" if paper is None else f"{paper:.1f}"]
            )  # fmt: skip
    for baseline in next(iter(summary.values()))["baselines"]:
        if (means := mean_of_seven(summary, "baselines", baseline)) is not None:
            rows.append(["mean of the seven", baseline, f"{means[0]:.1f}", *[""] * 6])
    head = ["set", "baseline", "Spearman", "95 %", "process less this", "95 %", "p", "ranks in common", "paper"]
    return Table("Baselines", head, rows)


def _parts(summary: dict[str, dict[str, Any]]) -> Table:
    names = list(next(iter(summary.values()))["baselines"])
    rows = []
    for name, task in summary.items():
        for part, one in task["parts"].items():
            paper = PAPER_PARTS.get((name, part)) if task["paper"] else None
            parts = [task["baselines"][other]["parts"].get(part) for other in names]
            others = ["" if other is None else f"{other['spearman']:.1f}" for other in parts]
            rows.append(
                [task["title"], part, str(one["pairs"]), f"{one['spearman']:.1f}", ends(one["ci95"]), *others,
                 "" if paper is None else f"{paper:.1f}"]
            )  # fmt: skip
        if task["mean_of_parts"] is not None:
            blank = [""] * (len(names) + 1)
            rows.append([task["title"], "mean of parts", str(task["pairs"]), f"{task['mean_of_parts']:.1f}", "", *blank])
            rows.append(
                [task["title"], "weighted by pairs", str(task["pairs"]), f"{task['weighted_mean_of_parts']:.1f}", "", *blank]
            )
    return Table("Parts", ["set", "part", "pairs", "Spearman", "95 %", *names, "paper"], rows)


def kinds_table(title: str, summary: dict[str, Any]) -> Table:
    """Where the model and people part by kind of pair, of a task's summary."""
    rows = [
        [one["kind"], one["name"], str(one["pairs"]), f"{one['bias']:+.1f}", ends(one["bias95"]),
         "" if one["spearman"] is None else f"{one['spearman']:.1f}", ends(one["ci95"])]
        for one in summary["groups"]
    ]  # fmt: skip
    return Table(title, ["kind", "group", "pairs", "bias", "95 %", "Spearman within", "95 %"], rows)


def _failures(summary: dict[str, Any], result: TaskResult) -> list[Table]:
    """Where the model and people part, by kind of pair and pair by pair."""
    kinds = kinds_table(f"{summary['title']}: kinds of pairs", summary)
    tables = [kinds] if kinds.rows else []
    off = residuals(result.distances, result.pairs.scores)
    for title, numbers in zip(("more", "less"), farthest(result.distances, result.pairs.scores), strict=True):
        rows = [
            [str(at + 1), f"{off[i]:+.0f}", f"{result.pairs.scores[i]:g}", result.pairs.first[i], result.pairs.second[i]]
            for at, i in enumerate(numbers)
        ]
        head = ["", "rank by model less by people", "score", "one text", "the other"]
        tables.append(Table(f"{summary['title']}: {title} alike to the model than to people", head, rows))
    return tables

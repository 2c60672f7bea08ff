"""The tables of an evaluation, beside the figures of the paper, and its report in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conjure.diffusion.load_options import describe_changes
from conjure.evaluation.datasets import PAPER_TABLE_1
from conjure.evaluation.error_analysis import largest_residuals, residuals
from conjure.evaluation.report_notes import glossary
from conjure.evaluation.results import Evaluation, TaskResult
from conjure.io.documents import Document, Table

# Spearman x100 of Stable Diffusion v1.4, as printed in Tables 1 and 2 of Liu and Soatto (2026); not measured with this package
PAPER = {
    "stsb": 70.3, "sts12": 57.9, "sts13": 61.0, "sts14": 60.8, "sts15": 73.6, "sts16": 67.9, "sickr": 66.0, "rg65": 60.2,
    "simlex999": 20.5,
}  # fmt: skip
PAPER_PARTS = {("simlex999", "adjective"): 34.0, ("simlex999", "noun"): 30.0, ("simlex999", "verb"): -14.3}
PAPER_ENCODER = {"rg65": 77.5, "simlex999": 34.2}
PAPER_MEANS = {"jeffreys": 65.4, "kl": 64.0, "initial": 53.0, "final": 56.9, "direct": 51.3}

INTERVAL = "95% CI"
TITLE = "Agreement with human ratings"


def markdown(evaluation: Evaluation, pairs: bool = True) -> str:
    """Return the report in Markdown.

    Args:
        evaluation: The results.
        pairs: Whether the report contains the kinds of pairs, and the pairs, for which model and human ratings differ.
    """
    tasks: dict[str, dict[str, Any]] = evaluation.summary()["tasks"]
    tables = summary_tables(evaluation, tasks)
    notes = glossary(tables, pairs).values()
    for name, result in evaluation.tasks.items() if pairs else ():
        tables += error_tables(tasks[name], result)
    return Document(TITLE, [settings_line(evaluation), *evaluation.notes], tables, " ".join(notes)).to_markdown()


def settings_line(evaluation: Evaluation) -> str:
    """Return what was run, in one line."""
    summary = {
        "measure": evaluation.measure_dict(), "process": evaluation.process, "samples": evaluation.samples,
        "seed": evaluation.seed, "antithetic": evaluation.antithetic,
    }  # fmt: skip
    return f"{describe_run(summary)}; conjure {evaluation.version}, fingerprint {evaluation.fingerprint[:12]}"


def describe_run(summary: Mapping[str, Any]) -> str:
    """Return what was measured on which process, in one line, from the entries of a summary."""
    measure = summary["measure"]
    antithetic = ", antithetic" if summary.get("antithetic") else ""  # earlier versions did not write it
    return (
        f"{measure['divergence']}, {measure['weighting']}, {measure['unit']}; {describe_process(summary['process'])}; "
        f"k = {summary['samples']}, seed {summary['seed']}{antithetic}"
    )


def describe_process(settings: Mapping[str, Any]) -> str:
    """Return the settings of a process in one line."""
    revision = f"@{settings['revision']}" if settings["revision"] else ""
    guidance = "" if settings["guidance"] is None else f", guidance {settings['guidance']:g}"
    return (
        f"{settings['model']}{revision} ({settings['pipeline']}), {settings['scheduler']}, T = {settings['steps']}{guidance}, "
        f"{settings['dtype']}" + "".join(f", {change}" for change in describe_changes(settings))
    )


def format_interval(interval: Sequence[float] | None) -> str:
    """Return an interval with one decimal place; empty for None."""
    return "" if interval is None else " to ".join(f"{end:.1f}" for end in interval)


def mean_of_table_1(tasks: Mapping[str, Any], *keys: str) -> tuple[float, float] | None:
    """Return the mean Spearman x100 over the datasets of the paper's Table 1, plain and weighted by numbers of pairs.

    Args:
        tasks: Summaries by name of the task, as in `Evaluation.summary()["tasks"]`.
        keys: The keys from the summary of a task to the one whose correlation is averaged; none for the distance itself.

    Returns:
        Both means; None unless all datasets are complete and have the correlation.
    """
    if not all(name in tasks and tasks[name]["is_complete"] for name in PAPER_TABLE_1):
        return None
    values = []
    for name in PAPER_TABLE_1:
        summary = tasks[name]
        for key in keys:
            if key not in summary:
                return None
            summary = summary[key]
        if summary["spearman"] is None:
            return None
        values.append(summary["spearman"])
    counts = [tasks[name]["pairs"] for name in PAPER_TABLE_1]
    weighted = sum(count * value for count, value in zip(counts, values, strict=True)) / sum(counts)
    return sum(values) / len(PAPER_TABLE_1), weighted


def kinds_table(title: str, summary: Mapping[str, Any]) -> Table:
    """Return the table of biases and correlations by kind of pair, from the summary of a task.

    It compares the process with its text encoder where the baseline `encoder` was measured. Summaries of earlier versions have no
    such comparison.
    """
    rows = []
    for group in summary["groups"]:
        within = ["" if group["spearman"] is None else f"{group['spearman']:.1f}", format_interval(group["ci95"])]
        encoder = ["", "", ""]
        if group.get("encoder") is not None:
            spearman, change = group["encoder"]["spearman"], group["encoder"]["difference"]
            encoder = [f"{spearman:.1f}", f"{change['spearman']:+.1f}", format_interval(change["ci95"])]
        bias = [f"{group['bias']:+.1f}", format_interval(group["bias_ci95"])]
        rows.append([group["kind"], group["name"], str(group["pairs"]), *bias, *within, *encoder])
    columns = ["kind", "group", "pairs", "bias", INTERVAL, "Spearman within group", INTERVAL]
    return Table(title, [*columns, "text encoder within group", "process minus encoder", INTERVAL], rows)


def summary_tables(evaluation: Evaluation, tasks: Mapping[str, Any]) -> list[Table]:
    """Return the tables of all tasks: datasets, divergences, floors, baselines and subsets.

    Args:
        evaluation: The results.
        tasks: Their summary by name of the task.
    """
    is_uniform = evaluation.config.weighting == "uniform"
    is_paper_measure = evaluation.config.divergence == "jeffreys" and is_uniform
    comparable = {name for name, task in tasks.items() if task["is_complete"] and is_paper_measure}
    tables = [_dataset_table(tasks, comparable), _divergence_table(tasks, is_uniform), _floors_table(tasks)]
    tables += [_baseline_table(tasks, comparable), _subset_table(tasks, comparable)]
    return [table for table in tables if table.rows]


# In the functions below, `comparable` are the tasks beside which the figures of the paper may be printed


def _dataset_table(tasks: Mapping[str, Any], comparable: set[str]) -> Table:
    rows = []
    for name, task in tasks.items():
        reliability = "" if task["reliability"] is None else f"{task['reliability']:.1f} ({task['ceiling']:.1f})"
        paper = f"{PAPER[name]:.1f}" if name in PAPER and name in comparable else ""
        rows.append(
            [task["title"], str(task["pairs"]), f"{task['spearman']:.1f}", format_interval(task["ci95"]),
             f"{task['pearson']:.1f}", reliability, paper]
        )  # fmt: skip
    if (means := mean_of_table_1(tasks)) is not None:
        pairs = str(sum(tasks[name]["pairs"] for name in PAPER_TABLE_1))
        paper = f"{PAPER_MEANS['jeffreys']:.1f}" if "stsb" in comparable else ""
        rows.append(["mean of 7 sentence datasets", pairs, f"{means[0]:.1f}", "", "", "", paper])
        rows.append(["mean weighted by pairs", pairs, f"{means[1]:.1f}", "", "", "", ""])
    return Table("Datasets", ["dataset", "pairs", "Spearman", INTERVAL, "Pearson", "reliability (ceiling)", "paper"], rows)


def _divergence_table(tasks: Mapping[str, Any], is_uniform: bool) -> Table:
    names = list(dict.fromkeys(name for task in tasks.values() for name in task["divergences"]))

    def shown(task: Mapping[str, Any], name: str) -> str:
        summary = task["divergences"].get(name)
        return "" if summary is None else f"{summary['spearman']:.1f}"

    rows = [[task["title"], *(shown(task, name) for name in names)] for task in tasks.values()]
    if mean_of_table_1(tasks) is not None:
        means = [mean_of_table_1(tasks, "divergences", name) for name in names]
        rows.append(["mean of 7 sentence datasets", *("" if mean is None else f"{mean[0]:.1f}" for mean in means)])
        if is_uniform:  # the paper has no other weighting
            rows.append(["mean in the paper", *(f"{PAPER_MEANS[name]:.1f}" for name in names)])
    return Table("Spearman x100 by divergence", ["dataset", *names], rows)


def _floors_table(tasks: Mapping[str, Any]) -> Table:
    measures = {
        "encoder": "text encoder alone",
        "partial": "partial correlation, given the text encoder",
        "shuffled": "shuffled texts",
    }
    rows = [
        [task["title"], label, str(floor["pairs"]), f"{floor['spearman']:.1f}", format_interval(floor["ci95"])]
        for task in tasks.values()
        for name, label in measures.items()
        if (floor := (task["floors"] or {}).get(name)) is not None
    ]
    return Table("Floors", ["dataset", "measure", "pairs", "Spearman", INTERVAL], rows)


def _baseline_table(tasks: Mapping[str, Any], comparable: set[str]) -> Table:
    rows = []
    for name, task in tasks.items():
        for baseline, summary in task["baselines"].items():
            difference = summary["difference"]
            if difference is None:
                rows.append([task["title"], baseline, f"all {summary['all']:.3g}", *[""] * 6])
                continue
            paper = PAPER_ENCODER.get(name) if baseline == "encoder" and name in comparable else None
            rows.append(
                [task["title"], baseline, f"{summary['spearman']:.1f}", format_interval(summary["ci95"]),
                 f"{difference['spearman']:+.1f}", format_interval(difference["ci95"]), f"{difference['p']:.2g}",
                 f"{difference['rank_correlation']:.1f}", "" if paper is None else f"{paper:.1f}"]
            )  # fmt: skip
    for baseline in next(iter(tasks.values()))["baselines"]:
        if (means := mean_of_table_1(tasks, "baselines", baseline)) is not None:
            rows.append(["mean of 7 sentence datasets", baseline, f"{means[0]:.1f}", *[""] * 6])
    columns = ["dataset", "baseline", "Spearman", INTERVAL, "process minus baseline", INTERVAL, "p", "rank correlation", "paper"]
    return Table("Baselines", columns, rows)


def _subset_table(tasks: Mapping[str, Any], comparable: set[str]) -> Table:
    baselines = list(next(iter(tasks.values()))["baselines"])
    rows = []
    for name, task in tasks.items():
        for subset, summary in task["parts"].items():
            paper = PAPER_PARTS.get((name, subset)) if name in comparable else None
            by_baseline = [task["baselines"][baseline]["parts"].get(subset) for baseline in baselines]
            rows.append(
                [task["title"], subset, str(summary["pairs"]), f"{summary['spearman']:.1f}", format_interval(summary["ci95"]),
                 *("" if result is None else f"{result['spearman']:.1f}" for result in by_baseline),
                 "" if paper is None else f"{paper:.1f}"]
            )  # fmt: skip
        if task["mean_of_parts"] is not None:
            blank = [""] * (len(baselines) + 2)
            for label, key in (("mean of subsets", "mean_of_parts"), ("mean weighted by pairs", "weighted_mean_of_parts")):
                rows.append([task["title"], label, str(task["pairs"]), f"{task[key]:.1f}", *blank])
    return Table("Subsets", ["dataset", "subset", "pairs", "Spearman", INTERVAL, *baselines, "paper"], rows)


def error_tables(summary: Mapping[str, Any], result: TaskResult) -> list[Table]:
    """Return the tables of the kinds of pairs, and of the pairs, for which model and human ratings differ."""
    kinds = kinds_table(f"{summary['title']}: kinds of pairs", summary)
    tables = [kinds] if kinds.rows else []
    values = residuals(result.distances, result.pairs.scores)
    outliers = largest_residuals(result.distances, result.pairs.scores)
    for sign, verb, indices in zip("+-", ("overestimates", "underestimates"), outliers, strict=True):
        rows = [
            [f"{sign}{place}", f"{values[i]:+.0f}", f"{result.pairs.scores[i]:g}", result.pairs.first[i], result.pairs.second[i]]
            for place, i in enumerate(indices, 1)
        ]
        columns = ["", "model minus human percentile", "human rating", "text 1", "text 2"]
        tables.append(Table(f"{summary['title']}: pairs whose similarity the model {verb} most", columns, rows))
    return tables

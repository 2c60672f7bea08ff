"""An evaluation as a document: Markdown, and one HTML page that needs no other file, with the paper's Table 1 beside it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from conjure.benchmarks import SEVEN, TASKS

if TYPE_CHECKING:
    from conjure.evaluation import Evaluation

# Spearman x100 of Stable Diffusion v1.4 in Liu and Soatto (2026), Tables 1 and 2: the paper's own figures, not run here
PAPER = {
    "stsb": 70.3, "sts12": 57.9, "sts13": 61.0, "sts14": 60.8, "sts15": 73.6, "sts16": 67.9, "sickr": 66.0, "rg65": 60.2,
    "simlex999": 20.5,
}  # fmt: skip
PAPER_PARTS = {("simlex999", "adjective"): 34.0, ("simlex999", "noun"): 30.0, ("simlex999", "verb"): -14.3}
PAPER_MEAN = 65.4

Table = tuple[list[str], list[list[str]]]  # head, rows


def markdown(evaluation: Evaluation) -> str:
    """The report in Markdown."""
    lines = ["# Agreement with people", "", _settings(evaluation), ""]
    for title, (head, rows) in _tables(evaluation).items():
        lines += [f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows] + [""]
    return "\n".join([*lines, NOTE, ""])


def page(evaluation: Evaluation) -> str:
    """The report as one HTML page."""
    parts = []
    for title, (head, rows) in _tables(evaluation).items():
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>{heads}</tr>{body}</table>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Agreement with people</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ccc}"
        "td:first-child,th:first-child{text-align:left}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
        f"<h1>Agreement with people</h1><p>{html.escape(_settings(evaluation))}</p>{''.join(parts)}"
        f"<p>{html.escape(NOTE)}</p></html>\n"
    )


NOTE = (
    "Spearman x100 of negated distances with human scores; intervals are 95 % bootstrap percentiles over pairs (and over samples "
    "where there are several). Reliability is that of the ranks over samples, the ceiling what noise in the distances leaves to "
    "be reached. The paper's column is Stable Diffusion v1.4 in Liu and Soatto (2026), as printed there."
)


def _settings(evaluation: Evaluation) -> str:
    used = evaluation.process
    guidance = "" if used["guidance"] is None else f", guidance {used['guidance']:g}"
    noise = ", antithetic" if evaluation.antithetic else ""
    return (
        f"{used['model']}{'@' + used['revision'] if used['revision'] else ''} ({used['pipeline']}), {used['scheduler']}, "
        f"T = {used['steps']}{guidance}, unit {used['unit']}, {used['dtype']}; "
        f"k = {evaluation.samples}, seed {evaluation.seed}{noise}; "
        f"conjure {evaluation.version}, identity {evaluation.identity[:12]}"
    )


def _tables(evaluation: Evaluation) -> dict[str, Table]:
    summary: dict[str, dict[str, Any]] = evaluation.summary()["tasks"]

    def whole(name: str) -> bool:
        return name in TASKS and summary[name]["pairs"] == TASKS[name].pairs

    def paper(name: str) -> str:
        return f"{PAPER[name]:.1f}" if name in PAPER and whole(name) else ""

    rows = []
    for name, task in summary.items():
        sure = "" if task["reliability"] is None else f"{task['reliability']:.1f} ({task['ceiling']:.1f})"
        ends = " to ".join(f"{end:.1f}" for end in task["ci95"])
        rows.append(
            [task["title"], str(task["pairs"]), f"{task['spearman']:.1f}", ends, f"{task['pearson']:.1f}", sure, paper(name)]
        )
    if all(name in summary and whole(name) for name in SEVEN):
        counts = [summary[name]["pairs"] for name in SEVEN]
        values = [summary[name]["spearman"] for name in SEVEN]
        weighted = sum(count * value for count, value in zip(counts, values, strict=True)) / sum(counts)
        rows.append(["mean of the seven", str(sum(counts)), f"{sum(values) / 7:.1f}", "", "", "", f"{PAPER_MEAN:.1f}"])
        rows.append(["mean weighted by pairs", str(sum(counts)), f"{weighted:.1f}", "", "", "", ""])
    head = ["set", "pairs", "Spearman", "95 %", "Pearson", "reliability (ceiling)", "paper"]
    tables: dict[str, Table] = {"Sets": (head, rows)}
    names = list(next(iter(summary.values()))["divergences"])
    tables["Divergences"] = (
        ["set", *names],
        [[task["title"], *(f"{task['divergences'][name]['spearman']:.1f}" for name in names)] for task in summary.values()],
    )
    parts = [
        [task["title"], part, str(one["pairs"]), f"{one['spearman']:.1f}", " to ".join(f"{end:.1f}" for end in one["ci95"]),
         f"{PAPER_PARTS[name, part]:.1f}" if (name, part) in PAPER_PARTS and whole(name) else ""]
        for name, task in summary.items()
        for part, one in task["parts"].items()
    ]  # fmt: skip
    if parts:
        tables["Parts"] = (["set", "part", "pairs", "Spearman", "95 %", "paper"], parts)
    return tables

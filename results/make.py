"""Measure the default model anew: everything in this folder, and docs/results.md, which shows it.

make results          # or: python results/make.py --data FOLDER; stop it at any time, the same command goes on

What is computed is kept in `runs/`. Only numbers are written here: the sets' texts have licences of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import asymmetry
import conjure
from conjure.ablation import Ablation, file_of
from conjure.baselines import OF_PICTURES, baselines
from conjure.benchmarks import SEVEN, read
from conjure.document import Document, Table
from conjure.evaluation import evaluate
from conjure.report import PAPER, PAPER_ENCODER, PAPER_MEANS, PAPER_PARTS, ends, kinds_table, mean_of_seven

HERE = Path(__file__).parent
ROOT = HERE.parent
NINE = (*SEVEN, "rg65", "simlex999")
ABLATIONS = {"stsb": "STS-B test", "dev": "STS-B dev, 500 pairs", "samples": "STS-B dev, 500 pairs"}
DRAWN = ("steps", "prior", "single step", "guidance", "samples")
# Rows of the paper's Table 1 that nobody ran here, as printed there: mean of the seven sets
PRINTED = {
    "CLIP-L/14, its text encoder": 67.0, "IS-BERT": 66.6, "SimCSE-BERT": 76.3, "BERT, first state": 29.2, "BERT, mean": 54.8,
    "BERT large, mean": 48.9, "RoBERTa large, mean": 52.8, "ST5 encoder large, mean": 51.8, "ST5 encoder 11B, mean": 58.0,
    "trajectories, GPT-2": 49.3, "trajectories, GPT-2 XL": 56.5, "trajectories, Falcon 7B": 65.7, "trajectories, LLaMA 13B": 65.3,
    "trajectories, LLaMA 33B": 66.6,
}  # fmt: skip


def measure(data: Path, workers: int | None, progress: Any, started: Any) -> None:
    """Run all, and write each part as soon as it is there."""
    process = conjure.load().set(workers=conjure.Workers(workers) if workers else None)
    told: dict[str, Any] = {"progress": progress, "started": started}
    drawn = baselines([*OF_PICTURES, "jensen-shannon"], process, samples=5)
    rg65 = evaluate(process, ["rg65"], data=data, samples=5, baselines=drawn, out=ROOT / "runs" / "default", **told)
    write("pictures.json", rg65.summary())
    texts = baselines(["encoder", "mean:minilm", "cls:minilm", "random"], process)
    nine = evaluate(process, NINE, data=data, baselines=texts, out=ROOT / "runs" / "default", **told)
    write("sets.json", nine.summary())
    if not is_current("asymmetry"):
        write("asymmetry.json", asymmetry.measure(process, progress=progress))
    whole = read("stsb-dev", data)
    dev = [whole.at(range(0, len(whole), 3))]  # its first 500 pairs are all captions of pictures
    for name, tasks, over, samples, out in (
        ("stsb", ["stsb"], {"prior": None, "weighting": None}, 1, "default"),
        ("dev", dev, {"steps": None, "guidance": (1, 2, 3, 5, 7.5), "scheduler": ("lms", "ddim", "euler")}, 1, "dev"),
        ("samples", dev, {"samples": None}, 5, "dev"),
    ):
        found = conjure.ablate(process, tasks, over, samples=samples, data=data, out=ROOT / "runs" / out, **told)
        write(f"ablation-{name}.json", found.summary())
        figures(found)


def write(name: str, content: Any) -> None:
    (HERE / name).write_text(json.dumps(content, indent=1, default=str) + "\n")


def figures(ablation: Ablation) -> None:
    for axis, figure in ablation.figures().items():
        if axis in DRAWN:
            (ROOT / "docs" / "figures" / file_of(axis)).write_bytes(figure)


def load(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


def is_current(name: str) -> bool:
    """Whether a file is of the model that the sets were measured with."""
    return (HERE / f"{name}.json").exists() and load(name)["identity"] == load("sets")["identity"]


def pages() -> dict[Path, str]:
    """The pages of docs that show these files and nothing else."""
    return {ROOT / "docs" / "results.md": page(), ROOT / "docs" / "asymmetry.md": asymmetry.page(load("asymmetry"))}


def page() -> str:
    """docs/results.md, of the files that are there and of one model."""
    summary, drawn = load("sets"), load("pictures")
    current = [name for name in ABLATIONS if is_current(f"ablation-{name}")]
    tasks = summary["tasks"]
    missing = "" if len(current) == len(ABLATIONS) else " (what is missing of these was not yet run with this model)"
    document = Document(
        "What the default model understands",
        [
            f"Spearman x100 with human scores, 95 % bootstrap intervals over pairs. conjure {summary['version']}, "
            f"identity {summary['identity'][:12]}, {settings(summary)}. The paper's columns are Stable Diffusion v1.4 in Liu and "
            "Soatto (2026), as printed there; nothing else on this page is the paper's but the rows that say so."
        ],
        [
            sets(tasks),
            _baselines(tasks),
            words(tasks),
            _pictures(drawn["tasks"]["rg65"]),
            *_failures(tasks),
            *_ablations(current),
        ],
        "`make results` measures all of it anew (`results/make.py`); the numbers are in `results/*.json`. Steps, guidance, "
        "sampler and samples are varied on every third pair of STS-B dev, for time; priors, single steps and weighting on STS-B "
        f"test{missing}. Not run here, for want of weights: the paper's other encoders and language models, Stable Diffusion.",
    )
    axes = [cell["axis"] for name in current for cell in load(f"ablation-{name}")["cells"]]
    figures = [f"![Spearman by {axis}](figures/{file_of(axis)})" for axis in DRAWN if axis in axes]
    return document.markdown() + "\n" + "\n\n".join(figures) + "\n"


def settings(summary: Mapping[str, Any]) -> str:
    used = summary["process"]
    drawn = f"k = {summary['samples']}, seed {summary['seed']}"
    return f"{used['scheduler']}, T = {used['steps']}, guidance {used['guidance']:g}, {drawn}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def sets(tasks: dict[str, Any]) -> Table:
    others = [one for one in tasks["stsb"]["divergences"] if one != "jeffreys"]
    rows = []
    for name in NINE:
        task = tasks[name]
        rest = [*(task["divergences"][one] for one in others), task["baselines"]["encoder"]]
        found = [_cell(task["spearman"]), ends(task["ci95"]), *(_cell(one["spearman"]) for one in rest)]
        rows.append([task["title"], str(task["pairs"]), *found, _cell(PAPER[name])])
    whole = mean_of_seven(tasks)
    assert whole is not None
    pairs = str(sum(tasks[name]["pairs"] for name in SEVEN))
    means = [*(mean_of_seven(tasks, "divergences", one) for one in others), mean_of_seven(tasks, "baselines", "encoder")]
    rows.append(["mean of the seven", pairs, _cell(whole[0]), "", *map(_mean, means), _cell(PAPER_MEANS["jeffreys"])])
    rows.append(["weighted by pairs", pairs, _cell(whole[1]), *[""] * (len(means) + 2)])
    paper = [_cell(PAPER_MEANS[one]) for one in others]
    rows.append(["the paper's mean", pairs, _cell(PAPER_MEANS["jeffreys"]), "", *paper, "", ""])
    head = ["set", "pairs", "jeffreys", "95 %", *others, "its text encoder", "paper"]
    return Table("The paper's sets (Table 1)", head, rows)


def _baselines(tasks: dict[str, Any]) -> Table:
    names = list(tasks["stsb"]["baselines"])
    rows = [
        [one, *(_cell(tasks[name]["baselines"][one]["spearman"]) for name in NINE), _mean(mean_of_seven(tasks, "baselines", one))]
        for one in names
    ]
    rows.insert(0, ["conjured", *(_cell(tasks[name]["spearman"]) for name in NINE), _mean(mean_of_seven(tasks))])
    rows += [[f"{name} (the paper's figure)", *[""] * len(NINE), _cell(value)] for name, value in PRINTED.items()]
    return Table(
        "Other measures of the same pairs", ["measure", *(tasks[name]["title"] for name in NINE), "mean of the seven"], rows
    )


def _mean(found: tuple[float, float] | None) -> str:
    return "" if found is None else _cell(found[0])


def words(tasks: dict[str, Any]) -> Table:
    rows = []
    for name, part in (("rg65", None), ("simlex999", None), *(("simlex999", part) for part in tasks["simlex999"]["parts"])):
        task = tasks[name]
        own, encoder = (one if part is None else one["parts"][part] for one in (task, task["baselines"]["encoder"]))
        paper = PAPER[name] if part is None else PAPER_PARTS[name, part]
        paragon = PAPER_ENCODER[name] if part is None else {"adjective": 40.6, "noun": 42.8, "verb": 10.3}[part]
        rows.append([f"{task['title']}{'' if part is None else f', {part}s'}", str(own["pairs"]), _cell(own["spearman"]),
                     ends(own["ci95"]), _cell(encoder["spearman"]), _cell(paper), _cell(paragon)])  # fmt: skip
    head = ["words", "pairs", "conjured", "95 %", "its text encoder", "paper, conjured", "paper, text encoder"]
    return Table("Words by part of speech, beside the model's own text encoder (Table 2)", head, rows)


def _pictures(task: dict[str, Any]) -> Table:
    rows = [["conjured", _cell(task["spearman"]), ends(task["ci95"]), ""]]
    for name, one in task["baselines"].items():
        less = one["process less this"]
        told = ["all log 2", "", ""] if less is None else [_cell(one["spearman"]), ends(one["ci95"]), ends(less["ci95"])]
        rows.append([name, *told])
    sure = f"RG65 at k = 5 (reliability {task['reliability']:.1f}), beside sets of 16 finished pictures seen as colours"
    return Table(sure, ["measure", "Spearman", "95 %", "conjured less this, 95 %"], rows)


def _failures(tasks: dict[str, Any]) -> Iterable[Table]:
    for name in ("stsb", "sickr", "simlex999"):
        title = f"Where it and people part: {tasks[name]['title']} (bias above 0: more alike to the model)"
        yield kinds_table(title, tasks[name])


def _ablations(names: Iterable[str]) -> Iterable[Table]:
    for name in names:
        cells = load(f"ablation-{name}")["cells"]
        for axis in dict.fromkeys(cell["axis"] for cell in cells):
            rows = [
                [cell["value"], _cell(cell["spearman"]), ends([cell["low"], cell["high"]])]
                for cell in cells
                if cell["axis"] == axis
            ]
            yield Table(f"{axis.capitalize()} ({ABLATIONS[name]})", [axis, "Spearman", "95 %"], rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "similarity")
    parser.add_argument("--workers", type=int, help="compute in so many processes (needs Ray)")
    arguments = parser.parse_args()
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()) as bar:
        shown = bar.add_task("")

        def progress(done: int, total: int) -> None:
            bar.update(shown, completed=done, total=total)

        measure(arguments.data, arguments.workers, progress, lambda what: bar.print(what))
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()

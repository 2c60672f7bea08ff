"""Render the documentation pages that show the files of this folder. Nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asymmetry
from conjure.evaluation.ablation_results import figure_name
from conjure.evaluation.datasets import PAPER_TABLE_1
from conjure.evaluation.report import (
    PAPER,
    PAPER_ENCODER,
    PAPER_MEANS,
    PAPER_PARTS,
    format_interval,
    kinds_table,
    mean_of_table_1,
)
from conjure.io.documents import Document, Table

HERE = Path(__file__).parent
ROOT = HERE.parent
ALL_DATASETS = (*PAPER_TABLE_1, "rg65", "simlex999")
ABLATION_DATASETS = {"stsb": "STS-B test", "dev": "STS-B dev, 500 pairs", "samples": "STS-B dev, 500 pairs"}
KINDS_DATASETS = ("stsb", "sickr", "simlex999")  # whose kinds of pairs are shown
AXIS_NAMES = {"weighting": "unit or weighting"}
TERMS = (
    "`jeffreys`, `kl`, `initial`, `final` and `direct` are [divergences](method.md#weighting-and-divergence). `encoder`, "
    "`mean:`, `cls:` and the distances between sets of images are [baselines](benchmarks.md#baselines). `encoder` is the encoder "
    "of the model, the mean of MiniLM's token states, so that `mean:minilm` has the same values. k is the number of samples, T "
    "the number of steps. A prior of 999 to 333 uses only the steps between these timesteps."
)
AXES_WITH_FIGURE = ("steps", "prior", "single step", "guidance", "samples")
# Rows of the paper's Table 1 for models that were not run here: mean over the seven datasets, as printed in the paper
PAPER_ROWS = {
    "CLIP-L/14, text encoder": 67.0, "IS-BERT": 66.6, "SimCSE-BERT": 76.3, "BERT, first token": 29.2, "BERT, mean": 54.8,
    "BERT large, mean": 48.9, "RoBERTa large, mean": 52.8, "ST5 encoder large, mean": 51.8, "ST5 encoder 11B, mean": 58.0,
    "trajectories, GPT-2": 49.3, "trajectories, GPT-2 XL": 56.5, "trajectories, Falcon 7B": 65.7, "trajectories, LLaMA 13B": 65.3,
    "trajectories, LLaMA 33B": 66.6,
}  # fmt: skip
# Text encoder of Stable Diffusion v1.4 on the parts of SimLex-999, as printed in the paper's Table 2
PAPER_ENCODER_PARTS = {"adjective": 40.6, "noun": 42.8, "verb": 10.3}
INTERVAL = "95% CI"
MEAN = "mean of 7 sentence datasets"


def load_json(name: str) -> Any:
    """Return the content of the results file `name`, given without its suffix."""
    return json.loads((HERE / f"{name}.json").read_text())


def is_current(name: str) -> bool:
    """Return whether a results file was measured with the same process as `sets.json`."""
    return (HERE / f"{name}.json").exists() and load_json(name)["fingerprint"] == load_json("sets")["fingerprint"]


def render_pages() -> dict[Path, str]:
    """Return the text of each documentation page that is generated from the results files, by path."""
    return {
        ROOT / "docs" / "results.md": render_results_page(),
        ROOT / "docs" / "asymmetry.md": asymmetry.render_page(load_json("asymmetry")),
    }


def render_results_page() -> str:
    """Return docs/results.md, without the ablations of earlier versions of the model."""
    summary, image_sets = load_json("sets"), load_json("image_sets")
    ablations = [name for name in ABLATION_DATASETS if is_current(f"ablation-{name}")]
    tasks = summary["tasks"]
    missing = ""
    if len(ablations) < len(ABLATION_DATASETS):
        missing = " Ablations that are not on this page have not been run with this version of the model."
    document = Document(
        "Results of the default model",
        [
            f"Spearman x100 with human ratings. Intervals are 95% bootstrap intervals over pairs. conjure {summary['version']}, "
            f"fingerprint {summary['fingerprint'][:12]}, {describe_settings(summary)}.",
            "Values labelled “paper” are copied from Liu and Soatto (2026); unless another model is named, they are for Stable "
            "Diffusion v1.4. All other values were measured with this package.",
            encoder_comparison(tasks),
        ],
        [
            datasets_table(tasks),
            _baselines_table(tasks),
            words_table(tasks),
            _image_sets_table(image_sets["tasks"]["rg65"]),
            *_residual_tables(tasks),
            *_ablation_tables(ablations),
        ],
        "`make results` measures all values again (`results/build_results.py`). The numbers are in `results/*.json`. What needs "
        f"another run of the model was varied on every third pair of STS-B dev, to limit the run time.{missing} Not run, because "
        "the weights were not available: Stable Diffusion, and the paper's other encoders and language models.",
    )
    axes = [cell["axis"] for name in ablations for cell in load_json(f"ablation-{name}")["cells"]]
    figures = [f"![Spearman by {axis}](figures/{figure_name(axis)})" for axis in AXES_WITH_FIGURE if axis in axes]
    introduction, first_heading, tables = document.to_markdown().partition("\n## ")
    return f"{introduction}\n{TERMS}\n{first_heading}{tables}\n" + "\n\n".join(figures) + "\n"


def describe_settings(summary: Mapping[str, Any]) -> str:
    """Return the settings of an evaluation in one line."""
    process = summary["process"]
    sampling = f"k = {summary['samples']}, seed {summary['seed']}"
    return f"{process['scheduler']}, T = {process['steps']}, guidance {process['guidance']:g}, {sampling}"


def datasets_table(tasks: dict[str, Any]) -> Table:
    """Return the correlations on all datasets, for each divergence and the text encoder, with the figures of the paper."""
    divergences = [name for name in tasks["stsb"]["divergences"] if name != "jeffreys"]
    rows = []
    for name in ALL_DATASETS:
        task = tasks[name]
        others = [*(task["divergences"][divergence] for divergence in divergences), task["baselines"]["encoder"]]
        values = [_format(task["spearman"]), format_interval(task["ci95"]), *(_format(other["spearman"]) for other in others)]
        rows.append([task["title"], str(task["pairs"]), *values, _format(PAPER[name])])
    mean = mean_of_table_1(tasks)
    assert mean is not None
    pairs = str(sum(tasks[name]["pairs"] for name in PAPER_TABLE_1))
    means = [
        *(mean_of_table_1(tasks, "divergences", divergence) for divergence in divergences),
        mean_of_table_1(tasks, "baselines", "encoder"),
    ]
    paper_means = [_format(PAPER_MEANS[divergence]) for divergence in divergences]
    rows.append([MEAN, pairs, _format(mean[0]), "", *map(_format_mean, means), _format(PAPER_MEANS["jeffreys"])])
    rows.append(["mean weighted by pairs", pairs, _format(mean[1]), *[""] * (len(means) + 2)])
    rows.append(["mean in the paper", pairs, _format(PAPER_MEANS["jeffreys"]), "", *paper_means, "", ""])
    head = ["dataset", "pairs", "jeffreys", INTERVAL, *divergences, "text encoder", "paper"]
    return Table("Datasets of the paper (Table 1)", head, rows)


def _baselines_table(tasks: dict[str, Any]) -> Table:
    rows = [["Conjure", *(_format(tasks[name]["spearman"]) for name in ALL_DATASETS), _format_mean(mean_of_table_1(tasks))]]
    for baseline in tasks["stsb"]["baselines"]:
        values = [_format(tasks[name]["baselines"][baseline]["spearman"]) for name in ALL_DATASETS]
        rows.append([baseline, *values, _format_mean(mean_of_table_1(tasks, "baselines", baseline))])
    rows += [[f"{name} (paper)", *[""] * len(ALL_DATASETS), _format(value)] for name, value in PAPER_ROWS.items()]
    return Table("Baselines on the same pairs", ["method", *(tasks[name]["title"] for name in ALL_DATASETS), MEAN], rows)


def words_table(tasks: dict[str, Any]) -> Table:
    """Return the correlations on the two datasets of words, for SimLex-999 also by part of speech."""
    rows = []
    for name, part in (("rg65", None), ("simlex999", None), *(("simlex999", part) for part in tasks["simlex999"]["parts"])):
        results = [tasks[name], tasks[name]["baselines"]["encoder"]]
        title = tasks[name]["title"]
        paper, paper_encoder = PAPER[name], PAPER_ENCODER[name]
        if part is not None:
            results = [result["parts"][part] for result in results]
            title += f", {part}s"
            paper, paper_encoder = PAPER_PARTS[name, part], PAPER_ENCODER_PARTS[part]
        conjure_result, encoder_result = results
        values = [
            _format(conjure_result["spearman"]),
            format_interval(conjure_result["ci95"]),
            _format(encoder_result["spearman"]),
        ]
        rows.append([title, str(conjure_result["pairs"]), *values, _format(paper), _format(paper_encoder)])
    head = ["dataset", "pairs", "Conjure", INTERVAL, "text encoder", "paper", "paper, text encoder"]
    return Table("Words by part of speech, compared with the text encoder (Table 2)", head, rows)


def _image_sets_table(task: dict[str, Any]) -> Table:
    rows = [["Conjure", _format(task["spearman"]), format_interval(task["ci95"]), ""]]
    for name, baseline in task["baselines"].items():
        difference = baseline["difference"]
        if difference is None:
            rows.append([name, "all distances equal log 2", "", ""])
        else:
            rows.append(
                [name, _format(baseline["spearman"]), format_interval(baseline["ci95"]), format_interval(difference["ci95"])]
            )
    title = (
        f"RG65 at k = 5 (reliability {task['reliability']:.1f}), compared with distances between sets of 16 generated images "
        "(features: mean colours)"
    )
    return Table(title, ["measure", "Spearman", INTERVAL, f"Conjure - measure, {INTERVAL}"], rows)


def encoder_comparison(tasks: Mapping[str, Any]) -> str:
    """Return in which kinds of pairs the model agrees significantly better or worse with human ratings than its text encoder."""
    kinds = [(tasks[name]["title"], group) for name in KINDS_DATASETS for group in tasks[name]["groups"]]
    compared = [(title, group) for title, group in kinds if group.get("encoder") is not None]
    if not compared:
        return "Not measured for this version: the text encoder within kinds of pairs. The model is not compared with it there."
    titles = ", ".join(dict.fromkeys(title for title, _ in compared))
    differences = [group["encoder"]["difference"] for _, group in compared]
    higher = [item for item, change in zip(compared, differences, strict=True) if change["ci95"][0] > 0]
    lower = [item for item, change in zip(compared, differences, strict=True) if change["ci95"][1] < 0]
    return (
        f"The model was compared with its own text encoder within {len(compared)} kinds of pairs of {titles}, without correction "
        f"for the number of comparisons. Its correlation with human ratings is significantly higher {_list_groups(higher)}, and "
        f"significantly lower {_list_groups(lower)}. In the other {len(compared) - len(higher) - len(lower)}, the 95% "
        "interval of the difference includes 0."
    )


def _list_groups(groups: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the number of kinds of pairs, and their names by dataset with the differences."""
    if not groups:
        return "in none"
    by_title: dict[str, list[str]] = {}
    for title, group in groups:
        name = f"{group['kind']} {group['name']} ({group['encoder']['difference']['spearman']:+.1f})"
        by_title.setdefault(title, []).append(name)
    return f"in {len(groups)} (" + "; ".join(f"{title}: {', '.join(names)}" for title, names in by_title.items()) + ")"


def _residual_tables(tasks: dict[str, Any]) -> Iterable[Table]:
    for name in KINDS_DATASETS:
        title = f"Rank residuals by kind of pair: {tasks[name]['title']} (bias > 0: ranked as more similar by the model)"
        yield kinds_table(title, tasks[name])


def _ablation_tables(names: Iterable[str]) -> Iterable[Table]:
    for name in names:
        cells = load_json(f"ablation-{name}")["cells"]
        for axis in dict.fromkeys(cell["axis"] for cell in cells):
            rows = [
                [cell["value"], _format(cell["spearman"]), format_interval([cell["low"], cell["high"]])]
                for cell in cells
                if cell["axis"] == axis
            ]
            title = f"{AXIS_NAMES.get(axis, axis).capitalize()} ({ABLATION_DATASETS[name]})"
            yield Table(title, [axis, "Spearman", INTERVAL], rows)


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _format_mean(means: tuple[float, float] | None) -> str:
    return "" if means is None else _format(means[0])

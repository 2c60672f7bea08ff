"""Measure the default model on all datasets, and write the pages of the documentation that show these results.

    make results                                         # or:
    python results/build_results.py --data FOLDER

A run can be stopped at any time; the same command resumes it, because the trajectories are stored in `runs/`. This folder holds
only numbers, as JSON files: the texts of the datasets have their own licences.

    python results/build_results.py --datasets stsb,sickr    # measures these alone, and the encoder; updates sets.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

import asymmetry
import conjure
from conjure.baselines.names import IMAGE_SET
from conjure.baselines.registry import make_baselines
from conjure.diffusion.jobs import ProgressCallback
from conjure.evaluation.ablation_results import Ablation, figure_name
from conjure.evaluation.datasets import read
from conjure.evaluation.evaluate import evaluate
from result_pages import ALL_DATASETS, AXES_WITH_FIGURE, HERE, ROOT, is_current, load_json, render_pages

MAX_CHANGE = 0.05  # of Spearman x100 between two measurements of the same process on different machines


def measure_all(data: Path, workers: int | None, progress: ProgressCallback, on_start: Callable[[str], None]) -> None:
    """Run all evaluations and ablations, and write each JSON file as soon as its results are complete.

    Args:
        data: The folder of the datasets.
        workers: The number of worker processes; None computes in this process.
        progress: Receives the number of finished units of work and their total.
        on_start: Receives a description of each part before it starts.
    """
    process = conjure.load().set(workers=conjure.Workers(workers) if workers else None)
    run_folder = ROOT / "runs" / "default"

    image_baselines = make_baselines([*IMAGE_SET, "jensen-shannon"], process, samples=5)
    rg65 = evaluate(process, ["rg65"], data=data, samples=5, baselines=image_baselines, out=run_folder,
                    progress=progress, on_start=on_start)  # fmt: skip
    write_json("image_sets", rg65.summary())

    text_baselines = make_baselines(["encoder", "mean:minilm", "cls:minilm", "random"], process)
    all_datasets = evaluate(process, ALL_DATASETS, data=data, baselines=text_baselines, out=run_folder,
                            progress=progress, on_start=on_start)  # fmt: skip
    write_json("sets", all_datasets.summary())

    if not is_current("asymmetry"):
        write_json("asymmetry", asymmetry.measure(process, progress=progress))

    stsb_dev = read("stsb-dev", data)
    every_third = [stsb_dev.select(range(0, len(stsb_dev), 3))]  # the first 500 pairs are all image captions
    for name, tasks, axes, samples, folder in (
        ("stsb", ["stsb"], {"prior": None, "weighting": None}, 1, "default"),
        ("dev", every_third, {"steps": None, "guidance": (1, 3, 5, 7.5, 10), "scheduler": ("lms", "ddim", "euler")}, 1, "dev"),
        ("samples", every_third, {"samples": None}, 5, "dev"),
    ):
        ablation = conjure.ablate(process, tasks, axes, samples=samples, data=data, out=ROOT / "runs" / folder,
                                  progress=progress, on_start=on_start)  # fmt: skip
        write_json(f"ablation-{name}", ablation.summary())
        write_figures(ablation)


def measure_datasets(
    names: Sequence[str], data: Path, workers: int | None, progress: ProgressCallback, on_start: Callable[[str], None]
) -> None:
    """Run the evaluation of some datasets, with the text encoder as the only baseline, and update their entries in `sets.json`.

    Args:
        names: The names of the datasets.
        data: The folder of the datasets.
        workers: As in `measure_all`.
        progress: As in `measure_all`.
        on_start: As in `measure_all`.

    Raises:
        InputError: If `sets.json` was measured with another process, or has other correlations for these datasets.
    """
    process = conjure.load().set(workers=conjure.Workers(workers) if workers else None)
    measured = evaluate(process, names, data=data, baselines=make_baselines(["encoder"], process), floors=False,
                        out=ROOT / "runs" / "default", progress=progress, on_start=on_start)  # fmt: skip
    write_json("sets", update_datasets(load_json("sets"), measured.summary()))


def update_datasets(summary: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of an evaluation, updated by a later evaluation of some datasets with the same process.

    What the later evaluation does not contain, such as other baselines and floors, is kept.

    Raises:
        InputError: If the process, the sampling, the pairs, or the correlation of the process or of a baseline differ.
    """
    for key in ("fingerprint", "measure", "samples", "seed", "antithetic"):
        if summary[key] != measured[key]:
            raise conjure.InputError(
                f"{key} is {summary[key]!r} in sets.json, but {measured[key]!r} was measured; run make results"
            )
    tasks = dict(summary["tasks"])
    for name, task in measured["tasks"].items():
        old = tasks[name]
        results = [(old, task), *((old["baselines"][baseline], result) for baseline, result in task["baselines"].items())]
        before, after = ([result["spearman"] for result in side] for side in zip(*results, strict=True))
        if old["data"] != task["data"] or not np.allclose(before, after, rtol=0, atol=MAX_CHANGE):
            raise conjure.InputError(
                f"{name} has Spearman {before} and pairs {old['data'][:12]} in sets.json, but {after} and pairs "
                f"{task['data'][:12]} were measured; run make results"
            )
        known = {key: value for key, value in task.items() if value is not None}
        tasks[name] = old | known | {"baselines": old["baselines"] | task["baselines"]}
    return summary | {"tasks": tasks}


def write_json(name: str, content: Any) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1, default=str) + "\n")


def write_figures(ablation: Ablation) -> None:
    """Write the line charts of an ablation into docs/figures."""
    for axis, figure in ablation.figures().items():
        if axis in AXES_WITH_FIGURE:
            (ROOT / "docs" / "figures" / figure_name(axis)).write_bytes(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data" / "similarity", help="folder of the datasets"
    )
    parser.add_argument(
        "--datasets", type=lambda names: names.split(","), help="names of datasets to measure, separated by commas (default: all)"
    )
    parser.add_argument("--workers", type=int, help="number of worker processes (needs Ray)")
    arguments = parser.parse_args()
    with ProgressBar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()) as bar:
        bar_task = bar.add_task("")

        def progress(completed: int, total: int) -> None:
            bar.update(bar_task, completed=completed, total=total)

        measure = partial(measure_datasets, arguments.datasets) if arguments.datasets else measure_all
        measure(arguments.data, arguments.workers, progress, lambda description: bar.print(description))
    for path, text in render_pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()

"""How well the default model agrees with people, in every unit; writes `training/results.json`.

python training/evaluate.py --dev      # the splits that decisions are made on: STS-B dev, SICK-R dev
python training/evaluate.py            # the test sets, once a model is final: STS-B test, RG65, SimLex-999

What is computed is kept in `training/runs/evaluate`, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID
from scipy.stats import spearmanr

import conjure
from conjure.agreement import Agreement, agreement
from conjure.benchmarks import read
from conjure.divergence import Measure
from conjure.evaluation import TaskResult, distances_of, evaluate
from conjure.units import UNITS

HERE = Path(__file__).parent
TITLES = {"stsb": "STS-B test"}  # as the card names them


def figures(result: TaskResult) -> dict[str, object]:
    """Spearman x100 of the distance and the baselines, in every unit, by part of speech, and step by step."""

    def plain(found: Agreement) -> dict[str, object]:
        return {"spearman": round(100 * found.spearman, 2), "ci95": [round(100 * end, 2) for end in found.ci95]}

    people, own = result.pairs.scores, result.measure.unit
    units = {unit: distances_of(result.seen, Measure(unit=unit)) for unit in UNITS if unit != own}
    steps = [(one.forward + one.backward)[0] for one in result.seen]
    return {
        "pairs": len(result.pairs),
        **{name: plain(found) for name, found in result.divergences.items()},
        **{f"jeffreys in {unit}": plain(agreement(values, people)) for unit, values in units.items()},
        "single step": [round(100 * spearmanr([-step[t] for step in steps], people).statistic, 1) for t in range(len(steps[0]))],
        **({part: plain(found) for part, found in result.parts.items()} if result.pairs.name == "simlex999" else {}),
    }


def update(bar: Progress, shown: TaskID, done: int, total: int) -> None:
    bar.update(shown, completed=done, total=total)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/similarity")
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--model", default="default")
    parser.add_argument("--unit")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    process = conjure.load(arguments.model, guidance=arguments.guidance, unit=arguments.unit)
    results = {"process": process.settings(), "identity": process.identity(), "samples": 1, "seed": 0}
    out = HERE / "runs" / "evaluate" / process.identity()[:12]
    for name in ("stsb-dev", "sickr-dev") if arguments.dev else ("stsb", "rg65", "simlex999"):
        task = read(name, arguments.data).head(arguments.limit)
        with Progress() as bar:
            shown = bar.add_task(task.title)
            evaluation = evaluate(process, [task], out=out, progress=partial(update, bar, shown))
        title = TITLES.get(name, task.title)
        results[title] = figures(evaluation.tasks[name])
        print(title, json.dumps(results[title]), flush=True)
        if not arguments.dev and not arguments.limit:  # after every set, so that a stopped run keeps what it has
            (HERE / "results.json").write_text(json.dumps(results, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

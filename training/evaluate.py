"""How well the default model agrees with people, through the same engine that users call; writes `training/results.json`.

python training/evaluate.py --dev      # the splits that decisions are made on: STS-B dev, SICK-R dev
python training/evaluate.py            # the test sets, once a model is final: STS-B test, RG65, SimLex-999
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import Progress
from scipy.stats import spearmanr

import conjure
from conjure.divergence import DIVERGENCES, Measure
from conjure.run import run
from conjure.similarity import Noise, Results, sources_of
from conjure.units import UNITS

HERE = Path(__file__).parent
Row = dict[str, str]
DEV: dict[str, tuple[str, Callable[[Row], bool]]] = {
    "STS-B dev": ("stsb.tsv", lambda row: row["split"] == "dev"),
    "SICK-R dev": ("sickr.tsv", lambda row: row["split"] == "dev"),
}
TEST: dict[str, tuple[str, Callable[[Row], bool]]] = {
    "STS-B test": ("stsb.tsv", lambda row: row["split"] == "test"),
    "RG65": ("rg65.tsv", lambda _: True),
    "SimLex-999": ("simlex999.tsv", lambda _: True),
}


def read(path: Path) -> list[Row]:
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def spearman(values: np.ndarray, people: np.ndarray) -> dict[str, float | list[float]]:
    """Rank correlation of negated distances with judgements, x100, and its 95 % bootstrap interval over pairs."""
    draw = np.random.default_rng(0)
    again = [spearmanr(-values[i], people[i]).statistic for i in draw.integers(0, len(people), (1000, len(people)))]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return {"spearman": round(100 * spearmanr(-values, people).statistic, 2), "ci95": [round(100 * low, 2), round(100 * high, 2)]}


def evaluate(process: conjure.Process, rows: list[Row], name: str) -> dict[str, object]:
    """Spearman x100 of every divergence, from one run with one sample a pair."""
    one, other = [column for column in rows[0] if column[-1] in "12"]
    pairs = [(row[one], row[other]) for row in rows]
    people = np.array([float(row["score"]) for row in rows])
    begun = time.monotonic()
    results = Results(process, Noise())
    with Progress() as bar:
        task = bar.add_task(name)
        sources = sources_of(pairs, range(1), Noise())
        for measured in run(process, sources, progress=lambda done, total: bar.update(task, completed=done, total=total)):
            results.add(measured, keep_final=True)
    seconds = time.monotonic() - begun
    seen = [results.seen(*texts, samples=1) for texts in pairs]

    def agreement(measure: Measure) -> dict[str, float | list[float]]:
        return spearman(np.array([measure.contributions(one).total.sum() for one in seen]), people)

    steps = np.array([(one.forward + one.backward)[0] for one in seen])
    jeffreys = np.array([Measure(unit=process.unit).contributions(one).total.sum() for one in seen])
    result: dict[str, object] = {
        "pairs": len(pairs),
        "seconds": round(seconds),
        **{divergence: agreement(Measure(divergence, unit=process.unit)) for divergence in DIVERGENCES},
        **{f"jeffreys in {unit}": agreement(Measure(unit=unit)) for unit in UNITS if unit != process.unit},
        "single step": [round(100 * spearmanr(-step, people).statistic, 1) for step in steps.T],
    }
    if "pos" in rows[0]:
        for pos in sorted({row["pos"] for row in rows}):
            chosen = np.array([row["pos"] == pos for row in rows])
            result[pos] = spearman(jeffreys[chosen], people[chosen])
    return result


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
    for name, (file, keep) in (DEV if arguments.dev else TEST).items():
        rows = [row for row in read(arguments.data / file) if keep(row)][: arguments.limit]
        results[name] = evaluate(process, rows, name)
        print(name, json.dumps(results[name]), flush=True)
        if not arguments.dev and not arguments.limit:  # after every set, so that a stopped run keeps what it has
            (HERE / "results.json").write_text(json.dumps(results, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

"""What helps? Small models by varied recipes, each measured on the dev splits; nothing here looks at a test set.

python training/levers.py --data FOLDER "without scenes" ...     # writes results/levers.json; the same command goes on
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import autoencoder
import conjure
import denoiser
import loop
import views
from conjure.benchmarks import read
from train import HERE, PROCESS, SIZE, pipeline_of

SMALL = denoiser.Recipe(
    schedule=loop.Schedule(samples=80_000, batch=128, rate=1e-3, warmup=100),
    telling=(loop.Schedule(samples=10_000, batch=32, rate=5e-4, warmup=50, average=0.998),),
    mending=loop.Schedule(samples=2_400, batch=24, rate=5e-4, warmup=10, average=0.998, seed=2),
    heads=4,
)
LEVERS = {
    "as shipped, but small": SMALL,
    "without the third stage": replace(SMALL, telling=(), mending=None, evened=None),
    "nothing put back and mended": replace(SMALL, mending=None),
    "hearing not evened": replace(SMALL, evened=None),
    "projection of captions trained": replace(SMALL, free=True),
    "without scenes": replace(SMALL, shares=(0.5, 0, 0.3)),
    "without texts of WordNet": replace(SMALL, shares=(0.5, 0.2, 0)),
    "single pictures only": replace(SMALL, shares=(1, 0, 0)),
    "twice as long": replace(SMALL, schedule=replace(SMALL.schedule, samples=160_000)),
    "half as many layers": replace(SMALL, layers=4),
}


def measure(vae: torch.nn.Module, model: torch.nn.Module, data: Path) -> dict[str, Any]:
    process = conjure.load(pipeline_of(vae, model.float()), steps=5, guidance=PROCESS["guidance"], unit=PROCESS["unit"])
    process = process.set(call=PROCESS["call"])
    found: dict[str, Any] = {}
    for task in ("stsb-dev", "sickr-dev"):
        summary = conjure.evaluate(process, [read(task, data)]).summary()["tasks"][task]
        found[task] = {one: value["spearman"] for one, value in summary["divergences"].items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("levers", nargs="*", default=list(LEVERS), help=", ".join(LEVERS))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data" / "similarity")
    arguments = parser.parse_args()
    store = HERE.parent / "results" / "levers.json"
    told = json.loads(store.read_text()) if store.exists() else {}
    pictures = views.load(HERE / "cache", SIZE)
    vae = autoencoder.train(pictures, HERE / "runs" / "autoencoder")
    latents, captions = autoencoder.encode(vae, pictures, HERE / "cache")
    for name in arguments.levers:
        if name not in told:
            folder = HERE / "runs" / f"lever-{name.replace(' ', '-')}"
            model = denoiser.train(pictures, latents, captions, HERE / "cache", folder, LEVERS[name])
            losses = {path.parent.name: path.read_text().split()[-1] for path in sorted(folder.glob("*/losses.csv"))}
            told[name] = {"samples": LEVERS[name].schedule.samples, "losses": losses, **measure(vae, model, arguments.data)}
            store.write_text(json.dumps(told, indent=1) + "\n")
        print(name, told[name])


if __name__ == "__main__":
    main()

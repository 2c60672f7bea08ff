"""Train small models with varied recipes, and measure each on the dev splits. No test set is used.

    python training/recipe_ablations.py --data FOLDER no-scenes ...

The results are written to results/recipe-ablations.json. A run can be stopped at any time; the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import augmentation
import autoencoder
import conjure
import denoiser_stages
from config import CACHE_FOLDER, IMAGE_SIZE, RESULTS_FOLDER, RUNS_FOLDER, TRAINING_FOLDER
from conjure.evaluation.datasets import read
from recipe import Recipe
from train import PROCESS_SETTINGS, make_pipeline
from trainer import Schedule

DEV_TASKS = ("stsb-dev", "sickr-dev")
SMALL = Recipe(
    denoising=Schedule(samples=80_000, batch_size=128, learning_rate=1e-3, warmup_steps=100),
    contrastive=(Schedule(samples=10_000, batch_size=32, learning_rate=5e-4, warmup_steps=50, ema_decay=0.998),),
    recovery=Schedule(samples=2_400, batch_size=24, learning_rate=5e-4, warmup_steps=10, ema_decay=0.998, seed=2),
    heads=4,
)
VARIANTS = {
    "small": SMALL,  # the shipped recipe, but with a smaller model and shorter schedules
    "denoising-only": replace(SMALL, contrastive=(), recovery=None, spectrum_power=None),
    "no-recovery": replace(SMALL, recovery=None),
    "no-spectrum-flattening": replace(SMALL, spectrum_power=None),
    "trainable-projection": replace(SMALL, trainable_projection=True),
    "no-scenes": replace(SMALL, shares=(0.5, 0, 0.3)),
    "no-wordnet-texts": replace(SMALL, shares=(0.5, 0.2, 0)),
    "drawings-only": replace(SMALL, shares=(1, 0, 0)),
    "twice-the-samples": replace(SMALL, denoising=replace(SMALL.denoising, samples=160_000)),
    "half-the-layers": replace(SMALL, layers=4),
}


def measure(vae: torch.nn.Module, model: torch.nn.Module, data: Path) -> dict[str, Any]:
    """Return the Spearman correlation of each divergence with human ratings, per dev task.

    Args:
        vae: The autoencoder.
        model: The denoiser.
        data: The folder of the datasets.
    """
    settings = {name: PROCESS_SETTINGS[name] for name in ("guidance", "unit")}
    process = conjure.load(make_pipeline(vae, model.float()), steps=5, **settings)
    process = process.set(pipeline_kwargs=PROCESS_SETTINGS["call"])
    correlations: dict[str, Any] = {}
    for task in DEV_TASKS:
        summary = conjure.evaluate(process, [read(task, data)]).summary()["tasks"][task]
        correlations[task] = {divergence: value["spearman"] for divergence, value in summary["divergences"].items()}
    return correlations


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure varied recipes of the default model on the dev splits.")
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), help=f"any of {', '.join(VARIANTS)} (default: all)")
    default_data = TRAINING_FOLDER.parents[1] / "shared" / "data" / "similarity"
    parser.add_argument("--data", type=Path, default=default_data, help="folder of the datasets")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"got {', '.join(sorted(unknown))}; variants must be any of {', '.join(VARIANTS)}")
    store = RESULTS_FOLDER / "recipe-ablations.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    images = augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    vae = autoencoder.train(images, RUNS_FOLDER / "autoencoder")
    latents, captions = autoencoder.encode(vae, images, CACHE_FOLDER)
    for variant in arguments.variants:
        if variant not in results:
            recipe = VARIANTS[variant]
            runs_folder = RUNS_FOLDER / f"ablation-{variant}"
            model = denoiser_stages.train(images, latents, captions, CACHE_FOLDER, runs_folder, recipe)
            losses = {path.parent.name: path.read_text().split()[-1] for path in sorted(runs_folder.glob("*/losses.csv"))}
            correlations = measure(vae, model, arguments.data)
            results[variant] = {"samples": recipe.denoising.samples, "losses": losses, **correlations}
            store.write_text(json.dumps(results, indent=1) + "\n")
        print(variant, results[variant])


if __name__ == "__main__":
    main()

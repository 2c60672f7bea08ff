"""Train the default model of Conjure: data, autoencoder, denoiser, and a folder in the format of the default model.

    make train                             # or: python training/train.py [--out FOLDER]
    conjure compare cat dog --model training/out
    python training/train.py --start FOLDER    # only the last stage, from the weights of stages 1 and 2 in a model folder

A run can be stopped at any time; the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import PixArtAlphaPipeline

import augmentation
import autoencoder
import conjure
import denoiser
import denoiser_training
from augmentation import TrainingImages
from captions import MAX_TOKENS
from config import CACHE_FOLDER, IMAGE_SIZE, RUNS_FOLDER, TRAINING_FOLDER
from conjure.models.default_model import text_encoder, tokenizer
from recipe import SHIPPED, Recipe

# Settings that the meaning of the weights depends on; they are written to conjure.json
PROCESS_SETTINGS: dict[str, Any] = {"guidance": 7.5, "unit": "epsilon", "call": {"max_sequence_length": MAX_TOKENS}}


def make_pipeline(vae: torch.nn.Module, transformer: torch.nn.Module) -> PixArtAlphaPipeline:
    """Return the complete pipeline. Its text encoder and tokenizer come from a separate package."""
    return PixArtAlphaPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder(),
        vae=vae,
        transformer=transformer,
        scheduler=denoiser.make_scheduler(),
    )


def save_pipeline(vae: torch.nn.Module, transformer: torch.nn.Module, folder: Path) -> None:
    """Write the pipeline to `folder` in the format of diffusers, in half precision, without text encoder and tokenizer."""
    pipeline = make_pipeline(vae.half(), transformer.half())
    new_folder = folder.with_suffix(".new")
    pipeline.save_pretrained(new_folder)
    for component in ("tokenizer", "text_encoder"):
        shutil.rmtree(new_folder / component)
    for path in new_folder.rglob("config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # a path of the machine on which the model was trained
        path.write_text(json.dumps(config, indent=2) + "\n")
    (new_folder / "conjure.json").write_text(json.dumps(PROCESS_SETTINGS, indent=2) + "\n")
    for path in new_folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            target = folder / path.relative_to(new_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    shutil.rmtree(new_folder)


def train(
    images: TrainingImages, recipe: Recipe, cache: Path, runs_folder: Path, out: Path, start: str | Path | None = None
) -> None:
    """Run all stages and write the pipeline to `out`. Stages and steps that were completed before are not repeated.

    Args:
        images: The training images.
        recipe: The hyperparameters.
        cache: The folder of downloads, latents and caption embeddings.
        runs_folder: The folder in which each stage has a run folder with its checkpoint and loss curve.
        out: The folder of the pipeline.
        start: A model of this recipe, whose autoencoder and denoiser are used instead of stages 1 and 2.
    """
    pixels, captions = augmentation.stack(images, cache)
    pipeline: Any = conjure.load(start, device="cpu").pipeline if start else None
    vae = pipeline.vae if pipeline else autoencoder.train(images, pixels, recipe, runs_folder / "autoencoder")
    latents = autoencoder.encode(vae, images, pixels, cache)
    data = denoiser_training.prepare(images, latents, captions, cache)
    transformer = pipeline.transformer if pipeline else denoiser_training.train(data, recipe, runs_folder / "denoiser")
    denoiser_training.finish(transformer, data, recipe, runs_folder / "finishing")
    save_pipeline(vae, transformer, out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the default model of Conjure.")
    parser.add_argument(
        "--out", type=Path, default=TRAINING_FOLDER / "out", help="folder to write the model to (default: %(default)s)"
    )
    parser.add_argument("--start", help="model whose autoencoder and denoiser are used instead of stages 1 and 2")
    arguments = parser.parse_args()
    images = augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    train(images, SHIPPED, CACHE_FOLDER, RUNS_FOLDER, arguments.out, arguments.start)
    print(f"wrote {arguments.out}; to see sample images: python training/contact_sheet.py --model {arguments.out}")


if __name__ == "__main__":
    main()

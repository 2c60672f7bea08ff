"""Train the default model of Conjure: data, autoencoder, denoiser, and the folder that the package contains.

    make train                                  # or: python training/train.py
    python training/train.py --start FOLDER     # stages 3 and 4 alone, from a saved pipeline that has completed stages 1 and 2

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
from diffusers import AutoencoderTiny, PixArtAlphaPipeline, PixArtTransformer2DModel

import augmentation
import autoencoder
import denoiser
import denoiser_stages
from captions import MAX_TOKENS
from config import CACHE_FOLDER, IMAGE_SIZE, RUNS_FOLDER
from conjure.models.default_model import FOLDER, text_encoder, tokenizer

# Settings that the meaning of the weights depends on; they are written to conjure.json
PROCESS_SETTINGS: dict[str, Any] = {"guidance": 10.0, "unit": "epsilon", "call": {"max_sequence_length": MAX_TOKENS}}


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the default model of Conjure.")
    parser.add_argument("--start", type=Path, help="folder of a pipeline that has completed stages 1 and 2")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write the model to (default: %(default)s)")
    arguments = parser.parse_args()
    images = augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    start = None
    if arguments.start:
        options: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
        vae = AutoencoderTiny.from_pretrained(arguments.start / "vae", **options).eval()
        start = PixArtTransformer2DModel.from_pretrained(arguments.start / "transformer", **options)
    else:
        vae = autoencoder.train(images, RUNS_FOLDER / "autoencoder")
    latents, captions = autoencoder.encode(vae, images, CACHE_FOLDER)
    transformer = denoiser_stages.train(images, latents, captions, CACHE_FOLDER, RUNS_FOLDER, start=start)
    save_pipeline(vae, transformer, arguments.out)
    print(f"wrote {arguments.out}; to see sample images: python training/contact_sheet.py --model {arguments.out}")


if __name__ == "__main__":
    main()

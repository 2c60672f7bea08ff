"""Train Conjure's default model: pictures, an autoencoder, a denoiser, and the folder that ships with the package.

make train                                      # or: python training/train.py; stop it at any time, the same command goes on
python training/train.py --start FOLDER         # the last stage alone, from the autoencoder and denoiser of a saved pipeline
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

import autoencoder
import denoiser
import views
from captions import LIMIT
from conjure.default_model import FOLDER, text_encoder, tokenizer

HERE = Path(__file__).parent
SIZE = 64  # pixels a side


# what belongs to the model's meaning besides its weights, and stands in its conjure.json
PROCESS: dict[str, Any] = {"guidance": 3.0, "unit": "epsilon", "call": {"max_sequence_length": LIMIT}}


def pipeline_of(vae: torch.nn.Module, transformer: torch.nn.Module) -> PixArtAlphaPipeline:
    """The whole pipeline, with the text encoder that a package brings."""
    return PixArtAlphaPipeline(
        tokenizer=tokenizer(), text_encoder=text_encoder(), vae=vae, transformer=transformer, scheduler=denoiser.scheduler()
    )


def assemble(vae: torch.nn.Module, transformer: torch.nn.Module, folder: Path) -> None:
    """Write the pipeline in diffusers' format, in half precision, without the text encoder, which a package brings."""
    pipeline = pipeline_of(vae.half(), transformer.half())
    new = folder.with_suffix(".new")
    pipeline.save_pretrained(new)
    for part in ("tokenizer", "text_encoder"):
        shutil.rmtree(new / part)
    for config in new.rglob("config.json"):  # where this machine kept it is nobody's business
        plain = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
        config.write_text(json.dumps(plain, indent=2) + "\n")
    (new / "conjure.json").write_text(json.dumps(PROCESS, indent=2) + "\n")
    for path in new.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            (folder / path.relative_to(new)).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / path.relative_to(new))
    shutil.rmtree(new)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--start", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    data, start = views.load(HERE / "cache", SIZE), None
    if arguments.start:
        vae = AutoencoderTiny.from_pretrained(arguments.start / "vae", use_safetensors=True, dtype=torch.float32).eval()
        start = PixArtTransformer2DModel.from_pretrained(
            arguments.start / "transformer", use_safetensors=True, dtype=torch.float32
        )
    else:
        vae = autoencoder.train(data, HERE / "runs/autoencoder")
    latents, captions = autoencoder.encode(vae, data, HERE / "cache")
    transformer = denoiser.train(data, latents, captions, HERE / "cache", HERE / "runs", start=start)
    assemble(vae, transformer, arguments.out)
    print(f"wrote {arguments.out}; look at it with: python training/sheet.py --model {arguments.out}")


if __name__ == "__main__":
    main()

"""Train a LoRA on a few drawings, and measure the example of docs/howto/drift.md: for which texts does it change something?

The LoRA teaches the default model a style, blueprints: white lines on blue paper. The script draws the images that it trains on.
Writes benchmarks/drift_lora.md, docs/figures/drift_lora.png and docs/figures/drift_lora_drawings.png (about three minutes on a
CPU).

python benchmarks/drift_lora.py          # train, measure and write
python benchmarks/drift_lora.py FOLDER   # only train, and write the LoRA to a folder, for conjure drift --other-lora FOLDER
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusion3Pipeline
from jaxtyping import Float
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from PIL import Image, ImageDraw

import conjure
from conjure.plotting.images import tile_images
from drift_examples import HERE, markdown

FIGURES = HERE.parent / "docs" / "figures"
NAME = "blueprint-lora"
PAPER, INK = (24, 62, 150), (240, 245, 255)  # RGB
CANVAS, WIDTH = 256, 8  # pixels of a drawing and of its lines, before it is reduced to the size of the model
PLACES = 6  # drawings of each thing, at random places and sizes

RANK, ALPHA = 8, 8
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]
STEPS, BATCH, LEARNING_RATE = 300, 12, 1e-3

Points = list[tuple[float, float]]
Shape = tuple[str, Points]  # the kind of shape, and its corners in 0..1

THINGS: dict[str, list[Shape]] = {
    "a house": [
        ("line", [(0.15, 0.5), (0.5, 0.15), (0.85, 0.5)]), ("box", [(0.22, 0.5), (0.78, 0.9)]),
        ("box", [(0.42, 0.62), (0.58, 0.9)]), ("box", [(0.28, 0.58), (0.36, 0.68)]),
    ],
    "a tree": [("round", [(0.22, 0.1), (0.78, 0.62)]), ("box", [(0.44, 0.62), (0.56, 0.95)])],
    "a boat": [
        ("line", [(0.1, 0.65), (0.9, 0.65), (0.72, 0.88), (0.28, 0.88), (0.1, 0.65)]), ("line", [(0.5, 0.65), (0.5, 0.1)]),
        ("line", [(0.5, 0.14), (0.82, 0.56), (0.5, 0.56)]),
    ],
    "a cup": [
        ("line", [(0.25, 0.25), (0.3, 0.85), (0.62, 0.85), (0.67, 0.25), (0.25, 0.25)]),
        ("round", [(0.62, 0.36), (0.86, 0.68)]),
    ],
    "a car": [
        ("line", [(0.08, 0.65), (0.08, 0.48), (0.28, 0.45), (0.38, 0.28), (0.68, 0.28), (0.8, 0.46), (0.93, 0.5), (0.93, 0.65),
                  (0.08, 0.65)]),
        ("round", [(0.18, 0.56), (0.36, 0.76)]), ("round", [(0.66, 0.56), (0.84, 0.76)]),
    ],
    "a key": [
        ("round", [(0.1, 0.34), (0.4, 0.66)]), ("line", [(0.4, 0.5), (0.9, 0.5), (0.9, 0.64)]),
        ("line", [(0.76, 0.5), (0.76, 0.62)]),
    ],
}  # fmt: skip
STYLE = "a blueprint of {}"
GROUPS = {
    "trained drawings": [STYLE.format(thing) for thing in THINGS],
    "other things in the style": [
        STYLE.format(thing) for thing in ("a bicycle", "a chair", "a cat", "a bridge", "an airplane", "a fish")
    ],
    "trained things without the style": list(THINGS),
    "unrelated texts": [
        "a black cat", "two birds on a branch", "a slice of pizza", "a sad clown", "a snow leopard", "a bunch of red roses",
    ],
}  # fmt: skip


def draw(shapes: list[Shape], size: int, rng: np.random.Generator) -> Float[np.ndarray, "size size 3"]:
    """Return a drawing of some shapes at a random place, with values in 0..1."""
    image = Image.new("RGB", (CANVAS, CANVAS), PAPER)
    pen = ImageDraw.Draw(image)
    scale = rng.uniform(0.7, 1.0) * CANVAS
    left, top = rng.uniform(0, CANVAS - scale, 2)
    for kind, corners in shapes:
        points = [(left + scale * x, top + scale * y) for x, y in corners]
        match kind:
            case "line":
                pen.line(points, INK, WIDTH, joint="curve")
            case "box":
                pen.rectangle(points, None, INK, WIDTH)
            case "round":
                pen.ellipse(points, None, INK, WIDTH)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32) / 255


@torch.no_grad()
def encode(process: conjure.Process, texts: list[str]) -> torch.Tensor:
    """Return the embeddings of texts as the denoiser receives them, shape (texts, tokens, dimensions)."""
    options = {"do_classifier_free_guidance": False, "max_sequence_length": 64, "clean_caption": False}
    return process.pipeline.encode_prompt(texts, **options)[0]


def train(folder: Path, progress: Callable[[int, float], None], steps: int = STEPS, seed: int = 0) -> np.ndarray:
    """Train the LoRA, and write it to a folder in the format of diffusers.

    Args:
        folder: The folder.
        progress: Called after each step with its number and its loss.
        steps: The number of training steps.
        seed: The seed of the drawings, of the noise and of the first weights.

    Returns:
        The drawings, shape (images, size, size, 3).
    """
    process = conjure.load(device="cpu")
    pipeline, scheduler = process.pipeline, DDPMScheduler.from_config(process.pipeline.scheduler.config)
    assert scheduler.config.prediction_type == "v_prediction"
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    size = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    images = np.stack([draw(shapes, size, rng) for shapes in THINGS.values() for _ in range(PLACES)])
    vectors = encode(process, [STYLE.format(thing) for thing in THINGS for _ in range(PLACES)])
    with torch.no_grad():
        latents = pipeline.vae.encode(2 * torch.from_numpy(images).movedim(-1, 1) - 1).latents
    latents = latents * pipeline.vae.config.scaling_factor

    model = pipeline.transformer.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS), model, "default")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    for step in range(steps):
        batch = torch.from_numpy(rng.choice(len(images), BATCH, replace=False))
        t = torch.randint(0, scheduler.config.num_train_timesteps, (BATCH,))
        x0, eps = latents[batch], torch.randn(latents[batch].shape)
        prediction = model(
            scheduler.add_noise(x0, eps, t), vectors[batch], t, {"resolution": None, "aspect_ratio": None}, return_dict=False
        )[0]
        loss = (prediction - scheduler.get_velocity(x0, eps, t)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step, loss.item())

    scaling = {"r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS}
    state = {name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(model).items()}
    StableDiffusion3Pipeline.save_lora_weights(folder, transformer_lora_layers=state, transformer_lora_adapter_metadata=scaling)
    return images


def report(step: int, loss: float) -> None:
    """Print the loss of every fiftieth step."""
    if step % 50 == 0:
        print(f"step {step}: loss {loss:.3f}", flush=True)


def main() -> None:
    """Train the LoRA, and write the table and the figures."""
    if len(sys.argv) > 1:
        train(Path(sys.argv[1]), report)
        return
    with tempfile.TemporaryDirectory() as parent, contextlib.chdir(parent):  # so that the name of the LoRA is no long path
        drawings = train(Path(NAME), report)
        process = conjure.load(device="cpu")
        result = conjure.drift(process, conjure.load(device="cpu", lora=NAME), GROUPS, images=3)
    (HERE / "drift_lora.md").write_text(markdown(result) + "\n", encoding="utf-8")
    result.save(FIGURES / "drift_lora.png")
    shown = (255 * tile_images(drawings[::PLACES]).clip(0, 1)).round().astype(np.uint8)
    Image.fromarray(shown).resize((3 * shown.shape[1], 3 * shown.shape[0]), Image.Resampling.NEAREST).save(
        FIGURES / "drift_lora_drawings.png", optimize=True
    )


if __name__ == "__main__":
    main()

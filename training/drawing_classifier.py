"""Judge generated images with a small classifier of drawings.

    python training/drawing_classifier.py      # trains the classifier; adds its results to results/classifier.json

The classifier is a convolutional network that is trained on real training drawings alone. It is measured on drawings that neither
it nor the model was trained on, and on images that the model generates. It plays no part in the training of the model. Its names
are those with 3 to 20 training drawings; a name with more is that of a collection ("aiga symbol signs"). The most typical drawing
of each name is not shown to it, because the model mostly learns these: their copies must be as new to it as held-out drawings.
Synonyms are not merged: another name for the same thing counts as wrong, for real drawings and for generated images alike.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import augmentation
import conjure
import trainer
from augmentation import TrainingImages
from batch_sampler import NUM_DRAWINGS
from config import CACHE_FOLDER, IMAGE_SIZE, RESULTS_FOLDER, RUNS_FOLDER
from conjure.diffusion.process import Process
from conjure.io.documents import Table
from generated_images import (
    GUIDANCE_SCALES,
    PROMPT_SEED,
    choose_prompts,
    encode,
    generate,
    proportion,
    training_drawings_by_name,
)
from nearest_concepts import untypical

SCHEDULE = trainer.Schedule(samples=240_000, batch_size=64, learning_rate=3e-3, ema_decay=0.99, weight_decay=0.05)
WIDTHS = (16, 40, 80, 160)  # channels of the layers
LABEL_SMOOTHING = 0.1
TOP = (1, 5)  # an image counts as recognised if its name is among so many names of the classifier
RESULTS_FILE, RESULTS_KEY = RESULTS_FOLDER / "classifier.json", "classifier_of_drawings"


@dataclass(frozen=True)
class Split:
    """The drawings of the classifier. No held-out drawing is a training drawing.

    Attributes:
        names: The names, in order.
        train_indices: The indices of the training drawings.
        train_labels: The index of the name of each of them.
        held_out_indices: The indices of the held-out drawings of these names.
        held_out_labels: The index of the name of each of them.
    """

    names: list[str]
    train_indices: np.ndarray
    train_labels: np.ndarray
    held_out_indices: np.ndarray
    held_out_labels: np.ndarray


def split(images: TrainingImages, vae: Any) -> Split:
    """Return the drawings of the classifier: those of the model, without the most typical training drawing of each name.

    Args:
        images: The images.
        vae: The autoencoder, in whose latents the most typical drawing has the smallest mean distance to the others.
    """
    drawings = images.drawings
    by_name = {}
    for name, indices in training_drawings_by_name(images).items():
        if len(indices) in NUM_DRAWINGS:
            by_name[name] = [indices[i] for i in untypical(encode(vae, drawings.over_white(np.array(indices))))]
    number = {name: label for label, name in enumerate(by_name)}
    held_out = [int(i) for i in drawings.held_out_indices if drawings.concepts[i].label in number]
    return Split(
        names=list(by_name),
        train_indices=np.array([i for indices in by_name.values() for i in indices]),
        train_labels=np.array([number[name] for name, indices in by_name.items() for _ in indices]),
        held_out_indices=np.array(held_out),
        held_out_labels=np.array([number[drawings.concepts[i].label] for i in held_out]),
    )


def build(num_names: int) -> nn.Sequential:
    """Return the network: images of shape (images, 3, 64, 64) in -1..1 to logits of shape (images, names)."""

    def layer(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        return [convolution, nn.BatchNorm2d(width), nn.ReLU()]

    layers = layer(3, WIDTHS[0], kernel=5, stride=2)
    for channels, width in pairwise(WIDTHS):
        layers += [*layer(channels, width, kernel=3, stride=2), *layer(width, width, kernel=3, stride=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTHS[-1], num_names))


def jitter_colours(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return images in -1..1 with a random contrast, brightness and saturation each. White remains white.

    Args:
        images: The images, shape (images, 3, size, size).
        generator: The source of the random changes, on the device of the images.
    """
    saturation, contrast = 0.6 + 0.8 * torch.rand((2, len(images), 1, 1, 1), generator=generator, device=images.device)
    grey = images.mean(1, keepdim=True)
    saturated = grey + saturation * (images - grey)
    return (1 - contrast * (1 - saturated)).clamp(-1, 1)


def train(images: TrainingImages, drawings: Split, schedule: trainer.Schedule, run_folder: Path) -> nn.Sequential:
    """Return the trained classifier. A stopped training is resumed.

    Args:
        images: The images.
        drawings: The drawings to train on.
        schedule: The length and speed of the training.
        run_folder: The folder of the checkpoint and the loss curve.
    """
    torch.manual_seed(schedule.seed)
    model = build(len(drawings.names)).to(trainer.DEVICE)

    def make_loss(indices: np.ndarray, labels: np.ndarray, is_training: bool) -> trainer.LossFunction:
        pixels = torch.from_numpy(images.drawings.over_white(indices)).to(trainer.DEVICE)
        targets, may_mirror = torch.from_numpy(labels).to(trainer.DEVICE), images.may_mirror[indices].to(trainer.DEVICE)

        def loss(generator: torch.Generator) -> torch.Tensor:
            model.train(is_training)  # held-out drawings must not change the statistics of the normalisation
            chosen = trainer.sample(torch.arange(len(pixels), device=trainer.DEVICE), schedule.batch_size, generator)
            x = augmentation.to_tensor(pixels[chosen])
            if is_training:
                x = jitter_colours(augmentation.augment(x, may_mirror[chosen], generator), generator)
            smoothing = LABEL_SMOOTHING if is_training else 0.0
            return nn.functional.cross_entropy(model(x).float(), targets[chosen], label_smoothing=smoothing)

        return loss

    train_loss = make_loss(drawings.train_indices, drawings.train_labels, True)
    held_out_loss = make_loss(drawings.held_out_indices, drawings.held_out_labels, False)
    trainer.fit(model, schedule, train_loss, held_out_loss, run_folder, (images.version, drawings.train_indices.tolist()))
    return model.eval()


@torch.inference_mode()
def ranks(model: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many names the classifier gives a higher probability than the right name, per image.

    Args:
        model: The classifier, on the CPU.
        pixels: The images, uint8 of shape (images, size, size, 3).
        labels: The index of the right name of each image.
    """
    logits = model(augmentation.to_tensor(torch.from_numpy(pixels)))
    right = logits.gather(1, torch.from_numpy(labels)[:, None])
    return (logits > right).sum(1).numpy()


def summarize(found: np.ndarray, real: np.ndarray | None = None) -> dict[str, Any]:
    """Return the shares of images whose name is among the first names, in percent, with 95% intervals.

    Args:
        found: The ranks of the right names of the images.
        real: Those of held-out drawings; the ratios to their shares are added.
    """
    result: dict[str, Any] = {"num_images": len(found)}
    for top in TOP:
        share = proportion(int((found < top).sum()), len(found))
        result[f"top{top}"] = {"accuracy": share["accuracy"], "ci95": share["ci95"]}
        if real is not None:
            result[f"top{top}"]["percent_of_real"] = ratio(
                int((found < top).sum()), len(found), int((real < top).sum()), len(real)
            )
    return result


def ratio(correct: int, number: int, real_correct: int, real_number: int) -> dict[str, Any] | None:
    """Return the ratio of two independent shares in percent, with its 95% interval (Katz, on a logarithmic scale).

    None if one of the shares is 0.
    """
    if not correct or not real_correct:
        return None
    value = correct / number / (real_correct / real_number)
    half_width = 1.96 * math.sqrt(1 / correct - 1 / number + 1 / real_correct - 1 / real_number)
    ci95 = [round(100 * value * math.exp(sign * half_width)) for sign in (-1, 1)]
    return {"value": round(100 * value), "ci95": ci95}


def measure(process: Process, images: TrainingImages, num_images: int, runs_folder: Path) -> dict[str, Any]:
    """Train the classifier, and return its results for held-out drawings and for generated images.

    Args:
        process: The process of the model.
        images: The images.
        num_images: The number of images to generate per guidance scale.
        runs_folder: The folder in which the classifier has a run folder with its checkpoint and loss curve.
    """
    drawings = split(images, process.pipeline.vae)
    model = train(images, drawings, SCHEDULE, runs_folder / f"drawing-classifier-{images.version}")
    real = ranks(model, images.drawings.over_white(drawings.held_out_indices), drawings.held_out_labels)

    def judge(prompts: list[str], guidance: float) -> dict[str, Any]:
        labels = np.array([drawings.names.index(prompt) for prompt in prompts])
        return {"guidance": guidance, **summarize(ranks(model, generate(process, prompts, guidance), labels), real)}

    by_name = training_drawings_by_name(images)
    chosen = choose_prompts(by_name, num_images, np.random.default_rng(PROMPT_SEED))
    prompts = [name for name in chosen if name in set(drawings.names)]
    assert process.guidance is not None
    return {
        "num_names": len(drawings.names),
        "num_training_drawings": len(drawings.train_indices),
        "held_out_drawings": summarize(real),
        "generated_images": [judge(prompts, guidance) for guidance in GUIDANCE_SCALES],
        "generated_images_of_held_out_names": judge([drawings.names[i] for i in drawings.held_out_labels], process.guidance),
    }


def results_table(results: dict[str, Any]) -> str:
    """Return the results of the classifier as a Markdown table."""
    real = results["held_out_drawings"]
    entries = [("held-out real drawings", real)]
    entries += [(f"generated images, guidance {entry['guidance']:g}", entry) for entry in results["generated_images"]]
    same = results["generated_images_of_held_out_names"]
    entries.append((f"generated images of the names of the held-out drawings, guidance {same['guidance']:g}", same))
    rows = []
    for label, entry in entries:
        cells = [label, f"{entry['num_images']}"]
        for top in TOP:
            share = entry[f"top{top}"]
            low, high = share["ci95"]
            cells += [f"{share['accuracy']:.1f}%", f"{low} to {high}"]
        relative = entry["top1"].get("percent_of_real")
        cells.append(f"{relative['value']}% ({relative['ci95'][0]} to {relative['ci95'][1]})" if relative else "")
        rows.append(cells)
    head = ["", "images", "right name", "95% CI", "among the first 5", "95% CI", "right name, relative to real drawings (95% CI)"]
    return Table("Classifier of drawings", head, rows).to_markdown()


def main() -> None:
    process, images = conjure.load(), augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    results = json.loads(RESULTS_FILE.read_text())
    if results["fingerprint"] != process.fingerprint():
        raise SystemExit(f"{RESULTS_FILE} was measured with another model; run training/zero_shot_classification.py")
    results[RESULTS_KEY] = measure(process, images, results["generated_images"][0]["num_images"], RUNS_FOLDER)
    RESULTS_FILE.write_text(json.dumps(results, indent=1) + "\n")
    print(results_table(results[RESULTS_KEY]))


if __name__ == "__main__":
    main()

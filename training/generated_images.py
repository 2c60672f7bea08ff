"""The generated images that are judged, and how the share of recognised images is reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

import augmentation
from augmentation import TrainingImages
from conjure.diffusion.process import Process

IMAGES_PER_NAME = 3  # real training images that every name has at least
GUIDANCE_SCALES = (3.0, 5.0, 7.5, 10.0)
PROMPT_SEED = 1


def training_drawings_by_name(images: TrainingImages) -> dict[str, list[int]]:
    """Return the indices of the training drawings of each name that has at least `IMAGES_PER_NAME` of them."""
    by_name: dict[str, list[int]] = {}
    for i in images.drawings.train_indices:
        by_name.setdefault(images.drawings.concepts[i].label, []).append(int(i))
    return {name: indices for name, indices in sorted(by_name.items()) if len(indices) >= IMAGES_PER_NAME}


def choose_prompts(by_name: dict[str, list[int]], num_images: int, rng: np.random.Generator) -> list[str]:
    """Return `num_images` names in random order."""
    return [str(name) for name in rng.permutation(list(by_name))[:num_images]]


def generate(process: Process, prompts: list[str], guidance: float) -> np.ndarray:
    """Return one image per prompt, each from its own seed, uint8 of shape (prompts, size, size, 3).

    Args:
        process: The process of the model.
        prompts: The prompts.
        guidance: The scale of classifier-free guidance.
    """
    generated = process.set(guidance=guidance).run(prompts, range(len(prompts)), output_type="np")
    return (np.stack(list(generated)) * 255).round().astype(np.uint8)


@torch.no_grad()
def encode(vae: Any, pixels: np.ndarray) -> torch.Tensor:
    """Return the latents of images, uint8 of shape (images, size, size, 3), by an autoencoder, one vector per image."""
    return vae.encode(augmentation.to_tensor(torch.from_numpy(pixels))).latents.flatten(1)


def proportion(num_correct: int, num_images: int) -> dict[str, Any]:
    """Return the accuracy in percent with its 95% interval (Wilson)."""
    interval = binomtest(num_correct, num_images).proportion_ci(method="wilson")
    ci95 = [round(100 * interval.low, 1), round(100 * interval.high, 1)]
    return {"num_images": num_images, "accuracy": round(100 * num_correct / num_images, 1), "ci95": ci95}

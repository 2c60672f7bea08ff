"""Measure how well the model connects images and texts: zero-shot classification of images among 20 captions.

    python training/zero_shot_classification.py      # writes results/classifier.json

The model is used as a diffusion classifier (Li et al. 2023): the predicted caption of an image is the one with the lowest
denoising loss, with the same noise for all captions. Accuracy is measured on held-out images of names that were trained on, and
on images of names that were not. In addition, generated images are classified by their nearest neighbours among real images, and
by a small classifier of drawings (`drawing_classifier.py`).
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

import augmentation
import conjure
import drawing_classifier
from augmentation import TrainingImages
from config import CACHE_FOLDER, IMAGE_SIZE, RUNS_FOLDER
from conjure.diffusion.process import Process
from conjure.io.documents import Table
from generated_images import (
    GUIDANCE_SCALES,
    IMAGES_PER_NAME,
    PROMPT_SEED,
    choose_prompts,
    encode,
    generate,
    proportion,
    training_drawings_by_name,
)
from nearest_concepts import untypical

NUM_CAPTIONS = 20
TIMESTEPS = tuple(range(40, 1000, 40))  # each with its own noise

# Keys of results/classifier.json, and their labels in the model card
TRAINED_NAMES, UNSEEN_NAMES, GENERATED = "held_out_images_of_trained_names", "images_of_unseen_names", "generated_images"
UNTYPICAL = "without_typical_drawings"
LABELS = {
    TRAINED_NAMES: "held-out images of trained names: correct caption among {n}",
    UNSEEN_NAMES: "images of unseen names: correct caption among {n}",
    GENERATED: "generated images of trained names, guidance {guidance:g}: nearest real image has the correct name among {n}",
    UNTYPICAL: "the same without the most typical real image of each name",
}


@torch.no_grad()
def denoising_losses(process: Process, image: np.ndarray, captions: list[str], seed: int) -> np.ndarray:
    """Return the mean denoising loss of an image under each caption.

    Args:
        process: The process of the model.
        image: The image, uint8 of shape (size, size, 3).
        captions: The captions.
        seed: The seed of the noise.

    Returns:
        The losses, shape (captions,).
    """
    pipeline: Any = process.pipeline
    x0 = pipeline.vae.encode(augmentation.to_tensor(torch.from_numpy(image[None]))).latents * pipeline.vae.config.scaling_factor
    eps = torch.randn(len(TIMESTEPS), *x0.shape[1:], generator=torch.Generator().manual_seed(seed))
    t = torch.tensor(TIMESTEPS)
    scheduler = pipeline.scheduler
    x_t, velocity = scheduler.add_noise(x0.expand_as(eps), eps, t), scheduler.get_velocity(x0.expand_as(eps), eps, t)
    max_tokens = process.pipeline_kwargs.get("max_sequence_length", 120)
    states, masks, *_ = pipeline.encode_prompt(
        captions, do_classifier_free_guidance=False, max_sequence_length=max_tokens, clean_caption=False
    )
    longest = int(masks.sum(1).max())
    losses = []
    for state, mask in zip(states[:, :longest], masks[:, :longest], strict=True):
        prediction = pipeline.transformer(
            x_t,
            encoder_hidden_states=state.expand(len(TIMESTEPS), -1, -1),
            timestep=t,
            encoder_attention_mask=mask.expand(len(TIMESTEPS), -1),
        ).sample
        losses.append(float((prediction - velocity).square().mean()))
    return np.array(losses)


def held_out_with_trained_names(images: TrainingImages) -> np.ndarray:
    """Return the indices of the held-out drawings for whose names there are training drawings."""
    drawings = images.drawings
    trained = {drawings.concepts[i].label for i in drawings.train_indices}
    return np.array([i for i in drawings.held_out_indices if drawings.concepts[i].label in trained])


def classify_images(
    process: Process, images: TrainingImages, indices: np.ndarray, num_images: int, description: str
) -> dict[str, Any]:
    """Return the accuracy of classifying images among `NUM_CAPTIONS` names.

    Args:
        process: The process of the model.
        images: The images.
        indices: The indices of the images to choose from. Their names are the candidate captions.
        num_images: The number of images that are chosen.
        description: The text of the progress bar.
    """
    rng = np.random.default_rng(0)
    labels = [concept.label for concept in images.drawings.concepts]
    names = sorted({labels[i] for i in indices})
    selected = rng.permutation(indices)[:num_images]
    num_correct = 0
    for i in track(selected, description):
        wrong = [name for name in rng.permutation(names) if name != labels[i]][: NUM_CAPTIONS - 1]
        losses = denoising_losses(process, images[int(i)][0], [labels[i], *wrong], seed=int(i))
        num_correct += int(losses.argmin() == 0)
    return {"num_captions": NUM_CAPTIONS, **proportion(num_correct, len(selected))}


@torch.no_grad()
def classify_generated(
    process: Process, images: TrainingImages, guidance_scales: Sequence[float], num_images: int
) -> list[dict[str, Any]]:
    """Return, for each guidance scale, how often the nearest real image of a generated image has the correct name.

    A name is chosen among `NUM_CAPTIONS` names.

    Distances are those of the autoencoder's latents, so the denoiser has no influence on the comparison. The last stage of
    training mostly shows the most typical drawing of each name, so the share is also measured without these drawings.

    Args:
        process: The process of the model.
        images: The real images.
        guidance_scales: The scales of classifier-free guidance for the generated images.
        num_images: The number of images to generate per scale.
    """
    by_name = training_drawings_by_name(images)
    vae = process.pipeline.vae

    @functools.cache
    def latents_of(name: str) -> torch.Tensor:
        return encode(vae, images.drawings.over_white(np.array(by_name[name])))

    @functools.cache
    def untypical_latents_of(name: str) -> torch.Tensor:
        latents = latents_of(name)
        return latents[untypical(latents)]

    def classify(guidance: float) -> dict[str, Any]:
        rng = np.random.default_rng(PROMPT_SEED)  # the same prompts and wrong names for all scales
        prompts = choose_prompts(by_name, num_images, rng)
        generated = generate(process, prompts, guidance)
        num_correct = dict.fromkeys((GENERATED, UNTYPICAL), 0)
        for prompt, image in zip(track(prompts, f"images with guidance {guidance:g}"), generated, strict=True):
            wrong = [str(name) for name in rng.permutation(list(by_name)) if name != prompt][: NUM_CAPTIONS - 1]
            target = encode(vae, image[None])
            for key, real_latents, number in (
                (GENERATED, latents_of, IMAGES_PER_NAME),
                (UNTYPICAL, untypical_latents_of, IMAGES_PER_NAME - 1),
            ):
                distances = [(real_latents(name)[:number] - target).square().sum(1).min() for name in (prompt, *wrong)]
                num_correct[key] += int(torch.stack(distances).argmin() == 0)
        shares = {key: proportion(number, len(prompts)) for key, number in num_correct.items()}
        return {"guidance": guidance, **shares[GENERATED], UNTYPICAL: shares[UNTYPICAL]}

    return [classify(guidance) for guidance in guidance_scales]


def results_table(results: dict[str, Any]) -> str:
    """Return the content of results/classifier.json as a Markdown table."""
    entries = [(key, results[key]) for key in (TRAINED_NAMES, UNSEEN_NAMES)]
    for entry in results[GENERATED]:
        entries += [(GENERATED, entry), (UNTYPICAL, entry[UNTYPICAL])]
    rows = []
    for key, entry in entries:
        label = LABELS[key].format(n=NUM_CAPTIONS, guidance=entry.get("guidance", 0))
        low, high = entry["ci95"]
        rows.append([label, f"{entry['num_images']}", f"{entry['accuracy']:.1f}%", f"{low} to {high}"])
    return Table("Zero-shot classification", ["", "images", "accuracy", "95% CI"], rows).to_markdown()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the zero-shot classification accuracy of a model.")
    parser.add_argument("--model", default="default", help="folder or name of the model (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=200, help="images per measurement (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=drawing_classifier.RESULTS_FILE, help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    process, images = conjure.load(arguments.model), augmentation.load(CACHE_FOLDER, IMAGE_SIZE)
    num_images = arguments.num_images
    results = {
        TRAINED_NAMES: classify_images(process, images, held_out_with_trained_names(images), num_images, "trained names"),
        UNSEEN_NAMES: classify_images(process, images, images.drawings.unseen_indices, num_images, "unseen names"),
        GENERATED: classify_generated(process, images, GUIDANCE_SCALES, num_images),
        drawing_classifier.RESULTS_KEY: drawing_classifier.measure(process, images, num_images, RUNS_FOLDER),
        "fingerprint": process.fingerprint(),
    }
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

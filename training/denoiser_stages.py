"""Training of the denoiser: the denoising, contrastive and recovery stages, weight interpolation and spectrum flattening.

Stage 2 (denoising) minimises the denoising loss. This loss depends little on the text: under a wrong caption it is higher by a
thirtieth only. A model can therefore learn much about images and little about texts.

Stage 3 (contrastive) adds a cross-entropy: the error of denoising an image must be lower under its own caption than under others.
The stage repeats the drawings often. Cross-attention becomes sensitive only to the directions in which their captions differ.

Stage 4 (recovery) resets the cross-attention of the first layers to its state after stage 2, and trains the other weights. A
third loss term keeps the relative distances between texts as they were after stage 2.

Then, without training, the weights before and after stage 4 are interpolated (Wortsman et al. 2022, arXiv 2109.01903), and the
singular values of cross-attention are flattened (`denoiser.flatten_spectrum`).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel

import denoiser
import trainer
from augmentation import TrainingImages
from batch_sampler import BatchSampler
from captions import CaptionEmbeddings
from conjure.models.sentence_encoder import use_constant_text_attention
from contamination import CaptionFilter
from denoiser_losses import DenoiserLosses
from lexicon import WordNet
from nearest_concepts import NearestConcepts, wordnet_texts
from recipe import NUM_RESTORED_LAYERS, SHIPPED, Recipe


def train(
    images: TrainingImages,
    latents: torch.Tensor,
    captions_of_image: list[list[str]],
    cache: Path,
    runs_folder: Path,
    recipe: Recipe = SHIPPED,
    start: PixArtTransformer2DModel | None = None,
) -> PixArtTransformer2DModel:
    """Return a trained denoiser.

    Args:
        images: The training images, for their indices and augmented copies.
        latents: The scaled latents of the images, shape (images, 16, 8, 8).
        captions_of_image: The captions of each image.
        cache: The folder of downloads and caption embeddings.
        runs_folder: The folder in which each stage has a run folder with its checkpoint and loss curve.
        recipe: The hyperparameters.
        start: A denoiser that has completed the denoising stage. None trains from scratch.
    """
    is_allowed, wordnet = CaptionFilter(images.drawings), WordNet(cache)
    captions = CaptionEmbeddings(filter(is_allowed, set(wordnet_texts(wordnet)).union(*captions_of_image)), cache)
    caption_indices = [captions.indices(texts) for texts in captions_of_image]
    nearest = NearestConcepts(captions, wordnet, images.drawings)
    sampler = BatchSampler(images.train_indices, nearest, recipe.shares, caption_indices)
    # the texts of WordNet are shown by training drawings, so there are none for the held-out images
    held_out_sampler = BatchSampler(images.held_out_indices, None, recipe.shares, caption_indices)

    torch.manual_seed(recipe.denoising.seed)
    model = start or denoiser.build(recipe)
    model.requires_grad_(True).caption_projection.requires_grad_(recipe.trainable_projection)
    use_constant_text_attention(model)
    losses = DenoiserLosses(model, latents.to(trainer.DEVICE), captions.vectors.to(trainer.DEVICE), caption_indices)

    def run_stage(
        name: str,
        schedule: trainer.Schedule,
        make_loss: Callable[[BatchSampler, int], trainer.LossFunction],
        train_sampler: BatchSampler,
    ) -> None:
        train_loss = make_loss(train_sampler, schedule.batch_size)
        held_out_loss = make_loss(held_out_sampler, schedule.batch_size)
        trainer.fit(model.to(trainer.DEVICE), schedule, train_loss, held_out_loss, runs_folder / name)

    if not start:
        run_stage("denoiser", recipe.denoising, losses.denoising, sampler)
    after_denoising = deepcopy(model).requires_grad_(False)
    for part, schedule in enumerate(recipe.contrastive, 1):
        run_stage(f"contrastive-{part}", schedule, losses.contrastive, replace(sampler, random_copy=images.random_copy))
    if recipe.recovery:
        after_contrastive = deepcopy(model.state_dict())
        restored = {name: weights for name, weights in after_denoising.state_dict().items() if _is_restored(name)}
        model.load_state_dict(restored, strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not _is_restored(name))
        teacher = after_denoising.to(trainer.DEVICE)
        run_stage("recovery", recipe.recovery, partial(losses.recovery, teacher=teacher, probes=nearest.text_indices), sampler)
        model.load_state_dict(
            {name: after_contrastive[name].lerp(weights, recipe.interpolation) for name, weights in model.state_dict().items()}
        )
    if recipe.spectrum_power is not None:
        denoiser.flatten_spectrum(model, captions.vectors, recipe.spectrum_power)
    return model.eval()


def _is_restored(name: str) -> bool:
    """Return whether a weight belongs to the cross-attention of one of the first layers."""
    return any(name.startswith(f"transformer_blocks.{layer}.attn2.") for layer in range(NUM_RESTORED_LAYERS))

"""Stages 2 and 3: the training of the denoiser, by the denoising loss and a weak relation term.

Stage 2 shows every drawing of a name. A network of this size then generates a mixture of them, whose parts are missing or
blurred. Stage 3 is short. It shows the most typical drawing of each name more often than other drawings, and the model forgets
some of these. The final weights are therefore an average of those before and after stage 3.

References:
    Dai et al. 2023, arXiv 2309.15807 (a short last stage on few chosen images).
    Wortsman et al. 2022, arXiv 2109.01903 (the mean of the weights before and after fine-tuning).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel

import denoiser
import relations
import trainer
from augmentation import TrainingImages
from batch_sampler import BatchSampler
from captions import CaptionEmbeddings
from conjure.models.sentence_encoder import use_constant_text_attention
from contamination import CaptionFilter
from lexicon import WordNet
from nearest_concepts import NearestConcepts, wordnet_texts
from recipe import Batches, Recipe


@dataclass(frozen=True)
class DenoiserData:
    """What the denoiser is trained on.

    Attributes:
        images: The training images, for their indices.
        latents: The scaled latents of all images and of the copies of the drawings, shape (images and copies, 16, 8, 8), on
            `trainer.DEVICE`.
        vectors: The embeddings of the captions, on `trainer.DEVICE`.
        caption_indices: The indices of the captions of each image.
        nearest: The names, and those nearest to each text of WordNet.
        texts: The texts of the relation term.
    """

    images: TrainingImages
    latents: torch.Tensor
    vectors: torch.Tensor
    caption_indices: list[list[int]]
    nearest: NearestConcepts
    texts: relations.TextSampler


def prepare(images: TrainingImages, latents: torch.Tensor, captions_of_image: list[list[str]], cache: Path) -> DenoiserData:
    """Embed the captions, and find the names that are nearest to each text of WordNet.

    Args:
        images: The training images.
        latents: The scaled latents of all images and of the copies of the drawings.
        captions_of_image: The captions of each image.
        cache: The folder of downloads and caption embeddings.
    """
    is_allowed, wordnet = CaptionFilter(images.drawings), WordNet(cache)
    pairs = [pair for pair in relations.changed_definitions(wordnet) if all(map(is_allowed, pair))]
    all_texts = set(wordnet_texts(wordnet)).union(*captions_of_image, *pairs)
    captions = CaptionEmbeddings(filter(is_allowed, all_texts), cache)
    nearest = NearestConcepts(captions, wordnet, images.drawings, latents)
    vectors = captions.vectors.to(trainer.DEVICE)
    texts = relations.TextSampler(
        vectors,
        torch.from_numpy(nearest.text_indices).to(trainer.DEVICE),
        torch.tensor([captions.indices(pair) for pair in pairs], device=trainer.DEVICE),
    )
    caption_indices = [captions.indices(texts) for texts in captions_of_image]
    return DenoiserData(images, latents.to(trainer.DEVICE), vectors, caption_indices, nearest, texts)


def train(data: DenoiserData, recipe: Recipe, run_folder: Path) -> PixArtTransformer2DModel:
    """Return a denoiser trained by stage 2.

    Args:
        data: What it is trained on.
        recipe: The hyperparameters.
        run_folder: The folder of the checkpoint and the loss curve.
    """
    torch.manual_seed(recipe.denoising.seed)
    model = denoiser.build(recipe)
    _fit(model, data, recipe, recipe.denoising, recipe.denoising_batches, run_folder)
    return model.eval()


def finish(model: PixArtTransformer2DModel, data: DenoiserData, recipe: Recipe, run_folder: Path) -> None:
    """Train a denoiser by stage 3 and average the weights before and after, in place. The arguments are those of `train`."""
    before = [weights.detach().clone() for weights in model.parameters()]
    _fit(model, data, recipe, recipe.finishing, recipe.finishing_batches, run_folder)
    with torch.no_grad():
        for weights, old in zip(model.parameters(), before, strict=True):
            weights.lerp_(old, 1 - recipe.finishing_share)
    model.eval()


def _fit(
    model: PixArtTransformer2DModel,
    data: DenoiserData,
    recipe: Recipe,
    schedule: trainer.Schedule,
    batches: Batches,
    run_folder: Path,
) -> None:
    images, caption_indices, latents = data.images, data.caption_indices, data.latents
    train_sampler = BatchSampler(images.train_indices, data.nearest, batches, caption_indices, images.num_drawings)
    # the texts of WordNet are shown by training drawings, so there are none for the held-out images
    held_out_sampler = BatchSampler(images.held_out_indices, None, batches, caption_indices)
    model.train().requires_grad_(True)
    model.caption_projection.requires_grad_(False)  # a fixed rotation
    use_constant_text_attention(model)
    model.to(trainer.DEVICE)
    predict = trainer.compiled(model)
    alphas_cumprod = denoiser.make_scheduler().alphas_cumprod.to(trainer.DEVICE)
    batch_size, num_related = schedule.batch_size, max(1, round(schedule.batch_size * batches.relations))

    def denoising(
        sampler: BatchSampler, timestep_draws: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the mean squared error of a batch, its noisy latents and its timesteps."""
        chosen, chosen_captions = sampler(batch_size, generator)
        x0 = latents[chosen].float()
        eps = trainer.randn(x0.shape, generator)
        draws = torch.randint(len(alphas_cumprod), (timestep_draws, batch_size), generator=generator, device=trainer.DEVICE)
        t = draws.amax(0)
        alpha, sigma = (level.sqrt()[t, None, None, None] for level in (alphas_cumprod, 1 - alphas_cumprod))
        x_t, velocity = alpha * x0 + sigma * eps, alpha * eps - sigma * x0
        prediction = predict(x_t, encoder_hidden_states=data.vectors[chosen_captions].float()[:, None], timestep=t).sample
        return (prediction.float() - velocity).square().mean(), x_t, t

    def train_loss(generator: torch.Generator) -> torch.Tensor:
        error, x_t, t = denoising(train_sampler, batches.timestep_draws, generator)
        # drawings come first in a batch, so several images of the relation term are of all kinds, and a single one is a drawing
        related = torch.linspace(0, batch_size - 1, num_related, device=trainer.DEVICE).long()
        group = data.texts(num_related, generator)
        rows = [values[related].repeat_interleave(group.shape[1], 0) for values in (x_t, t)]
        with torch.autocast(trainer.DEVICE.type, enabled=False):
            prediction = predict(rows[0], encoder_hidden_states=group.flatten(0, 1)[:, None], timestep=rows[1]).sample
            relation = relations.relation_loss(prediction.flatten(1).unflatten(0, group.shape[:2]), group)
        return error + recipe.relation_weight * relation

    def held_out_loss(generator: torch.Generator) -> torch.Tensor:
        return denoising(held_out_sampler, 1, generator)[0]  # of all noise levels alike, so that stages can be compared

    digest = hashlib.sha256(latents.cpu().numpy().tobytes()).hexdigest()[:12]
    settings = (batches, recipe.relation_weight, images.version, digest)
    trainer.fit(model, schedule, train_loss, held_out_loss, run_folder, settings)

"""Loss functions of the denoiser: denoising, contrastive, and recovery with distilled distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import PixArtTransformer2DModel

import trainer
from batch_sampler import EMPTY_CAPTION, BatchSampler
from denoiser import make_scheduler, predict

NUM_NEGATIVES = 3  # captions of other images of the batch that each image is compared with
CONTRASTIVE_WEIGHT = 0.1  # of the cross-entropy, relative to the denoising loss
LOGIT_SCALE = 0.05  # nats per unit of squared error; about the information of one draw of noise
NUM_PROBES = 4  # texts of WordNet per image whose distances are distilled; half as many interpolated ones are added
DISTILLATION_WEIGHT = 1.0


@dataclass
class DenoiserLosses:
    """The loss functions of the denoising, contrastive and recovery stages. Tensors are on `trainer.DEVICE`.

    Attributes:
        model: The denoiser that is trained.
        latents: The scaled latents, shape (images, 16, 8, 8).
        vectors: The embeddings of the captions, shape (captions, 384).
        captions_of_image: The indices of the captions of each image.
    """

    model: PixArtTransformer2DModel
    latents: torch.Tensor
    vectors: torch.Tensor
    captions_of_image: list[list[int]]

    def add_noise(self, images: np.ndarray, noise_rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the noisy latents of images, their random timesteps, and their velocities (the targets of the denoiser)."""
        scheduler = make_scheduler()
        x0 = self.latents[trainer.to_device(torch.from_numpy(images))].float()
        eps = trainer.to_device(torch.randn(x0.shape, generator=noise_rng))
        t = trainer.to_device(torch.randint(0, scheduler.config.num_train_timesteps, (len(x0),), generator=noise_rng))
        return scheduler.add_noise(x0, eps, t), t, scheduler.get_velocity(x0, eps, t)

    def squared_errors(self, images: np.ndarray, captions: torch.Tensor, noise_rng: torch.Generator) -> torch.Tensor:
        """Return the mean squared errors of the predictions, with the same noise for all captions of an image.

        Args:
            images: The indices of the images, shape (images,).
            captions: The indices of the captions of each image, shape (images, captions).
            noise_rng: The source of timesteps and noise.

        Returns:
            The errors, shape (images, captions).
        """
        x_t, t, velocity = self.add_noise(images, noise_rng)
        prediction = predict(self.model, x_t, t, self.vectors[trainer.to_device(captions)].float())
        return (prediction - velocity[:, None]).square().mean((2, 3, 4))

    def denoising(self, sampler: BatchSampler, batch_size: int) -> trainer.LossFunction:
        """Return the loss of the denoising stage: the mean squared error under the caption of each image."""

        def loss(batch_rng: np.random.Generator, noise_rng: torch.Generator) -> torch.Tensor:
            images, captions = sampler(batch_rng, batch_size)
            return self.squared_errors(images, torch.tensor(captions)[:, None], noise_rng).mean()

        return loss

    def contrastive(self, sampler: BatchSampler, batch_size: int) -> trainer.LossFunction:
        """Return the loss of the contrastive stage.

        Each image is denoised under its own caption and under the captions of `NUM_NEGATIVES` other images of the batch. The
        cross-entropy of classifying its own caption by the squared errors is added to the denoising loss. A caption that also
        describes the image is not a negative. Images with an empty caption contribute to the denoising loss only.

        Reference:
            Lee et al. 2025, arXiv 2503.08250, where only tokens of the text are trained; here all weights are.
        """

        def loss(batch_rng: np.random.Generator, noise_rng: torch.Generator) -> torch.Tensor:
            images, captions = sampler(batch_rng, batch_size)
            candidates = torch.stack([torch.tensor(captions).roll(-shift) for shift in range(1 + NUM_NEGATIVES)], 1)
            errors = self.squared_errors(images, candidates, noise_rng)
            true_captions = [
                {EMPTY_CAPTION, caption, *self.captions_of_image[image]} for image, caption in zip(images, captions, strict=True)
            ]
            is_excluded = [
                [False, *(candidate in true for candidate in row[1:])]
                for true, row in zip(true_captions, candidates.tolist(), strict=True)
            ]
            has_caption = torch.tensor([i for i, caption in enumerate(captions) if caption != EMPTY_CAPTION], dtype=torch.long)
            logits = -LOGIT_SCALE * self.latents[0].numel() * errors
            logits = logits.masked_fill(trainer.to_device(torch.tensor(is_excluded)), -torch.inf)
            logits = logits[trainer.to_device(has_caption)]
            cross_entropy = torch.nn.functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
            return errors[:, 0].mean() + CONTRASTIVE_WEIGHT * cross_entropy

        return loss

    def recovery(
        self, sampler: BatchSampler, batch_size: int, teacher: PixArtTransformer2DModel, probes: np.ndarray
    ) -> trainer.LossFunction:
        """Return the loss of the recovery stage: the contrastive loss, and a distillation of distances between predictions.

        For half a batch of noisy images, the predictions under several probe texts are compared with those of the teacher. Only
        the logarithms of their pairwise distances matter, and only up to a constant: a text may have more effect than it has for
        the teacher, if the effects of all texts grow in proportion.

        Args:
            sampler: The source of images and captions.
            batch_size: The number of images per step.
            teacher: The denoiser before the contrastive stage.
            probes: The indices of the texts of WordNet among the captions.

        Reference:
            Li and Hoiem 2016, arXiv 1606.09282 (distillation from the model before a new task); Park et al. 2019, arXiv
            1904.05068 (distillation of distances).
        """
        contrastive = self.contrastive(sampler, batch_size)

        def loss(batch_rng: np.random.Generator, noise_rng: torch.Generator) -> torch.Tensor:
            contrastive_loss = contrastive(batch_rng, noise_rng)
            images, _ = sampler(batch_rng, batch_size // 2)
            x_t, t, _ = self.add_noise(images, noise_rng)
            indices = batch_rng.choice(probes, (len(images), NUM_PROBES))
            vectors = self.vectors[trainer.to_device(torch.from_numpy(indices))].float()
            # random texts are far apart, therefore vectors between them are added
            position = trainer.to_device(0.2 + 0.6 * torch.rand((len(images), NUM_PROBES // 2, 1), generator=noise_rng))
            vectors = torch.cat([vectors, torch.lerp(vectors[:, ::2], vectors[:, 1::2], position)], 1)
            vectors = vectors / vectors.square().mean(-1, keepdim=True).sqrt()
            with torch.no_grad():
                target = log_pairwise_distances(teacher, x_t, t, vectors)
            drift = log_pairwise_distances(self.model, x_t, t, vectors) - target
            return contrastive_loss + DISTILLATION_WEIGHT * drift.var(1).mean()

        return loss


def log_pairwise_distances(
    model: PixArtTransformer2DModel, x_t: torch.Tensor, t: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """Return the logarithms of the squared distances between the predictions under the texts of an image.

    Args:
        model: The denoiser.
        x_t: The noisy latents, shape (images, 16, 8, 8).
        t: The timesteps, shape (images,).
        vectors: The text embeddings, shape (images, texts, 384).

    Returns:
        The logarithms, shape (images, pairs of texts).
    """
    with torch.autocast(trainer.DEVICE.type, enabled=False):  # bfloat16 is too coarse for small differences of large numbers
        predictions = predict(model, x_t, t, vectors)
    first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1)
    squared = (predictions[:, first] - predictions[:, second]).square().sum((2, 3, 4))
    return squared.clamp_min(1e-6).log()  # two texts may have the same vector

"""Stage 1: an autoencoder between images of 64x64 pixels and latents of 16 channels at 8x8."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from rich.progress import track

import trainer
from augmentation import NUM_COPIES, TrainingImages, augment, to_tensor
from recipe import Recipe

LATENT_NOISE = 0.1  # added to the latents, so that small errors of a denoiser have small effects on the decoded image
LATENT_PENALTY = 1e-3  # weight of the mean square of the latents in the loss
BATCH_SIZE = 512


def build(channels: int) -> AutoencoderTiny:
    """Return an untrained autoencoder. Most of its layers have a low resolution, at which they are fast."""
    return AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(channels,) * 4,
        decoder_block_out_channels=(channels,) * 4,
        num_encoder_blocks=(0, 1, 2, 2),
        num_decoder_blocks=(3, 3, 2, 1),
    )


def reconstruction_loss(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the sum of the mean absolute error, the mean squared error, and the mean absolute errors of the image gradients.

    The horizontal and vertical gradients make edges sharp.

    Args:
        decoded: The decoded images, shape (images, 3, size, size).
        images: The images, of the same shape.
    """
    error = decoded - images
    gradients = error.diff(dim=3).abs().mean() + error.diff(dim=2).abs().mean()
    return error.abs().mean() + error.square().mean() + gradients


def train(images: TrainingImages, pixels: torch.Tensor, recipe: Recipe, run_folder: Path) -> AutoencoderTiny:
    """Return a trained autoencoder whose `scaling_factor` gives the latents unit variance.

    Args:
        images: The training images, for their indices.
        pixels: The pixels of all drawings and scenes, uint8 of shape (images, size, size, 3).
        recipe: The hyperparameters.
        run_folder: The folder of the checkpoint and the loss curve.
    """
    schedule = recipe.autoencoder
    torch.manual_seed(schedule.seed)
    model = build(recipe.channels).to(trainer.DEVICE, memory_format=torch.channels_last)
    encoder, decoder = trainer.compiled(model.encoder), trainer.compiled(model.decoder)
    pixels, may_mirror = pixels.to(trainer.DEVICE), images.may_mirror.to(trainer.DEVICE)

    def make_loss(indices: tuple[np.ndarray, np.ndarray], with_copies: bool) -> trainer.LossFunction:
        drawings, scenes = (torch.from_numpy(kind).to(trainer.DEVICE) for kind in indices)

        def loss(generator: torch.Generator) -> torch.Tensor:
            num_drawings = schedule.batch_size * 5 // 8
            chosen = trainer.sample(drawings, num_drawings, generator)
            others = trainer.sample(scenes, schedule.batch_size - num_drawings, generator)
            x = to_tensor(pixels[torch.cat([chosen, others])])
            if with_copies:
                num_copies = num_drawings // 2
                x[:num_copies] = augment(x[:num_copies], may_mirror[chosen[:num_copies]], generator)
            x = x.contiguous(memory_format=torch.channels_last)
            z = encoder(x)
            decoded = decoder(z + LATENT_NOISE * trainer.randn(z.shape, generator)).float()
            return reconstruction_loss(decoded, x) + LATENT_PENALTY * z.float().square().mean()

        return loss

    train_loss, held_out_loss = make_loss(images.train_indices, True), make_loss(images.held_out_indices, False)
    trainer.fit(model, schedule, train_loss, held_out_loss, run_folder, images.version)
    model.to(memory_format=torch.contiguous_format).eval()
    indices = np.concatenate(images.train_indices)
    sample = torch.from_numpy(indices[:: max(1, len(indices) // 2000)]).to(pixels.device)
    with torch.inference_mode():
        deviation = torch.cat([model.encoder(to_tensor(pixels[part].cpu())) for part in sample.split(BATCH_SIZE)]).std()
    model.register_to_config(scaling_factor=float(1 / deviation))
    return model


@torch.inference_mode()
def encode(model: AutoencoderTiny, images: TrainingImages, pixels: torch.Tensor, cache: Path) -> torch.Tensor:
    """Return the latents of all drawings and scenes, followed by those of the augmented copies of the drawings.

    They are computed once and then read from `cache`. Copy c of drawing i has the index len(pixels) + c * num_drawings + i.

    Args:
        model: The autoencoder.
        images: The training images.
        pixels: The pixels of all drawings and scenes, uint8 of shape (images, size, size, 3).
        cache: The folder of the stored latents.

    Returns:
        The scaled latents, float16 of shape (images and copies, 16, 8, 8).
    """
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    store = cache / f"latents-{hashlib.sha256(weights).hexdigest()[:12]}-{images.version}.pt"
    if not store.exists():
        model.to(trainer.DEVICE)
        parts = [(part, None) for part in pixels.split(BATCH_SIZE)]
        drawings = list(zip(pixels[: images.num_drawings].split(BATCH_SIZE), images.may_mirror.split(BATCH_SIZE), strict=True))
        generator = trainer.step_generator(0, 0)
        latents = []
        for part, may_mirror in track([*parts, *NUM_COPIES * drawings], "encoding images"):
            x = to_tensor(part.to(trainer.DEVICE))
            if may_mirror is not None:
                x = augment(x, may_mirror.to(trainer.DEVICE), generator)
            latents.append((model.encoder(x) * model.config.scaling_factor).half().cpu())
        model.to("cpu")
        torch.save(torch.cat(latents), store.with_suffix(".partial"))
        store.with_suffix(".partial").rename(store)
    return torch.load(store, weights_only=True)

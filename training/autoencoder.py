"""Stage 1: an autoencoder between images of 64x64 pixels and latents of 16 channels at 8x8."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from rich.progress import track
from torch.utils.data import DataLoader

import trainer
from augmentation import TrainingImages, to_tensor

SCHEDULE = trainer.Schedule(samples=128_000, batch_size=16, learning_rate=2e-3)
CHANNELS = 48
LATENT_NOISE = 0.1  # added to the latents, so that small errors of a denoiser have small effects on the decoded image
LATENT_PENALTY = 1e-3  # weight of the mean square of the latents in the loss


def build() -> AutoencoderTiny:
    """Return an untrained autoencoder. Most of its layers have a low resolution, at which they are fast."""
    return AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(CHANNELS,) * 4,
        decoder_block_out_channels=(CHANNELS,) * 4,
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(3, 2, 1, 0),
    )


def train(images: TrainingImages, run_folder: Path) -> AutoencoderTiny:
    """Return a trained autoencoder whose `scaling_factor` gives the latents unit variance.

    Args:
        images: The images to train on, and the held-out ones.
        run_folder: The folder of the checkpoint and the loss curve.
    """
    torch.manual_seed(SCHEDULE.seed)
    model = build().to(trainer.DEVICE, memory_format=torch.channels_last)

    def make_loss(indices: np.ndarray) -> trainer.LossFunction:
        def loss(batch_rng: np.random.Generator, noise_rng: torch.Generator) -> torch.Tensor:
            batch = images.batch(batch_rng.choice(indices, SCHEDULE.batch_size))
            x = batch.to(trainer.DEVICE, memory_format=torch.channels_last)
            z = model.encoder(x)
            noise = torch.randn(z.shape, generator=noise_rng).to(trainer.DEVICE)
            decoded = model.decoder(z + LATENT_NOISE * noise).float()
            return (decoded - x).abs().mean() + (decoded - x).square().mean() + LATENT_PENALTY * z.square().mean()

        return loss

    train_indices, held_out_indices = map(np.concatenate, (images.train_indices, images.held_out_indices))
    trainer.fit(model, SCHEDULE, make_loss(train_indices), make_loss(held_out_indices), run_folder)
    model.to(memory_format=torch.contiguous_format).eval()
    sample = train_indices[:: len(train_indices) // 2000]
    with torch.inference_mode():
        deviation = torch.cat([model.encoder(images.batch(sample[i::40])) for i in range(40)]).std()
    model.register_to_config(scaling_factor=float(1 / deviation))
    return model


@torch.inference_mode()
def encode(model: AutoencoderTiny, images: TrainingImages, cache: Path) -> tuple[torch.Tensor, list[list[str]]]:
    """Return the latents and captions of all images. They are computed once and then read from `cache`.

    Returns:
        The scaled latents, float16 of shape (images, 16, 8, 8), and the captions of each image.
    """
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    store = cache / f"latents-{hashlib.sha256(weights).hexdigest()[:12]}-{images.version}.pt"
    if not store.exists():
        latents, captions = [], []
        model.to(trainer.DEVICE)
        loader = DataLoader(images, batch_size=64, num_workers=os.cpu_count() or 1, collate_fn=list)
        for batch in track(loader, "encoding images"):
            pixels = to_tensor(np.stack([pixels for pixels, _ in batch])).to(trainer.DEVICE)
            latents.append((model.encoder(pixels) * model.config.scaling_factor).half().cpu())
            captions += [texts for _, texts in batch]
        model.to("cpu")
        torch.save({"latents": torch.cat(latents), "captions": captions}, store.with_suffix(".partial"))
        store.with_suffix(".partial").rename(store)
    saved = torch.load(store, weights_only=True)
    return saved["latents"], saved["captions"]

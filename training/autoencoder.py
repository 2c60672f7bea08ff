"""Stage one: an autoencoder that turns 64x64 pictures into 8x8 latents of 16 channels and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

import loop
from pictographs import Pictographs

SCHEDULE = loop.Schedule(samples=56_000, batch=16, rate=2e-3)
CHANNELS = 48
JITTER = 0.1  # noise on the latents, so that a denoiser's small errors decode to small errors


def build() -> AutoencoderTiny:
    """Most of the work is done at low resolution, where it is cheap."""
    return AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(CHANNELS,) * 4,
        decoder_block_out_channels=(CHANNELS,) * 4,
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(3, 2, 1, 0),
    )


def train(data: Pictographs, folder: Path) -> AutoencoderTiny:
    """A trained autoencoder, its `scaling_factor` set so that latents have unit variance."""
    torch.manual_seed(SCHEDULE.seed)
    model = build().to(memory_format=torch.channels_last)

    def loss_on(rows: np.ndarray) -> loop.Loss:
        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            x = data.batch(choose.choice(rows, SCHEDULE.batch)).contiguous(memory_format=torch.channels_last)
            z = model.encoder(x)
            decoded = model.decoder(z + JITTER * torch.randn(z.shape, generator=noise))
            return (decoded - x).abs().mean() + (decoded - x).square().mean() + 1e-3 * z.square().mean()

        return loss

    loop.fit(model, SCHEDULE, loss_on(data.train), loss_on(data.held_out), folder)
    model.to(memory_format=torch.contiguous_format).eval()
    model.register_to_config(scaling_factor=float(1 / latents_of(model, data, data.train[::8]).std()))
    return model


@torch.inference_mode()
def latents_of(model: AutoencoderTiny, data: Pictographs, rows: np.ndarray) -> torch.Tensor:
    """Unscaled latents of `rows`, shape (len(rows), 16, 8, 8)."""
    return torch.cat([model.encoder(data.batch(part)) for part in np.array_split(rows, max(1, len(rows) // 64))])

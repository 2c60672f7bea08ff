"""Stage one: an autoencoder that turns 64x64 pictures into 8x8 latents of 16 channels and back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from rich.progress import track
from torch.utils.data import DataLoader

import loop
from views import Views, as_tensor

SCHEDULE = loop.Schedule(samples=128_000, batch=16, rate=2e-3)
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


def train(data: Views, folder: Path) -> AutoencoderTiny:
    """A trained autoencoder, its `scaling_factor` set so that latents have unit variance."""
    torch.manual_seed(SCHEDULE.seed)
    model = build().to(loop.DEVICE, memory_format=torch.channels_last)

    def loss_on(rows: np.ndarray) -> loop.Loss:
        def loss(choose: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
            x = data.batch(choose.choice(rows, SCHEDULE.batch)).to(loop.DEVICE, memory_format=torch.channels_last)
            z = model.encoder(x)
            decoded = model.decoder(z + JITTER * torch.randn(z.shape, generator=noise).to(loop.DEVICE)).float()
            return (decoded - x).abs().mean() + (decoded - x).square().mean() + 1e-3 * z.square().mean()

        return loss

    drawn, held_out = map(np.concatenate, (data.train, data.held_out))
    loop.fit(model, SCHEDULE, loss_on(drawn), loss_on(held_out), folder)
    model.to(memory_format=torch.contiguous_format).eval()
    some = drawn[:: len(drawn) // 2000]
    with torch.inference_mode():
        spread = torch.cat([model.encoder(data.batch(some[i::40])) for i in range(40)]).std()
    model.register_to_config(scaling_factor=float(1 / spread))
    return model


@torch.inference_mode()
def encode(model: AutoencoderTiny, data: Views, cache: Path) -> tuple[torch.Tensor, list[list[str]]]:
    """Scaled latents of all views, float16 of shape (len(data), 16, 8, 8), and their captions; made once and kept in `cache`."""
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    store = cache / f"latents-{hashlib.sha256(weights).hexdigest()[:12]}-{data.version}.pt"
    if not store.exists():
        latents, captions = [], []
        model.to(loop.DEVICE)
        some: Any = data  # has what a map-style dataset has
        drawn: Any = DataLoader(some, batch_size=64, num_workers=os.cpu_count() or 1, collate_fn=list)
        for part in track(drawn, "encoding views"):
            pixels = as_tensor(np.stack([pixels for pixels, _ in part])).to(loop.DEVICE)
            latents.append((model.encoder(pixels) * model.config.scaling_factor).half().cpu())
            captions += [texts for _, texts in part]
        model.to("cpu")
        torch.save({"latents": torch.cat(latents), "captions": captions}, store.with_suffix(".partial"))
        store.with_suffix(".partial").rename(store)
    saved = torch.load(store, weights_only=True)
    return saved["latents"], saved["captions"]

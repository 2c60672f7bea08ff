"""Hyperparameters of the default model and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import Schedule

HEAD_DIMENSIONS = 64
AUTOENCODER = Schedule(samples=1_600_000, batch_size=256, learning_rate=2e-3)
DENOISING = Schedule(samples=33_900_000, batch_size=2048, learning_rate=1e-3, warmup_steps=500, ema_decay=0.9997)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of both stages.

    Attributes:
        autoencoder: The schedule of the autoencoder.
        denoising: The schedule of the denoiser.
        channels: The channels of every layer of the autoencoder.
        heads: The number of attention heads of the denoiser, each with `HEAD_DIMENSIONS` dimensions.
        layers: The number of transformer layers of the denoiser.
        shares: The shares of drawings, scenes and texts of WordNet in a batch.
        relation_weight: The weight of the relation term in the loss of the denoiser.
        relation_share: The number of noisy images of the relation term, as a share of the batch.
    """

    autoencoder: Schedule = AUTOENCODER
    denoising: Schedule = DENOISING
    channels: int = 64
    heads: int = 5
    layers: int = 8
    shares: tuple[float, float, float] = (0.5, 0.3, 0.2)
    relation_weight: float = 0.1
    relation_share: float = 1 / 32


SHIPPED = Recipe()

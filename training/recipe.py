"""Hyperparameters of the default model and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import Schedule

HEAD_DIMENSIONS = 64
AUTOENCODER = Schedule(samples=1_600_000, batch_size=256, learning_rate=2e-3)
DENOISING = Schedule(samples=33_900_000, batch_size=2048, learning_rate=1e-3, warmup_steps=500, ema_decay=0.9997)
FINISHING = Schedule(samples=160_000, batch_size=64, learning_rate=5e-4, warmup_steps=50, ema_decay=0.998)


@dataclass(frozen=True)
class Shares:
    """The shares of the kinds of images in a batch of the denoiser.

    Attributes:
        typical: The most typical drawing of a name.
        drawings: Any drawing.
        scenes: Composed scenes.
        texts: Texts of WordNet, with drawings of their nearest names.
    """

    typical: float
    drawings: float
    scenes: float
    texts: float


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of all stages.

    Attributes:
        autoencoder: The schedule of the autoencoder.
        denoising: The schedule of the denoiser.
        finishing: The schedule of the last stage of the denoiser.
        channels: The channels of every layer of the autoencoder.
        heads: The number of attention heads of the denoiser, each with `HEAD_DIMENSIONS` dimensions.
        layers: The number of transformer layers of the denoiser.
        denoising_shares: What a batch of the denoiser consists of.
        finishing_shares: What a batch of the last stage consists of.
        relation_weight: The weight of the relation term in the loss of the denoiser.
        relation_share: The number of noisy images of the relation term, as a share of the batch.
    """

    autoencoder: Schedule = AUTOENCODER
    denoising: Schedule = DENOISING
    finishing: Schedule = FINISHING
    channels: int = 64
    heads: int = 5
    layers: int = 8
    denoising_shares: Shares = Shares(typical=0, drawings=0.5, scenes=0.3, texts=0.2)
    finishing_shares: Shares = Shares(typical=0.5, drawings=0.2, scenes=0.15, texts=0.15)
    relation_weight: float = 0.1
    relation_share: float = 1 / 32


SHIPPED = Recipe()

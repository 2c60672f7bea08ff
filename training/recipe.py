"""Hyperparameters of the default model and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import Schedule

HEAD_DIMENSIONS = 64
AUTOENCODER = Schedule(samples=1_600_000, batch_size=256, learning_rate=2e-3)
DENOISING = Schedule(samples=33_900_000, batch_size=2048, learning_rate=1e-3, warmup_steps=500, ema_decay=0.9997)
FINISHING = Schedule(samples=320_000, batch_size=64, learning_rate=7e-4, warmup_steps=50, ema_decay=0.998)


@dataclass(frozen=True)
class Batches:
    """What the batches of a stage of the denoiser consist of. Numbers of images are shares of the batch.

    Attributes:
        typical: Images that are the most typical drawing of a name.
        drawings: Any drawings.
        scenes: Composed scenes.
        texts: Drawings for texts of WordNet: those of their nearest names.
        relations: Noisy images of the relation term; they are images of the batch.
        timestep_draws: A timestep is the largest of so many uniform draws. With more, noise levels are higher.
    """

    typical: float
    drawings: float
    scenes: float
    texts: float
    relations: float
    timestep_draws: int


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
        denoising_batches: What the batches of the denoiser consist of.
        finishing_batches: What those of the last stage consist of.
        relation_weight: The weight of the relation term in the loss of the denoiser.
        finishing_share: The share of the weights after the last stage in the final weights. The rest are those before it.
    """

    autoencoder: Schedule = AUTOENCODER
    denoising: Schedule = DENOISING
    finishing: Schedule = FINISHING
    channels: int = 64
    heads: int = 5
    layers: int = 8
    denoising_batches: Batches = Batches(typical=0, drawings=0.5, scenes=0.3, texts=0.2, relations=1 / 32, timestep_draws=1)
    finishing_batches: Batches = Batches(typical=0.45, drawings=0.3, scenes=0.1, texts=0.15, relations=1 / 64, timestep_draws=2)
    relation_weight: float = 0.1
    finishing_share: float = 0.4


SHIPPED = Recipe()

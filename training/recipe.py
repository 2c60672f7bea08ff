"""Hyperparameters of the denoiser and of its training stages."""

from __future__ import annotations

from dataclasses import dataclass

from trainer import Schedule

HEAD_DIMENSIONS = 64
NUM_RESTORED_LAYERS = 3  # first layers whose cross-attention the recovery stage resets to its state before the contrastive stage

DENOISING = Schedule(samples=560_000, batch_size=128, learning_rate=1e-3, warmup_steps=300)
CONTRASTIVE = (
    Schedule(samples=3_300_000, batch_size=512, learning_rate=1e-3),
    Schedule(samples=1_650_000, batch_size=512, learning_rate=1e-3, warmup_steps=100, seed=1),
)
RECOVERY = Schedule(samples=24_000, batch_size=24, learning_rate=5e-4, warmup_steps=50, ema_decay=0.998, seed=2)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters that `recipe_ablations.py` can vary.

    Attributes:
        denoising: The schedule of the denoising stage.
        contrastive: The schedules of the contrastive stage, which are run one after the other. Empty skips the stage.
        recovery: The schedule of the recovery stage. None skips the stage and the interpolation.
        interpolation: The position of the final weights between those before the recovery stage (0) and those after it (1).
        spectrum_power: The power of the singular values in `denoiser.flatten_spectrum`. None skips it.
        shares: The shares of drawings, scenes and texts of WordNet in a batch.
        trainable_projection: Whether the caption projection is trained. Otherwise it remains a random rotation.
        heads: The number of attention heads, each with `HEAD_DIMENSIONS` dimensions.
        layers: The number of transformer layers.
    """

    denoising: Schedule = DENOISING
    contrastive: tuple[Schedule, ...] = CONTRASTIVE
    recovery: Schedule | None = RECOVERY
    interpolation: float = 0.5
    spectrum_power: float | None = 0.2
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3)
    trainable_projection: bool = False
    heads: int = 5
    layers: int = 8


SHIPPED = Recipe()

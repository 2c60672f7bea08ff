"""The options of all calls: how a distance is sampled and computed. This module has only fast imports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.seeding import NoiseSeeds
from conjure.divergence.divergences import Divergence, DivergenceConfig, Reduction
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer
from conjure.similarity.validation import check_texts


@dataclass(frozen=True)
class SamplingOptions:
    """The options of a Monte-Carlo estimate.

    Attributes:
        samples: The number of samples k.
        noise: The seeds of their noise.
        config: The divergence.
        target_relative_error: Draw samples until half the width of the 95% interval is at most this fraction of the distance.
            Between 0 and 1. None: draw `samples` samples.
    """

    samples: int
    noise: NoiseSeeds
    config: DivergenceConfig
    target_relative_error: float | None = None

    @classmethod
    def create(
        cls,
        default_unit: Unit,
        *,
        samples: int,
        seed: int = 0,
        divergence: Divergence = "jeffreys",
        weighting: Weighting = "uniform",
        unit: Unit | None = None,
        reduction: Reduction = "sum",
        antithetic: bool = False,
        target_relative_error: float | None = None,
    ) -> SamplingOptions:
        """Return the options for the arguments of a public function.

        Args:
            default_unit: The unit if `unit` is None.
            samples: See the class.
            seed: See `NoiseSeeds`.
            divergence: See `DivergenceConfig`.
            weighting: See `DivergenceConfig`.
            unit: See `DivergenceConfig`.
            reduction: See `DivergenceConfig`.
            antithetic: See `NoiseSeeds`.
            target_relative_error: See the class.

        Raises:
            InputError: If the divergence, weighting, unit or reduction is unknown, or they do not fit together.
        """
        config = DivergenceConfig(divergence, weighting, default_unit if unit is None else unit, reduction)
        return cls(samples, NoiseSeeds(seed, antithetic), config, target_relative_error)

    def validate(self, texts: Iterable[str]) -> None:
        """Check the options and the texts to compare, before anything is computed.

        Raises:
            InputError: If a text is invalid, a number is out of range, or the options do not fit together.
        """
        check_texts(texts)
        if not is_integer(self.samples, 1, 10**6):
            raise InputError(f"samples is {self.samples!r}; must be an integer from 1 to 1,000,000")
        if not is_integer(self.noise.seed, 0):
            raise InputError(f"seed is {self.noise.seed!r}; must be an integer >= 0")
        if self.noise.antithetic and self.config.divergence == "direct":
            raise InputError("divergence 'direct' compares two images from the same noise; use it without antithetic noise")
        share = self.target_relative_error
        if share is not None and not (is_finite_number(share) and 0 < share < 1):
            raise InputError(
                f"target_relative_error is {share!r}; must be a number between 0 and 1: 0.05 is ± 5% of the distance"
            )

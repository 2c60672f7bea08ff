"""Seeds: the noise of every sample follows from the seed of the run and the number of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def derive_seed(entropy: Sequence[int]) -> int:
    """Return a seed of 63 bits.

    Args:
        entropy: Integers >= 0. Different sequences give independent seeds.
    """
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def noise_seed(seed: int, sample: int) -> int:
    """Return the seed of the noise of one sample of a run. It is the same for every text (common random numbers)."""
    return derive_seed((seed, sample))


@dataclass(frozen=True)
class NoiseSeeds:
    """The noise of all samples of a run: for each sample the same for every text (common random numbers).

    Attributes:
        seed: The seed of the run, an integer >= 0.
        antithetic: Of the two texts of a pair, the one that sorts second starts from the negated noise. Similar texts follow
            nearly the same trajectory from the same noise, so the second direction adds little information. From the negated
            noise it adds more, and the variance of the distance falls (benchmarks/variance.md). Samples stay independent of each
            other.
    """

    seed: int = 0
    antithetic: bool = False

    def seed_for(self, sample: int, text: str, other: str) -> int:
        """Return the seed of the trajectory of `text` on which `other` is evaluated, as `Process.run` takes it.

        A negative seed stands for the negated noise of its absolute value.
        """
        seed = noise_seed(self.seed, sample)
        return -seed if self.antithetic and text > other else seed

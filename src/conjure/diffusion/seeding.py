"""Seeds of the noise: each is derived from the seed of the run and the index of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def derive_seed(entropy: Sequence[int]) -> int:
    """Return a seed of 63 bits.

    Args:
        entropy: Integers >= 0 below 2**32. Different sequences of the same length give independent seeds. A 0 at the end does not
            change the seed.
    """
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def noise_seed(seed: int, sample: int) -> int:
    """Return the seed of the noise of one sample of a run. It is the same for every text (common random numbers).

    Args:
        seed: The seed of the run.
        sample: The index of the sample.
    """
    return derive_seed((seed, sample))


@dataclass(frozen=True)
class NoiseSeeds:
    """The seeds of the noise of a run. In each sample all texts have the same noise (common random numbers).

    Attributes:
        seed: The seed of the run, an integer >= 0.
        antithetic: Whether the text of a pair that is second in alphabetical order starts from the negated noise. Similar texts
            follow nearly the same trajectory from the same noise, so the second direction adds little information. From the
            negated noise it adds more, and the variance of the distance decreases (benchmarks/variance.md). Samples remain
            independent of each other.
    """

    seed: int = 0
    antithetic: bool = False

    def seed_for(self, sample: int, text: str, other: str) -> int:
        """Return the seed of the trajectory of `text` in the pair (`text`, `other`).

        Args:
            sample: The index of the sample.
            text: The text whose trajectory is simulated.
            other: The text that is evaluated on this trajectory.

        Returns:
            The seed for `Process.run`; negative for the negated noise of its absolute value.
        """
        seed = noise_seed(self.seed, sample)
        return -seed if self.antithetic and text > other else seed

    def pair(self, sample: int, a: str, b: str) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the text and the seed of both trajectories of the pair (`a`, `b`) in a sample."""
        return (a, self.seed_for(sample, a, b)), (b, self.seed_for(sample, b, a))

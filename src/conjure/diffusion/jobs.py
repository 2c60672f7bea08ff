"""The unit of work: one text, one seed, and the texts that are evaluated on its trajectory.

Pairs, matrices, nearest neighbours and benchmarks are lists of such jobs. Jobs are independent: they can run on any worker and in
any order, and each result can be stored separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from conjure.diffusion.noise_levels import NoiseLevel

ProgressCallback = Callable[[int, int], None]
"""Called with the number of finished denoising steps and the total number, both summed over jobs."""


@dataclass(frozen=True)
class TrajectoryJob:
    """Denoise `text` and evaluate `targets` on its trajectory.

    Attributes:
        text: The source text, whose trajectory is simulated.
        seed: The seed of the noise; negative for the negated noise of its absolute value.
        targets: The texts that are evaluated at the latents of the trajectory.
    """

    text: str
    seed: int
    targets: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """The number of denoiser rows per step: one per text, and the unconditional row of classifier-free guidance."""
        return 2 + len(self.targets)


@dataclass(frozen=True)
class TrajectoryLatents:
    """The latents of a job at every step, on the CPU.

    Attributes:
        x_t: The noisy latents, after the scheduler's `scale_model_input`.
        x0: The denoised latents that the predictions imply: first for the source text, then for the targets.
    """

    x_t: Float[Tensor, "steps *latent"]
    x0: Float[Tensor, "steps texts *latent"]


@dataclass(frozen=True)
class TrajectoryResult:
    r"""The result of a job.

    Attributes:
        job: The job.
        squared_differences: $\lVert m(x_t \mid y) - m(x_t \mid y') \rVert^2$ between the source text and every target, summed
            over dimensions.
        timesteps: The visited timesteps.
        noise_levels: The noise levels at these timesteps.
        final_latent: The last latent of the trajectory, on the CPU.
        step_latents: The latents at every step; None unless they were requested.
    """

    job: TrajectoryJob
    squared_differences: Float64[np.ndarray, "targets steps"]
    timesteps: tuple[float, ...]
    noise_levels: tuple[NoiseLevel, ...]
    final_latent: Float[Tensor, "*latent"]
    step_latents: TrajectoryLatents | None


def batch_end(jobs: Sequence[TrajectoryJob], start: int, max_rows: int) -> int:
    """Return the index after the last job of the batch that begins at job `start`.

    A batch has at most `max_rows` denoiser rows, or consists of one job. The rows of a single larger job are evaluated in several
    calls of the denoiser.

    Args:
        jobs: All jobs.
        start: The index of the first job of the batch.
        max_rows: The largest number of denoiser rows of a batch.
    """
    end = start + 1
    remaining = max_rows - jobs[start].num_rows
    while end < len(jobs) and (remaining := remaining - jobs[end].num_rows) >= 0:
        end += 1
    return end


def expand_rows(batch: Sequence[TrajectoryJob]) -> tuple[list[str], list[int], list[int]]:
    """Return the rows of a batch: for each job its source text, then its targets.

    Args:
        batch: The jobs of the batch.

    Returns:
        For each row its text, the index of its source row, and its seed.
    """
    texts: list[str] = []
    source_rows: list[int] = []
    seeds: list[int] = []
    for job in batch:
        rows = 1 + len(job.targets)
        source_rows += [len(texts)] * rows
        texts += [job.text, *job.targets]
        seeds += [job.seed] * rows
    return texts, source_rows, seeds

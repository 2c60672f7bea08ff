"""Protocols for the engine: an executor that runs jobs, and a cache of their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel

ProcessT = TypeVar("ProcessT", contravariant=True)


@runtime_checkable
class Executor(Protocol[ProcessT]):
    """Runs jobs outside of the current Python process, such as `conjure.Workers`. The results do not depend on it."""

    def run(
        self,
        process: ProcessT,
        jobs: Sequence[TrajectoryJob],
        *,
        keep_latents: Sequence[TrajectoryJob] = (),
        progress: ProgressCallback | None = None,
    ) -> Iterator[list[TrajectoryResult]]:
        """Yield the results of `jobs` in batches, in any order.

        Args:
            process: The process to run.
            jobs: The jobs.
            keep_latents: The jobs whose latents at every step are returned too.
            progress: Called after every batch.
        """
        ...


@dataclass(frozen=True)
class StoredResults:
    """Results that were read from a cache.

    Attributes:
        squared_differences: Per (text, seed, target), shape (T,).
        final_latents: Per (text, seed). The mapping may be lazy: it then reads a latent on access.
        timesteps: The T visited timesteps.
        noise_levels: The noise levels at these timesteps.
        dimensions: The number of dimensions of a latent.
    """

    squared_differences: Mapping[tuple[str, int, str], np.ndarray]
    final_latents: Mapping[tuple[str, int], Tensor]
    timesteps: tuple[float, ...]
    noise_levels: tuple[NoiseLevel, ...]
    dimensions: int


@runtime_checkable
class ProcessResultCache(Protocol):
    """Results of one process."""

    def missing(self, jobs: Sequence[TrajectoryJob], *, final_latents: bool) -> list[TrajectoryJob]:
        """Return the jobs that have to be run, each with only those targets that have no valid result yet.

        Args:
            jobs: The jobs.
            final_latents: Whether a job without a valid final latent has to be run too.
        """
        ...

    def add(self, results: Sequence[TrajectoryResult]) -> None:
        """Store the results of a batch, all of them or none."""
        ...

    def load(self, jobs: Sequence[TrajectoryJob]) -> StoredResults:
        """Return the results of `jobs`. No result may be missing."""
        ...


@runtime_checkable
class ResultCache(Protocol):
    """Stores results by the fingerprint of their process, such as `conjure.Store`."""

    def for_process(self, fingerprint: str, settings: Mapping[str, Any]) -> ProcessResultCache:
        """Return the results of the process with this fingerprint.

        Args:
            fingerprint: The hash of everything that influences a result.
            settings: The settings of the process. They are stored as information about the results.
        """
        ...

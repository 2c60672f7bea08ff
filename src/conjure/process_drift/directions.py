"""The differences between two processes along trajectories of one of them: in memory, or in a store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from conjure.diffusion.interfaces import ProcessResultCache
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.process import Process
from conjure.process_drift.facts import ProcessFacts
from conjure.process_drift.progress import Progress
from conjure.process_drift.spool import SpooledTensor, TensorSpool
from conjure.process_drift.trajectories import ComparedQuantity, RecordedBatch, Replayed, record, replay
from conjure.similarity.trajectory_cache import non_finite_error

DRIFT_VERSION = 1  # increased when other values are computed for the same processes, so that old results are not read


@dataclass(frozen=True)
class RecordedImages:
    """The latents of one trajectory with the x0 of both processes, for images.

    Attributes:
        x_t: The noisy latents, shape (steps, *latent).
        recorded: The predictions of the process that simulated the trajectory.
        evaluated: The predictions of the other process.
    """

    x_t: SpooledTensor
    recorded: SpooledTensor
    evaluated: SpooledTensor


class Direction:
    """The differences between two processes along trajectories of `source`.

    Args:
        source: The process whose trajectories are recorded.
        other: The process that is evaluated on them; `source` itself for its numerical noise.
        quantity: What is compared.
        jobs: The jobs. The target of a job is its own text.
        with_images: The jobs whose latents are kept for images.
        names: The names of the two processes in messages.

    Attributes:
        images: The latents for images, by text.
    """

    def __init__(
        self,
        source: ProcessFacts,
        other: ProcessFacts,
        quantity: ComparedQuantity,
        jobs: Sequence[TrajectoryJob],
        with_images: Sequence[TrajectoryJob] = (),
        names: tuple[str, str] = ("model A", "model B"),
    ) -> None:
        self.source, self.other, self.quantity, self.jobs = source, other, quantity, jobs
        self.with_images, self.names = with_images, names
        self.is_noise = other is source
        self.images: dict[str, RecordedImages] = {}
        self._stored = self._open_store()
        self._differences: dict[tuple[str, int], np.ndarray] = {}
        self._in_memory: dict[tuple[str, int], Tensor] = {}
        self._finals: Mapping[tuple[str, int], Tensor] = self._in_memory

    def _open_store(self) -> ProcessResultCache | None:
        store = self.source.store
        if store is None:
            return None
        quantity = self.quantity
        parts = ["drift", DRIFT_VERSION, self.source.fingerprint, self.other.fingerprint, quantity.prediction_type,
                 quantity.in_pixels, self.is_noise]  # fmt: skip
        key = hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()
        other = "its numerical noise" if self.is_noise else self.other.settings["model"]
        return store.for_process(key, self.source.settings | {"model": f"{self.source.settings['model']} against {other}"})

    @cached_property
    def missing(self) -> list[TrajectoryJob]:
        """The jobs that have to be run: those whose results are not stored yet, and those with images. The store is read once."""
        if self._stored is None:
            return list(self.jobs)
        kept = list(self.with_images)
        others = [job for job in self.jobs if job not in kept]
        needed = {*kept, *self._stored.missing(others, final_latents=True)}
        return [job for job in self.jobs if job in needed]

    def evaluate(self, process: Process, batches: Sequence[RecordedBatch], spool: TensorSpool, progress: Progress) -> None:
        """Evaluate the other process along recorded trajectories, and keep the differences of the missing jobs.

        Args:
            process: The other process.
            batches: The trajectories of `source` that `record_trajectories` returned.
            spool: Where the tensors are kept.
            progress: Counts the steps.
        """
        missing = set(self.missing)
        for batch in batches:
            jobs = [job for job in batch.jobs if job in missing]
            if not jobs:
                continue
            replayed = replay(
                process, self.source, batch, self.quantity, spool, jobs=jobs, one_by_one=self.is_noise, progress=progress
            )
            results = []
            for part in replayed:
                results.append(part.result)
                if part.result.job in self.with_images:
                    self.images[part.result.job.text] = _spool_images(part, spool)
            self._add(results)

    def _add(self, results: Sequence[TrajectoryResult]) -> None:
        if self._stored is not None:
            self._stored.add(results)
            return
        for result in results:
            key = (result.job.text, result.job.seed)
            self._differences[key] = result.squared_differences[0]
            self._in_memory[key] = result.final_latent

    def load(self) -> None:
        """Make the differences of all jobs available.

        Raises:
            InputError: If predictions are not finite.
        """
        if self._stored is not None:
            loaded = self._stored.load(self.jobs)
            self._differences = {(text, seed): values for (text, seed, _), values in loaded.squared_differences.items()}
            self._finals = loaded.final_latents
        broken = sorted(job for job, values in self._differences.items() if not np.isfinite(values).all())
        if broken:
            # the final latent is that of the source alone
            source_is_broken = not all(self._finals[job].isfinite().all() for job in broken)
            raise non_finite_error(sorted({text for text, _ in broken}), self.names[0 if source_is_broken else 1])

    def squared_differences(self, text: str, seeds: Sequence[int]) -> np.ndarray:
        """Return the squared differences along the trajectories of a text, shape (samples, steps)."""
        return np.stack([self._differences[text, seed] for seed in seeds])

    def final(self, text: str, seed: int) -> Tensor:
        """Return the final latent, or the final image, of a trajectory."""
        return self._finals[text, seed]


def record_trajectories(
    process: Process, directions: Sequence[Direction], spool: TensorSpool, progress: Progress
) -> list[RecordedBatch]:
    """Record the trajectories that some directions with the same source need.

    Args:
        process: The source.
        directions: The directions; the jobs of the first one contain those of the others.
        spool: Where the tensors are kept.
        progress: Counts the steps.
    """
    needed = {job for direction in directions for job in direction.missing}
    jobs = [job for job in directions[0].jobs if job in needed]
    one_text = not all(facts.batch_prompts for direction in directions for facts in (direction.source, direction.other))
    return record(process, jobs, directions[0].quantity, spool, one_text_per_batch=one_text, progress=progress)


def _spool_images(part: Replayed, spool: TensorSpool) -> RecordedImages:
    return RecordedImages(spool.write(part.x_t), spool.write(part.recorded), spool.write(part.evaluated))

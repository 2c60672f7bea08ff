"""Runs jobs. Jobs are independent and can run in any order, so they are packed into full batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.jobs import (
    ProgressCallback,
    TrajectoryJob,
    TrajectoryLatents,
    TrajectoryResult,
    batch_end,
    expand_rows,
)
from conjure.diffusion.noise_levels import NoiseLevel, prediction_type
from conjure.diffusion.pipeline_patching import needs_single_rows
from conjure.diffusion.predictions import predict_x0, squared_differences
from conjure.diffusion.process import Process
from conjure.diffusion.shared_trajectory import DenoisingStep, run_on_shared_trajectories
from conjure.engine.unbatched import run_unbatched


def iter_results(
    process: Process,
    jobs: Sequence[TrajectoryJob],
    *,
    keep_latents: Sequence[TrajectoryJob] = (),
    progress: ProgressCallback | None = None,
    batch_size: AdaptiveBatchSize | None = None,
) -> Iterator[TrajectoryResult]:
    """Yield the result of every job. Arguments and errors are those of `iter_result_batches`."""
    for batch in iter_result_batches(process, jobs, keep_latents=keep_latents, progress=progress, batch_size=batch_size):
        yield from batch


def iter_result_batches(
    process: Process,
    jobs: Sequence[TrajectoryJob],
    *,
    keep_latents: Sequence[TrajectoryJob] = (),
    progress: ProgressCallback | None = None,
    batch_size: AdaptiveBatchSize | None = None,
) -> Iterator[list[TrajectoryResult]]:
    """Yield the results of `jobs` in the batches in which they were computed, in the order in which they are finished.

    A batch that does not fit into the memory of the device is run again in smaller batches. Results do not depend on the batch
    size, except for rounding. A caller that stores results must store a batch completely or not at all. If a run is stopped and
    resumed, the remaining jobs then form the same batches as in an uninterrupted run, and the results are bitwise equal.

    Args:
        process: The process.
        jobs: The jobs.
        keep_latents: The jobs whose latents at every step are returned too.
        progress: Called after every step.
        batch_size: The batch size from earlier calls on the same device; None for a new one.

    Raises:
        InputError: If a single row does not fit into the memory, or a worker raises it.
    """
    if process.workers:
        yield from process.workers.run(process, jobs, keep_latents=keep_latents, progress=progress)
        return
    batch_size = batch_size or AdaptiveBatchSize(process.device, process.batch_size)
    run = _Run(process, jobs, keep_latents, progress, batch_size, TextEmbeddingCache(), trajectory_runner(process))
    yield from map_batches(jobs, batch_size, run.run_batch, batch_end)


def trajectory_runner(process: Process) -> Callable[..., Tensor]:
    """Return the function that runs the rows of a batch on shared trajectories: all together, one text or one row at a time."""
    if needs_single_rows(process.pipeline):
        return partial(run_unbatched, single_rows=True)
    return run_on_shared_trajectories if process.batch_prompts else run_unbatched


def runs_unbatched(process: Process) -> bool:
    """Return whether the rows of a batch run one text or one row at a time."""
    return needs_single_rows(process.pipeline) or not process.batch_prompts


@dataclass(frozen=True)
class _Run:
    """The arguments and caches that all batches of a run share."""

    process: Process
    jobs: Sequence[TrajectoryJob]
    keep_latents: Sequence[TrajectoryJob]
    progress: ProgressCallback | None
    batch_size: AdaptiveBatchSize
    text_cache: TextEmbeddingCache
    run_rows: Callable[..., Tensor]

    def run_batch(self, batch: Sequence[TrajectoryJob], start: int) -> list[TrajectoryResult]:
        """Run a batch of jobs; `start` is the index of its first job."""
        process = replace(self.process, batch_size=self.batch_size.size)
        texts, source_rows, seeds = expand_rows(batch)
        first_rows = dict(zip(sorted(set(source_rows)), batch, strict=True))
        requested = {row: job for row, job in first_rows.items() if job in self.keep_latents}
        per_step: list[Tensor] = []
        latents: dict[int, list[tuple[Tensor, Tensor]]] = {row: [] for row in requested}
        timesteps: list[float] = []
        levels: list[NoiseLevel] = []
        predicts = prediction_type(process.scheduler)

        def on_step(step: DenoisingStep) -> None:
            per_step.append(squared_differences(step.predictions, source_rows))
            timesteps.append(step.timestep)
            levels.append(step.noise_level)
            for row, job in requested.items():
                rows = slice(row, row + 1 + len(job.targets))
                x_t, predictions = step.x_t.float(), step.predictions.float()
                x0 = predict_x0(predicts, x_t[rows], predictions[rows], step.noise_level)
                latents[row].append((x_t[row].cpu(), x0.cpu()))
            if self.progress:
                done = start * process.steps + (step.index + 1) * len(batch)
                self.progress(done, len(self.jobs) * process.steps)

        finals = self.run_rows(process, texts, source_rows, seeds, on_step, text_cache=self.text_cache).float().cpu()
        table = torch.stack(per_step, 1).cpu().double().numpy()
        self.batch_size.on_success(min(self.batch_size.size, sum(job.num_rows for job in batch)))
        return [
            TrajectoryResult(
                job=job,
                squared_differences=table[row + 1 : row + 1 + len(job.targets)],
                timesteps=tuple(timesteps),
                noise_levels=tuple(levels),
                final_latent=finals[row].clone(),  # a view would keep the complete batch in memory, and workers would send it
                step_latents=_stack_latents(latents[row]) if row in latents else None,
            )
            for row, job in first_rows.items()
        ]


def _stack_latents(latents: Sequence[tuple[Tensor, Tensor]]) -> TrajectoryLatents:
    x_t, x0 = (torch.stack(part) for part in zip(*latents, strict=True))
    return TrajectoryLatents(x_t, x0)

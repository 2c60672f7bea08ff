"""Trajectories of one process, recorded in a spool, and evaluated by another process at the same noisy latents."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult, batch_end
from conjure.diffusion.noise_levels import PredictionType, prediction_type
from conjure.diffusion.pipeline_patching import needs_single_rows
from conjure.diffusion.predictions import convert_prediction, predict_x0, squared_differences
from conjure.diffusion.process import Process
from conjure.diffusion.shared_trajectory import DenoisingStep, RecordedTrajectory, run_on_shared_trajectories
from conjure.errors import InputError
from conjure.explanation.images import decode_latents
from conjure.process_drift.facts import ProcessFacts
from conjure.process_drift.progress import Progress
from conjure.process_drift.spool import SpooledTensor, TensorSpool

SAME_LEVEL = 1e-6


@dataclass(frozen=True)
class ComparedQuantity:
    """What is compared between two processes at a noisy latent.

    Attributes:
        prediction_type: The type to which predictions are converted.
        in_pixels: Whether decoded x0 are compared instead of predictions.
    """

    prediction_type: PredictionType
    in_pixels: bool

    def of_steps(self, process: Process, steps: Sequence[DenoisingStep]) -> Tensor:
        """Return the quantity of a process, whose scheduler is its own, in float32 on the CPU, shape (steps, rows, ...)."""
        own_type = prediction_type(process.scheduler)
        if not self.in_pixels:
            converted = [
                convert_prediction(step.predictions, own_type, self.prediction_type, step.x_t, step.noise_level) for step in steps
            ]
            return torch.stack(converted)
        x0 = [predict_x0(own_type, step.x_t, step.predictions, step.noise_level) for step in steps]
        images = decode_latents(process, torch.cat(x0))
        return torch.from_numpy(images).float().reshape(len(steps), -1, *images.shape[1:])

    def of_finals(self, process: Process, finals: Tensor) -> Tensor:
        """Return final latents, or the final images, in float32 on the CPU."""
        if not self.in_pixels:
            return finals.float().cpu()
        return torch.from_numpy(decode_latents(process, finals)).float()


@dataclass(frozen=True)
class RecordedBatch:
    """The trajectories of a batch of jobs.

    Attributes:
        jobs: The jobs.
        points: x_t of all jobs at every call of the scheduler and after the last one.
        values: The compared quantity at every step, shape (steps, jobs, ...).
        finals: The final latents, or the final images.
    """

    jobs: tuple[TrajectoryJob, ...]
    points: tuple[SpooledTensor, ...]
    values: SpooledTensor
    finals: SpooledTensor


@dataclass(frozen=True)
class Replayed:
    """The result of another process for one recorded job.

    Attributes:
        result: The squared differences between the two processes along the trajectory, and its final latent or image.
        x_t: The noisy latents of the T steps, after the scheduler's `scale_model_input`.
        recorded: The quantity of the process that simulated the trajectory, at every step.
        evaluated: The quantity of the other process.
    """

    result: TrajectoryResult
    x_t: Tensor
    recorded: Tensor
    evaluated: Tensor


def record(
    process: Process,
    jobs: Sequence[TrajectoryJob],
    quantity: ComparedQuantity,
    spool: TensorSpool,
    *,
    one_text_per_batch: bool,
    progress: Progress,
) -> list[RecordedBatch]:
    """Simulate the trajectories of `jobs`.

    Args:
        process: The process.
        jobs: The jobs, those of one text next to each other.
        quantity: What is compared.
        spool: Where the tensors are kept.
        one_text_per_batch: Whether a batch has rows of one text only.
        progress: Counts the steps.

    Raises:
        InputError: See `run_on_shared_trajectories`.
    """
    batch_size = AdaptiveBatchSize(process.device, 1 if needs_single_rows(process.pipeline) else process.batch_size)
    text_cache = TextEmbeddingCache()

    def run(batch: Sequence[TrajectoryJob], _: int) -> RecordedBatch:
        trajectory = RecordedTrajectory()
        limited = replace(process, batch_size=batch_size.size)
        steps, finals = _run_rows(limited, batch, trajectory, text_cache, progress)
        batch_size.on_success(min(batch_size.size, sum(job.num_rows for job in batch)))
        return RecordedBatch(
            jobs=tuple(batch),
            points=tuple(spool.write(point) for point in trajectory.points),
            values=spool.write(quantity.of_steps(process, steps)),
            finals=spool.write(quantity.of_finals(process, finals)),
        )

    def end(jobs: Sequence[TrajectoryJob], start: int, size: int) -> int:
        stop = batch_end(jobs, start, size)
        while one_text_per_batch and jobs[stop - 1].text != jobs[start].text:
            stop -= 1
        return stop

    return list(map_batches(jobs, batch_size, run, end))


def replay(
    process: Process,
    source: ProcessFacts,
    batch: RecordedBatch,
    quantity: ComparedQuantity,
    spool: TensorSpool,
    *,
    jobs: Sequence[TrajectoryJob],
    one_by_one: bool = False,
    progress: Progress,
) -> Iterator[Replayed]:
    """Evaluate a process at the latents of recorded trajectories, and yield the differences for each job.

    The process runs with the scheduler and the steps of the process that was recorded, so that its model is called with the same
    noisy latents and the same timesteps. Its own scheduler only says what its model predicts.

    Args:
        process: The process that is evaluated.
        source: The process that was recorded.
        batch: The trajectories.
        quantity: What is compared.
        spool: Where the tensors are kept.
        jobs: The jobs of the batch that are evaluated.
        one_by_one: Whether each call evaluates a single row. Otherwise a call has the rows of the recorded batch, so that the
            recorded process itself returns bitwise the same predictions.
        progress: Counts the steps.

    Raises:
        InputError: If the process cannot run along these trajectories, or visits other noise levels on them.
    """
    points = [spool.read(point) for point in batch.points]
    recorded, finals = spool.read(batch.values), spool.read(batch.finals)
    rows = [batch.jobs.index(job) for job in jobs]
    one_by_one = one_by_one or needs_single_rows(process.pipeline)
    size = 1 if one_by_one else min(process.batch_size or 2**31, sum(job.num_rows for job in batch.jobs))
    batch_size = AdaptiveBatchSize(process.device, size)
    text_cache = TextEmbeddingCache()

    def run(part: Sequence[int], start: int) -> list[Replayed]:
        trajectory = RecordedTrajectory([point[part] for point in points])
        guest = replace(process, scheduler=source.scheduler, steps=source.steps, batch_size=batch_size.size)
        with _rounded_noise(source.dtype):
            steps, _ = _run_rows(guest, [batch.jobs[row] for row in part], trajectory, text_cache, progress)
        _check_levels(source, steps)
        evaluated = quantity.of_steps(process, steps)
        pairs = [torch.cat([recorded[step][part], evaluated[step]]) for step in range(len(steps))]
        sources = [*range(len(part))] * 2
        table = torch.stack([squared_differences(pair, sources)[len(part) :] for pair in pairs], 1).double().numpy()
        return [
            Replayed(
                TrajectoryResult(
                    batch.jobs[row],
                    table[i : i + 1],
                    source.timesteps,
                    source.noise_levels,
                    finals[row].clone(),
                    step_latents=None,
                ),
                torch.stack([step.x_t[i] for step in steps]),
                recorded[:, row],
                evaluated[:, i],
            )
            for i, row in enumerate(part)
        ]

    def end(rows: Sequence[int], start: int, size: int) -> int:
        return batch_end([batch.jobs[row] for row in rows], start, size)

    for part in map_batches(rows, batch_size, run, end):
        yield from part


def _run_rows(
    process: Process,
    jobs: Sequence[TrajectoryJob],
    trajectory: RecordedTrajectory,
    text_cache: TextEmbeddingCache,
    progress: Progress,
) -> tuple[list[DenoisingStep], Tensor]:
    """Run one row per job, and return its steps, in float32 on the CPU, and the final latents."""
    steps: list[DenoisingStep] = []
    advance = progress.start_batch(len(jobs))

    def on_step(step: DenoisingStep) -> None:
        steps.append(replace(step, x_t=step.x_t.float().cpu(), predictions=step.predictions.float().cpu()))
        advance(step.index + 1)

    finals = run_on_shared_trajectories(
        process, [job.text for job in jobs], range(len(jobs)), [job.seed for job in jobs], on_step,
        text_cache=text_cache, replay=trajectory,
    )  # fmt: skip
    return steps, finals


def _check_levels(source: ProcessFacts, steps: Sequence[DenoisingStep]) -> None:
    """Check that a pipeline visits the timesteps of the recorded process with its scheduler."""
    expected = [(level.alpha, level.sigma) for level in source.noise_levels]
    visited = [(step.noise_level.alpha, step.noise_level.sigma) for step in steps]
    if not torch.allclose(torch.tensor(visited), torch.tensor(expected), rtol=0, atol=SAME_LEVEL):
        raise InputError(
            "the pipelines of the two processes visit different noise levels with the same scheduler, "
            f"{source.settings['scheduler']}; compare processes without timesteps or sigmas of their own"
        )


def _rounded_noise(dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Context manager in which normal noise has only the precision of `dtype`, in which the recorded process drew it."""
    return contextlib.nullcontext() if dtype == torch.float32 else _RoundedNoiseMode(dtype)


class _RoundedNoiseMode(TorchFunctionMode):
    """Rounds the result of every `torch.randn` to a data type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return result.to(self.dtype).to(result.dtype) if function is torch.randn else result

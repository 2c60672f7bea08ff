"""A forecast of the duration of jobs and of the size of their results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from conjure.diffusion.batch_size import AdaptiveBatchSize
from conjure.diffusion.compilation import compile_for_long_run
from conjure.diffusion.jobs import TrajectoryJob, batch_end
from conjure.diffusion.process import Process
from conjure.engine.runner import iter_results, runs_unbatched
from conjure.errors import InputError


@dataclass(frozen=True)
class Forecast:
    """The expected duration of a run and the size of its results.

    Attributes:
        seconds: The duration.
        size: The size of the final latents in bytes, which the divergence `direct` compares.
    """

    seconds: float
    size: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        duration = f"about {minutes:.0f} min" if minutes < 120 else f"about {minutes / 60:.1f} hours"
        if minutes < 1.5:
            duration = "about a minute"
        return duration + (f", {self.size / 1e9:.1f} GB of latents" if self.size > 5e8 else "")


COMPILATION_PAYS = 120.0  # seconds: compilation takes part of a minute, and saves about a quarter of the time of a GPU


def forecast(process: Process, jobs: Sequence[TrajectoryJob]) -> Forecast | None:
    """Predict the duration of `jobs` by timing one batch of them, for at most three steps.

    On a GPU the forecast is too long, since the batch size grows during the run.

    Args:
        process: The process.
        jobs: The jobs.

    Returns:
        The forecast; None for fewer than four batches, for workers, and where fewer steps cannot be run.
    """
    if not jobs or process.workers:
        return None
    start = len(jobs) // 2  # not at the start, where short texts may come first
    batch = jobs[start : batch_end(jobs, start, AdaptiveBatchSize(process.device, process.batch_size).size)]
    num_batches = sum(job.num_rows for job in jobs) / sum(job.num_rows for job in batch)
    if num_batches < 4:
        return None
    times, size = [time.perf_counter()], 0
    short = replace(process, steps=min(3, process.steps))
    try:
        for result in iter_results(short, batch, progress=lambda *_: times.append(time.perf_counter())):
            size = result.final_latent.numel() * 4
    except InputError:  # some schedulers and arguments, such as a list of sigmas, fit to one number of steps only
        return None
    elapsed = times[-1] - times[0]
    # Pipelines that run one row at a time report their steps at the end, so the duration of the last one is unknown
    last_step = elapsed / short.steps if runs_unbatched(process) else times[-1] - times[-2]
    return Forecast(num_batches * (elapsed + (process.steps - short.steps) * last_step), size * len(jobs))


def compile_if_it_pays(process: Process, expected: Forecast | None) -> bool:
    """Compile the denoiser of a process before a long run on a CUDA device.

    Args:
        process: The process.
        expected: The forecast of the run, or None.

    Returns:
        Whether the denoiser was compiled. Not where `conjure.load` was given whether to compile it.
    """
    is_long = expected is not None and expected.seconds > COMPILATION_PAYS
    return is_long and process.device.type == "cuda" and compile_for_long_run(process.pipeline)

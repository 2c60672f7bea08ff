"""Runs the trajectories of many pairs, with a description of the work and a forecast of its duration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob
from conjure.diffusion.process import Process
from conjure.engine.forecast import compile_if_it_pays, forecast
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import jobs_for_pairs
from conjure.similarity.trajectory_cache import TrajectoryCache


def run_trajectories(
    process: Process,
    pairs: Sequence[tuple[str, str]],
    options: SamplingOptions,
    *,
    kind: str = "",
    final_latents: bool,
    progress: ProgressCallback | None,
    on_start: Callable[[str], None] | None,
) -> TrajectoryCache:
    """Run the trajectories of some pairs and return a cache with the results. Stored results are read.

    Args:
        process: The process.
        pairs: The pairs of texts, which may occur several times.
        options: The samples and their noise.
        kind: What the description says of the pairs, after their number.
        final_latents: Whether to keep final latents, which the divergence `direct` compares.
        progress: Called after every denoising step.
        on_start: Called with a description of the work, and a forecast of its run time, before it starts.
    """
    jobs = jobs_for_pairs(pairs, range(options.samples), options.noise)
    cache = TrajectoryCache(process, options.noise)

    def announce(missing: Sequence[TrajectoryJob]) -> None:
        if on_start is None:
            return
        num_rows = sum(job.num_rows for job in missing) * process.steps
        duration = forecast(process, missing)
        on_start(
            f"{len(pairs):,} pairs{kind}, {len(missing):,} of {len(jobs):,} trajectories to run, up to {num_rows:,} denoiser rows"
            + ("" if duration is None else f", {duration}")
            + (", with a compiled denoiser" if compile_if_it_pays(process, duration) else "")
        )

    if jobs:
        cache.compute(jobs, final_latents=final_latents, progress=progress, on_start=announce)
    return cache

"""A cache of the results of jobs, with access by pairs of texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel, prediction_type
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import NoiseSeeds
from conjure.divergence.differences import PairDifferences
from conjure.engine.runner import iter_result_batches
from conjure.errors import InputError
from conjure.io.formatting import pluralize
from conjure.io.text import listed


class TrajectoryCache:
    """A cache of the results of jobs, with access by pairs of texts.

    Args:
        process: The process to run.
        noise: The seeds of the noise.
        model: What the model is called in messages.

    Attributes:
        process: The process.
        noise: The seeds of the noise.
        model: What the model is called in messages.
        prediction_type: What the model predicts.
        squared_differences: Arrays of shape (T,) by (text, seed, target).
        in_memory: The final latents by (text, seed) that were computed without a store.
        final_latents: The final latents by (text, seed): `in_memory`, or those in the store.
        stores_final_latents: Whether the final latents of all jobs are kept.
        timesteps: The T visited timesteps.
        noise_levels: The noise levels at these timesteps.
        dimensions: The number of dimensions of a latent.
    """

    def __init__(self, process: Process, noise: NoiseSeeds, model: str = "the model") -> None:
        self.process = process
        self.noise = noise
        self.model = model
        self.prediction_type = prediction_type(process.scheduler)
        self.squared_differences: dict[tuple[str, int, str], np.ndarray] = {}
        self.in_memory: dict[tuple[str, int], Tensor] = {}
        self.final_latents: Mapping[tuple[str, int], Tensor] = self.in_memory
        self.stores_final_latents = False
        self.timesteps: tuple[float, ...] = ()
        self.noise_levels: tuple[NoiseLevel, ...] = ()
        self.dimensions = 0

    def compute(
        self,
        jobs: Sequence[TrajectoryJob],
        *,
        final_latents: bool,
        keep_latents: Sequence[TrajectoryJob] = (),
        progress: ProgressCallback | None = None,
        on_start: Callable[[Sequence[TrajectoryJob]], None] | None = None,
    ) -> list[TrajectoryResult]:
        """Make the results of `jobs` available to `pair`. Stored results are read; the other jobs are run and stored.

        Args:
            jobs: The jobs.
            final_latents: Whether to keep final latents, which the divergence `direct` compares.
            keep_latents: The jobs whose latents at every step are returned. They are run even if their results are stored.
            progress: Called after every step.
            on_start: Called with the jobs that have to be run.

        Returns:
            The results of the jobs in `keep_latents`, in the order of `jobs`.
        """
        self.stores_final_latents |= final_latents
        if not jobs:
            return []
        process = self.process
        stored = process.store.for_process(process.storable_fingerprint(), process.settings()) if process.store else None
        requested = [job for job in jobs if job in keep_latents]
        others = [job for job in jobs if job not in keep_latents]
        remaining = requested + stored.missing(others, final_latents=final_latents) if stored else list(jobs)
        if stored:
            warned_by_run = _texts(remaining)
            process.warn_of_lost_texts(text for text in _texts(jobs) if text not in warned_by_run)
        if on_start:
            on_start(remaining)
        with_latents = []
        for batch in iter_result_batches(process, remaining, keep_latents=requested, progress=progress):
            if stored:
                stored.add(batch)
            else:
                for result in batch:
                    self._add(result, final_latents)
            with_latents += [result for result in batch if result.step_latents]
        with_latents.sort(key=lambda result: requested.index(result.job))  # workers return them in any order
        if stored:
            loaded = stored.load(jobs)
            self.squared_differences |= loaded.squared_differences
            self.final_latents = loaded.final_latents
            self.timesteps, self.noise_levels = loaded.timesteps, loaded.noise_levels
            self.dimensions = loaded.dimensions
        return with_latents

    def _add(self, result: TrajectoryResult, final_latents: bool) -> None:
        job = result.job
        for target, differences in zip(job.targets, result.squared_differences, strict=True):
            self.squared_differences[job.text, job.seed, target] = differences
        # `non_finite_texts` needs the final latent to find out which of two texts has predictions that are not finite
        if final_latents or not np.isfinite(result.squared_differences).all():
            self.in_memory[job.text, job.seed] = result.final_latent
        self.timesteps, self.noise_levels = result.timesteps, result.noise_levels
        self.dimensions = result.final_latent.numel()

    def non_finite_texts(self) -> list[str]:
        """Return the texts for which predictions are not finite, on their trajectory or on the trajectory of another text."""
        texts = dict[str, None]()
        for (text, seed, target), differences in self.squared_differences.items():
            if not np.isfinite(differences).all():
                # if the trajectory of `text` ends in finite latents, the predictions for `target` are not finite
                texts[target if torch.isfinite(self.final_latents[text, seed]).all() else text] = None
        return sorted(texts)

    def pair(self, a: str, b: str, samples: int) -> PairDifferences:
        """Return the differences between two texts in the first `samples` samples.

        Raises:
            InputError: If predictions are not finite.
        """
        forward_seeds, backward_seeds = (
            [self.noise.seed_for(sample, *pair) for sample in range(samples)] for pair in ((a, b), (b, a))
        )
        forward = [self.squared_differences[a, seed, b] for seed in forward_seeds]
        backward = [self.squared_differences[b, seed, a] for seed in backward_seeds]
        if not all(np.isfinite(differences).all() for differences in (*forward, *backward)):
            raise non_finite_error(self.non_finite_texts(), self.model)
        direct = np.array([self._final_latent_distance((a, seed), (b, seed)) for seed in forward_seeds])
        return self._differences(np.stack(forward), np.stack(backward), direct)

    def one_way(self, text: str, partner: str, target: str, samples: int) -> PairDifferences:
        """Return the differences between `text` and `target` along the trajectories of `text` only, in both fields.

        Args:
            text: The source text.
            partner: The other text of the pair of `text`. With antithetic noise the seeds depend on it.
            target: The evaluated text.
            samples: The number of samples.

        Returns:
            Differences whose `forward` and `backward` are equal, and whose `direct` is NaN.
        """
        seeds = [self.noise.seed_for(sample, text, partner) for sample in range(samples)]
        differences = np.stack([self.squared_differences[text, seed, target] for seed in seeds])
        return self._differences(differences, differences, np.full(samples, math.nan))

    def _differences(self, forward: np.ndarray, backward: np.ndarray, direct: np.ndarray) -> PairDifferences:
        return PairDifferences(
            forward, backward, direct, self.prediction_type, self.timesteps, self.noise_levels, self.dimensions
        )

    def _final_latent_distance(self, first: tuple[str, int], second: tuple[str, int]) -> float:
        if not self.stores_final_latents:
            return math.nan
        x, y = self.final_latents.get(first), self.final_latents.get(second)
        return math.nan if x is None or y is None else float((x - y).square().sum())


def _texts(jobs: Sequence[TrajectoryJob]) -> dict[str, None]:
    """Return the texts of jobs, each once and in order."""
    return dict.fromkeys(text for job in jobs for text in (job.text, *job.targets))


def non_finite_error(texts: Sequence[str], model: str = "the model") -> InputError:
    """Return the error about texts without which there is no result."""
    return InputError(f"{non_finite_message(texts, model)}; use a smaller guidance, or float32")


def non_finite_message(texts: Sequence[str], model: str = "the model") -> str:
    """Return the message about texts for which predictions are not finite."""
    shown = listed([repr(text[:40]) for text in texts], 5)
    return f"{model}'s predictions are not finite for {pluralize(len(texts), 'text')}: {shown}"

"""The computation of `conjure.drift` in stages, each of which has one of the two models in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob
from conjure.diffusion.process import Process
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.divergence.weightings import step_weights
from conjure.process_drift.agreement import check_agreement
from conjure.process_drift.assembly import make_drift
from conjure.process_drift.directions import Direction, record_trajectories
from conjure.process_drift.facts import ProcessFacts
from conjure.process_drift.images import TextImages, decode_images
from conjure.process_drift.progress import Progress
from conjure.process_drift.results import Drift
from conjure.process_drift.spool import TensorSpool
from conjure.process_drift.trajectories import ComparedQuantity
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import jobs_for_pairs
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache

NOISE_TEXTS, NOISE_SAMPLES = 4, 3  # texts and samples on which the numerical noise of both processes is measured


class ProcessComparison:
    """The comparison of two processes on some texts.

    Args:
        a: The reference process.
        b: The other process.
        texts: The texts.
        options: The options of the estimates.
        num_images: The number of texts that changed most, and of those that changed least, whose images are decoded.
        spool: Where the trajectories are kept.
        progress: Called after every step.

    Attributes:
        agreement: How the processes are compared.
        config: The divergence with the uniform weighting.
        forward: The differences along trajectories of A.
        backward: The differences along trajectories of B.

    Raises:
        InputError: If the processes cannot be compared, or the unit is undefined at a visited level.
    """

    def __init__(
        self,
        a: ProcessFacts,
        b: ProcessFacts,
        texts: Sequence[str],
        options: SamplingOptions,
        num_images: int,
        spool: TensorSpool,
        progress: ProgressCallback | None,
    ) -> None:
        self.agreement = check_agreement(a, b)
        self.a, self.b = replace(a, autoencoder=None), replace(b, autoencoder=None)  # their weights are not needed any more
        self.texts, self.options, self.num_images = texts, options, num_images
        in_pixels = self.agreement.in_pixels
        # An image is compared as a prediction of x0
        self.config = DivergenceConfig(unit="x0") if in_pixels else options.config
        self.prediction_type = "sample" if in_pixels else a.prediction_type
        self.levels = [a.noise_levels[i] for i in self.agreement.grid.kept]
        step_weights(self.levels, self.prediction_type, "uniform", self.config.unit)
        self.seeds = [options.noise.seed_for(sample, "", "") for sample in range(options.samples)]
        jobs = [TrajectoryJob(text, seed, (text,)) for text in texts for seed in self.seeds]
        with_images = jobs[:: options.samples] if num_images and not in_pixels else []
        quantity = ComparedQuantity(a.prediction_type, in_pixels)
        self.forward = Direction(self.a, self.b, quantity, jobs, with_images)
        self.backward = Direction(self.b, self.a, quantity, jobs, with_images, names=("model B", "model A"))
        self.noise_texts = texts[:: max(1, len(texts) // NOISE_TEXTS)][:NOISE_TEXTS]
        self.noise_seeds = self.seeds[:NOISE_SAMPLES]
        noise_jobs = [job for job in jobs if job.text in self.noise_texts and job.seed in self.noise_seeds]
        self.noise_a = Direction(self.a, self.a, quantity, noise_jobs)
        self.noise_b = Direction(self.b, self.b, quantity, noise_jobs)
        self.reference_jobs = [] if in_pixels else jobs_for_pairs(
            [(text, "") for text in texts], range(options.samples), options.noise
        )  # fmt: skip
        self.references: dict[str, PairDifferences] = {}
        self.spool = spool
        self.progress = Progress(progress, self._total_steps())

    def _total_steps(self) -> int:
        directions = ((self.forward, self.noise_a), (self.backward, self.noise_b))
        total = len(self.reference_jobs) * self.a.steps
        for main, noise in directions:
            recorded = {*main.missing, *noise.missing}
            total += (len(recorded) + len(main.missing) + len(noise.missing)) * main.source.steps
        return total

    def start_with_b(self, process: Process) -> None:
        """Record the trajectories of process B, and measure its numerical noise."""
        warn_of_indistinct_texts(process, [(text, text) for text in self.texts])
        self.recorded_b = record_trajectories(process, (self.backward, self.noise_b), self.spool, self.progress)
        self.noise_b.evaluate(process, self.recorded_b, self.spool, self.progress)

    def run_a(self, process: Process) -> None:
        """Evaluate process A along the trajectories of B, record its own, and measure its noise and the reference distances."""
        warn_of_indistinct_texts(process, [(text, text) for text in self.texts])
        self.backward.evaluate(process, self.recorded_b, self.spool, self.progress)
        self.recorded_a = record_trajectories(process, (self.forward, self.noise_a), self.spool, self.progress)
        self.noise_a.evaluate(process, self.recorded_a, self.spool, self.progress)
        if self.reference_jobs:
            cache = TrajectoryCache(process, self.options.noise, "model A")
            cache.compute(self.reference_jobs, final_latents=True, progress=self.progress.start_part())
            kept = list(self.agreement.grid.kept)
            for text in self.texts:
                differences = cache.pair(text, "", self.options.samples)
                self.references[text] = replace(
                    differences,
                    forward=differences.forward[:, kept],
                    backward=differences.backward[:, kept],
                    timesteps=tuple(differences.timesteps[i] for i in kept),
                    noise_levels=tuple(self.levels),
                )

    def finish_with_b(self, process: Process) -> Drift:
        """Evaluate process B along the trajectories of A, and return the result with its images."""
        self.forward.evaluate(process, self.recorded_a, self.spool, self.progress)
        for direction in (self.forward, self.backward, self.noise_a, self.noise_b):
            direction.load()
        differences = {text: self._differences(text, self.seeds, self.forward, self.backward) for text in self.texts}
        noise = [self._differences(text, self.noise_seeds, self.noise_a, self.noise_b) for text in self.noise_texts]
        result = make_drift(
            self.a, self.b, self.agreement, self.config, differences, self.references, noise, self.options.noise.seed
        )
        if not self.num_images:
            return result
        return replace(result, images=self._images(process, result, differences))

    def _images(self, process: Process, result: Drift, differences: Mapping[str, PairDifferences]) -> tuple[TextImages, ...]:
        ordered = [text.text for text in result.texts]
        shown = dict.fromkeys([*ordered[: self.num_images], *ordered[-self.num_images :]])
        directions = self.forward, self.backward
        return tuple(
            decode_images(
                process, text, self.seeds[0], directions, self.config.per_step(differences[text]), self.agreement.grid,
                self.spool, result.labels,
            )
            for text in shown
        )  # fmt: skip

    def _differences(self, text: str, seeds: Sequence[int], forward: Direction, backward: Direction) -> PairDifferences:
        """Return the differences between the processes, or their numerical noise, on the common grid."""
        kept = list(self.agreement.grid.kept)
        finals = [(forward.final(text, seed), backward.final(text, seed)) for seed in seeds]
        return PairDifferences(
            forward=forward.squared_differences(text, seeds)[:, kept],
            backward=self.agreement.grid.on_grid(backward.squared_differences(text, seeds)),
            direct=np.array([float((first - second).square().sum()) for first, second in finals]),
            prediction_type=self.prediction_type,
            timesteps=tuple(self.a.timesteps[i] for i in kept),
            noise_levels=tuple(self.levels),
            dimensions=finals[0][0].numel(),
        )

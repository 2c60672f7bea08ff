r"""The Jensen-Shannon divergence between the path measures of two texts, from likelihood ratios of a stochastic sampler.

Early versions of the paper used the name Jensen-Shannon for their distance, which is the Jeffreys divergence. This module
computes the actual Jensen-Shannon divergence. The ancestral sampler (DDPM) draws $x_{i+1} \sim N(\mu_i(x_i, y), s_i^2 I)$, so the
log likelihood ratio $L$ of a path is known:

$$L = \sum_i \frac{\lVert x_{i+1} - \mu_i(x_i, y') \rVert^2 - \lVert x_{i+1} - \mu_i(x_i, y) \rVert^2}{2 s_i^2}$$

$$JS(P_y, P_{y'}) = \frac12 E_{P_y} \log \frac{2}{1 + e^{-L}} + \frac12 E_{P_{y'}} \log \frac{2}{1 + e^{-L'}} \le \log 2$$

The divergence saturates. A path has thousands of dimensions, so clearly different texts have $L$ in the hundreds, and all such
pairs have the distance $\log 2 = 0.693$ nats within floating-point precision. The Jeffreys divergence is the mean of $L$ itself
and does not saturate.

Reference:
    Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.jobs import TrajectoryJob, batch_end, expand_rows
from conjure.diffusion.noise_levels import NoiseLevel, PredictionType, prediction_type
from conjure.diffusion.predictions import predict_x0
from conjure.diffusion.process import Process
from conjure.diffusion.schedulers import make_scheduler
from conjure.diffusion.seeding import NoiseSeeds
from conjure.diffusion.shared_trajectory import DenoisingStep
from conjure.engine.runner import trajectory_runner
from conjure.errors import InputError
from conjure.similarity.sampling import jobs_for_pairs


@dataclass
class JensenShannon:
    """Jensen-Shannon divergence between path measures of a process with the ancestral sampler.

    Attributes:
        process: The process. Its scheduler is replaced by DDPM.
        samples: Paths per text.
        seed: Seed of the noise of the paths.
        name: Name of the baseline.
        text_cache: Text embeddings of earlier batches.
        batch_size: Denoiser rows per batch.
        cached_fingerprint: Fingerprint of the process that `text_cache` belongs to.

    Raises:
        InputError: For flow models, whose samplers add no noise during sampling, and for a process of one step.
    """

    process: Process
    samples: int = 1
    seed: int = 0
    name: str = "jensen-shannon"
    text_cache: TextEmbeddingCache = field(default_factory=TextEmbeddingCache, repr=False)
    batch_size: AdaptiveBatchSize = field(init=False, repr=False)
    cached_fingerprint: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if prediction_type(self.process.scheduler) == "flow":
            raise InputError(
                "jensen-shannon needs a sampler that adds noise at each step (DDPM), which flow models do not have; "
                "leave this baseline out"
            )
        ancestral = make_scheduler(self.process.pipeline.scheduler, "ddpm")
        # the mean of a transition must be linear in the prediction, and its variance that of the posterior
        exact = {"clip_sample": False, "thresholding": False, "variance_type": "fixed_small"}
        self.process = replace(self.process, scheduler=type(ancestral).from_config(ancestral.config, **exact))
        self.batch_size = AdaptiveBatchSize(self.process.device, self.process.batch_size)
        if self.process.steps < 2:
            raise InputError("steps is 1; jensen-shannon is a sum over transitions, so steps must be an integer >= 2")

    def settings(self) -> dict[str, Any]:
        """Return the process, the number of paths and their seed; see `Baseline.settings`."""
        # hashed into store keys: keys and values must not change
        return {"name": self.name, "process": self.process.storable_fingerprint(), "samples": self.samples, "seed": self.seed}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs samples"]:
        """Return the divergences of `pairs` in nats, shape (pairs, samples)."""
        noise = NoiseSeeds(self.seed)
        ratios = self.log_likelihood_ratios(jobs_for_pairs(pairs, range(self.samples), noise))
        seeds = [noise.seed_for(sample, "", "") for sample in range(self.samples)]
        return np.array([[(_js_term(ratios[a, seed, b]) + _js_term(ratios[b, seed, a])) / 2 for seed in seeds] for a, b in pairs])

    def log_likelihood_ratios(self, jobs: Sequence[TrajectoryJob]) -> dict[tuple[str, int, str], float]:
        """Return the log likelihood ratios $L$ along the trajectories of `jobs`, by (text, seed, target)."""
        if (fingerprint := self.process.fingerprint()) != self.cached_fingerprint:
            self.text_cache.clear()
            self.cached_fingerprint = fingerprint
        ratios: dict[tuple[str, int, str], float] = {}
        for batch_ratios in map_batches(jobs, self.batch_size, self._batch_ratios, end=batch_end):
            ratios |= batch_ratios
        return ratios

    def _batch_ratios(self, batch: Sequence[TrajectoryJob], _start: int) -> dict[tuple[str, int, str], float]:
        process = replace(self.process, batch_size=self.batch_size.size)
        texts, source_rows, seeds = expand_rows(batch)
        total = torch.zeros(len(texts), dtype=torch.float64)
        previous: DenoisingStep | None = None
        predicts = prediction_type(process.scheduler)

        def on_step(step: DenoisingStep) -> None:
            nonlocal previous
            if previous is not None:
                mean, width = ancestral_transition(predicts, previous, step.noise_level)
                squared_distance = (step.x_t.float() - mean).flatten(1).square().sum(1)
                total.add_(((squared_distance - squared_distance[source_rows]) / (2 * width**2)).double().cpu())
            previous = step

        trajectory_runner(process)(process, texts, source_rows, seeds, on_step, text_cache=self.text_cache)
        self.batch_size.on_success(min(self.batch_size.size, sum(job.num_rows for job in batch)))
        keys = [(texts[source], seed, text) for text, source, seed in zip(texts, source_rows, seeds, strict=True)]
        return dict(zip(keys, total.tolist(), strict=True))


def ancestral_transition(
    predicts: PredictionType, step: DenoisingStep, next_level: NoiseLevel
) -> tuple[Float[torch.Tensor, "rows *latent"], float]:
    r"""Return mean and standard deviation of the ancestral transition from `step` to the noise level `next_level`.

    Args:
        predicts: What the model predicts.
        step: State and predictions of all rows.
        next_level: Noise level of the next step.

    Returns:
        The mean $\mu_i$ for each row's prediction, shape (rows, ...), and the standard deviation $s_i$, equal for all rows.
    """
    level = step.noise_level
    x_t, predictions = step.x_t.float(), step.predictions.float()
    x0 = predict_x0(predicts, x_t, predictions, level)
    eps = (x_t - level.alpha * x0) / level.sigma
    variance = (next_level.sigma / level.sigma) ** 2 * (1 - (level.alpha / next_level.alpha) ** 2)
    return next_level.alpha * x0 + math.sqrt(next_level.sigma**2 - variance) * eps, math.sqrt(variance)


def _js_term(ratio: float) -> float:
    """Return log(2 / (1 + exp(-ratio)))."""
    return math.log(2) - float(np.logaddexp(0, -ratio))

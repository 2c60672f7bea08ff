r"""The Jensen-Shannon divergence between the path measures of two texts, by likelihood ratios of a stochastic sampler.

Early versions of the paper gave that name to its distance, which is Jeffreys. Here is what the name says. The ancestral sampler
(DDPM, Ho et al. 2020) draws x_{i+1} ~ N(mu_i(x_i, y), s_i^2), so along a path its log likelihood ratio is known,

    L = sum_i (|x_{i+1} - mu_i(x_i, y')|^2 - |x_{i+1} - mu_i(x_i, y)|^2) / (2 s_i^2)
    JS(P_y, P_y') = 1/2 E_{P_y} log 2 / (1 + exp -L) + 1/2 E_{P_y'} log 2 / (1 + exp -L')        <= log 2

It saturates: a path has thousands of dimensions, so two texts that anybody could tell apart have L in the hundreds, and all such
pairs stand at log 2 = 0.693 nats within the machine's precision. Jeffreys, which is the mean of L itself, does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from conjure.errors import InputError
from conjure.estimate import Noise
from conjure.lockstep import Visit
from conjure.memory import Rows
from conjure.once import Encoded
from conjure.process import Process, scheduler_for
from conjure.run import Source, batched, rows_of, walker
from conjure.similarity import sources_of
from conjure.units import Level, output_of, x0_of


@dataclass
class JensenShannon:
    """The divergence of a process run with the ancestral sampler. samples: paths a text. seed: of their noise.

    Errors: `InputError` for flows, whose samplers draw nothing on the way.
    """

    process: Process
    samples: int = 1
    seed: int = 0
    name: str = "jensen-shannon"
    encoded: Encoded = field(default_factory=Encoded, repr=False)
    rows: Rows = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if output_of(self.process.scheduler) == "flow":
            raise InputError(
                "jensen-shannon needs a sampler that draws noise on its way (DDPM), which flows have none of; leave it out"
            )
        ancestral = scheduler_for(self.process.pipeline.scheduler, "ddpm")
        # the mean of a step must be linear in what the model says, and its width that of the posterior
        plain = {"clip_sample": False, "thresholding": False, "variance_type": "fixed_small"}
        self.process = replace(self.process, scheduler=type(ancestral).from_config(ancestral.config, **plain))
        self.rows = Rows(self.process.pipeline.device, self.process.rows)
        if self.process.steps < 2:
            raise InputError("jensen-shannon is a sum over transitions, so steps must be at least 2, not 1")

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "process": self.process.identity(), "samples": self.samples, "seed": self.seed}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Nats, shape (pairs, samples)."""
        noise = Noise(self.seed)
        ratios = self.ratios(sources_of(pairs, range(self.samples), noise))
        seeds = [noise.of(sample, "", "") for sample in range(self.samples)]
        return np.array([[(_bounded(ratios[a, seed, b]) + _bounded(ratios[b, seed, a])) / 2 for seed in seeds] for a, b in pairs])

    def ratios(self, sources: Sequence[Source]) -> dict[tuple[str, int, str], float]:
        """Log likelihood ratios L along the paths of `sources`, by text, seed and the text that judges."""
        found: dict[tuple[str, int, str], float] = {}
        for part in batched(sources, self.rows, lambda batch, _: self._ratios(batch)):
            found |= part
        return found

    def _ratios(self, batch: Sequence[Source]) -> dict[tuple[str, int, str], float]:
        process = replace(self.process, rows=self.rows.number)
        texts, drivers, seeds = rows_of(batch)
        total = torch.zeros(len(texts), dtype=torch.float64)
        latest: Visit | None = None
        output = output_of(process.scheduler)

        def observe(visit: Visit) -> None:
            nonlocal latest
            if latest is not None:
                mean, width = ancestral_mean(output, latest, visit.level)
                apart = (visit.x_t.float() - mean).flatten(1).square().sum(1)
                total.add_(((apart - apart[drivers]) / (2 * width**2)).double().cpu())
            latest = visit

        walker(process)(process, texts, drivers, seeds, observe, encoded=self.encoded)
        judged = [(texts[driver], seed, text) for text, driver, seed in zip(texts, drivers, seeds, strict=True)]
        return dict(zip(judged, total.tolist(), strict=True))


def ancestral_mean(output: str, visit: Visit, following: Level) -> tuple[torch.Tensor, float]:
    """Mean, (rows, ...), and width of the ancestral step from `visit` to the level `following`, for each row's own answer."""
    now = visit.level
    x_t, m = visit.x_t.float(), visit.output.float()
    x0 = x0_of(output, x_t, m, now)
    eps = (x_t - now.alpha * x0) / now.sigma
    variance = (following.sigma / now.sigma) ** 2 * (1 - (now.alpha / following.alpha) ** 2)
    return following.alpha * x0 + math.sqrt(following.sigma**2 - variance) * eps, math.sqrt(variance)


def _bounded(ratio: float) -> float:
    """log 2 / (1 + exp -L)."""
    return math.log(2) - float(np.logaddexp(0, -ratio))

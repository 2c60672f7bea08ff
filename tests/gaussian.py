"""Processes whose scores are known exactly: every text stands for a mixture of Gaussians, and divergences are known in nats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ImagePipelineOutput, LMSDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor

from conjure.process import Process
from conjure.units import Level, level_of


@dataclass(frozen=True)
class Mixture:
    """`sum_j weights[j] N(means[j], variances[j] I)`; means of shape (components, dimensions)."""

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]

    def score(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """The gradient of the log density of `alpha x0 + sigma eps` at `x`, (rows, dimensions)."""
        means = level.alpha * torch.tensor(self.means, dtype=x.dtype)
        variances = level.alpha**2 * torch.tensor(self.variances, dtype=x.dtype) + level.sigma**2
        away = x[:, None] - means
        log = torch.tensor(self.weights, dtype=x.dtype).log() - away.square().sum(2) / (2 * variances)
        log = log - x.shape[1] / 2 * variances.log()
        return -(log.softmax(1)[..., None] * away / variances[:, None]).sum(1)

    def log_density(self, x: np.ndarray, level: Level) -> np.ndarray:
        """Log density of `alpha x0 + sigma eps` at the points `x` of a line (one dimension)."""
        variances = level.alpha**2 * np.array(self.variances) + level.sigma**2
        parts = -((x[:, None] - level.alpha * np.array(self.means)[:, 0]) ** 2) / (2 * variances)
        parts += np.log(self.weights) - np.log(2 * np.pi * variances) / 2
        return np.logaddexp.reduce(parts, axis=1)


def gaussian(*mean: float, variance: float = 1.0) -> Mixture:
    return Mixture((1.0,), (mean,), (variance,))


def kl_of_gaussians(p: Mixture, q: Mixture, level: Level) -> float:
    """KL(p || q) in nats of two isotropic Gaussians, seen at `level`."""
    vp, vq = (level.alpha**2 * one.variances[0] + level.sigma**2 for one in (p, q))
    apart = level.alpha**2 * np.square(np.subtract(p.means[0], q.means[0])).sum()
    return float(0.5 * (len(p.means[0]) * (vp / vq - 1 - np.log(vp / vq)) + apart / vq))


def kl_on_a_line(p: Mixture, q: Mixture, level: Level) -> float:
    """KL(p || q) in nats of two mixtures in one dimension, by quadrature."""
    x = np.linspace(-12, 12, 40_001)
    log_p, log_q = p.log_density(x, level), q.log_density(x, level)
    return float(np.trapezoid(np.exp(log_p) * (log_p - log_q), x))


class GaussianPipeline(DiffusionPipeline):
    """A pipeline in the shape of diffusers' own, but with exact predictions instead of a network."""

    texts: dict[str, Mixture]

    def __init__(self, scheduler: object) -> None:
        super().__init__()
        self.register_modules(scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self, prompt: list[str], num_inference_steps: int = 10, generator: object = None, output_type: str = "latent"
    ) -> ImagePipelineOutput:
        scheduler = self.scheduler
        scheduler.set_timesteps(num_inference_steps)
        dimensions = len(next(iter(self.texts.values())).means[0])
        x = randn_tensor((len(prompt), dimensions, 1, 1), generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
        rows = {text: [row for row, other in enumerate(prompt) if other == text] for text in set(prompt)}
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            level, flat, m = level_of(scheduler, t), scaled[..., 0, 0].double(), torch.empty_like(x)
            for text, own in rows.items():
                m[own] = self.predict(self.texts[text], flat[own], level).float()[..., None, None]
            x = scheduler.step(m, t, x, return_dict=False)[0]
        return ImagePipelineOutput(images=x)

    def predict(self, mixture: Mixture, x: torch.Tensor, level: Level) -> torch.Tensor:
        eps = -level.sigma * mixture.score(x, level)
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            # the posterior mean of x0 by Tweedie's formula, which has no 1 / alpha to blow up where the flow starts
            if level.alpha == 0:
                mean = sum(w * np.array(mu) for w, mu in zip(mixture.weights, mixture.means, strict=True))
                return eps - torch.tensor(mean)
            return eps - (x - level.sigma * eps) / level.alpha
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return eps
            case "v_prediction":
                return (eps - level.sigma * x) / level.alpha
            case "sample":
                return (x - level.sigma * eps) / level.alpha
        raise AssertionError


SCHEDULERS: dict[str, Callable[[], object]] = {
    "lms epsilon": lambda: LMSDiscreteScheduler(timestep_spacing="linspace"),
    "lms v": lambda: LMSDiscreteScheduler(timestep_spacing="linspace", prediction_type="v_prediction"),
    "ddim sample": lambda: DDIMScheduler(timestep_spacing="linspace", prediction_type="sample", clip_sample=False),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(),
    "stochastic flow": lambda: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
}


def process_of(texts: dict[str, Mixture], scheduler: str = "lms epsilon", steps: int = 100, rows: int = 100_000) -> Process:
    pipeline = GaussianPipeline(SCHEDULERS[scheduler]())
    pipeline.texts = texts
    return Process(pipeline=pipeline, scheduler=pipeline.scheduler, steps=steps, rows=rows)

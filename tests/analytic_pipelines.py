"""Pipelines whose scores are exact: each text stands for a mixture of Gaussians, so divergences are known in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ImagePipelineOutput, LMSDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float, Float64
from torch import Tensor

from conjure.diffusion.noise_levels import NoiseLevel, noise_level
from conjure.diffusion.process import Process


@dataclass(frozen=True)
class Mixture:
    r"""The distribution $\sum_j w_j \, \mathcal{N}(\mu_j, \tau_j I)$ of $x_0$.

    Attributes:
        weights: The weights $w_j$ of the components, with sum 1.
        means: The means $\mu_j$, each with one number per dimension.
        variances: The variances $\tau_j$.
    """

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]

    def score(self, x: Float[Tensor, "rows dimensions"], level: NoiseLevel) -> Float[Tensor, "rows dimensions"]:
        r"""Return the gradient of the log density of $x_t = \alpha x_0 + \sigma \epsilon$ at `x`."""
        means = level.alpha * torch.tensor(self.means, dtype=x.dtype)
        variances = level.alpha**2 * torch.tensor(self.variances, dtype=x.dtype) + level.sigma**2
        centered = x[:, None] - means
        log_weights = torch.tensor(self.weights, dtype=x.dtype).log() - centered.square().sum(2) / (2 * variances)
        log_weights = log_weights - x.shape[1] / 2 * variances.log()
        return -(log_weights.softmax(1)[..., None] * centered / variances[:, None]).sum(1)

    def log_density(self, x: Float64[np.ndarray, " points"], level: NoiseLevel) -> Float64[np.ndarray, " points"]:
        r"""Return the log density of $x_t = \alpha x_0 + \sigma \epsilon$ at `x`, for a mixture in one dimension."""
        variances = level.alpha**2 * np.array(self.variances) + level.sigma**2
        components = -((x[:, None] - level.alpha * np.array(self.means)[:, 0]) ** 2) / (2 * variances)
        components += np.log(self.weights) - np.log(2 * np.pi * variances) / 2
        return np.logaddexp.reduce(components, axis=1)


def gaussian(*mean: float, variance: float = 1.0) -> Mixture:
    """Return a mixture with one component."""
    return Mixture((1.0,), (mean,), (variance,))


def gaussian_kl(p: Mixture, q: Mixture, level: NoiseLevel) -> float:
    """Return KL(p || q) in nats of two isotropic Gaussians at a noise level, in closed form."""
    variance_p, variance_q = (level.alpha**2 * mixture.variances[0] + level.sigma**2 for mixture in (p, q))
    squared_distance = level.alpha**2 * np.square(np.subtract(p.means[0], q.means[0])).sum()
    ratio = variance_p / variance_q
    return float(0.5 * (len(p.means[0]) * (ratio - 1 - np.log(ratio)) + squared_distance / variance_q))


def path_kl(kl: Callable[[Mixture, Mixture, NoiseLevel], float], p: Mixture, q: Mixture, snr: Sequence[float]) -> float:
    """Return the KL divergence of the paths: that of the marginals at the last visited level less that at the first."""
    first, last = (
        NoiseLevel(alpha=float(np.sqrt(ratio / (1 + ratio))), sigma=float(np.sqrt(1 / (1 + ratio))))
        for ratio in (snr[0], snr[-1])
    )
    return kl(p, q, last) - kl(p, q, first)


def quadrature_kl(p: Mixture, q: Mixture, level: NoiseLevel) -> float:
    """Return KL(p || q) in nats of two mixtures in one dimension at a noise level, by quadrature."""
    x = np.linspace(-12, 12, 40_001)
    log_p, log_q = p.log_density(x, level), q.log_density(x, level)
    return float(np.trapezoid(np.exp(log_p) * (log_p - log_q), x))


class AnalyticPipeline(DiffusionPipeline):
    """A pipeline with the calling convention of diffusers and exact predictions instead of a network.

    Attributes:
        texts: For each text the mixture that it stands for.
        trained_scheduler: The scheduler that says what the pipeline predicts, also while it runs with another one.
    """

    texts: dict[str, Mixture]

    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(scheduler=scheduler)
        self.trained_scheduler = scheduler

    @torch.no_grad()
    def __call__(
        self, prompt: list[str], num_inference_steps: int = 10, generator: object = None, output_type: str = "latent"
    ) -> ImagePipelineOutput:
        scheduler = self.scheduler
        scheduler.set_timesteps(num_inference_steps)
        dimensions = len(next(iter(self.texts.values())).means[0])
        x = randn_tensor((len(prompt), dimensions, 1, 1), generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
        rows_of = {text: [row for row, row_text in enumerate(prompt) if row_text == text] for text in set(prompt)}
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            level, flat, prediction = noise_level(scheduler, t), scaled[..., 0, 0].double(), torch.empty_like(x)
            for text, rows in rows_of.items():
                prediction[rows] = self.predict(self.texts[text], flat[rows], level).float()[..., None, None]
            x = scheduler.step(prediction, t, x, return_dict=False)[0]
        return ImagePipelineOutput(images=x)

    def predict(
        self, mixture: Mixture, x: Float[Tensor, "rows dimensions"], level: NoiseLevel
    ) -> Float[Tensor, "rows dimensions"]:
        """Return the exact prediction at `x`, of the type that the pipeline's own scheduler expects."""
        eps = -level.sigma * mixture.score(x, level)
        if isinstance(self.trained_scheduler, FlowMatchEulerDiscreteScheduler):
            # Tweedie's formula for the posterior mean of x0 divides by alpha, which is 0 where the flow starts
            if level.alpha == 0:
                mean = sum(weight * np.array(mean) for weight, mean in zip(mixture.weights, mixture.means, strict=True))
                return eps - torch.tensor(mean)
            return eps - (x - level.sigma * eps) / level.alpha
        match self.trained_scheduler.config.prediction_type:
            case "epsilon":
                return eps
            case "v_prediction":
                return (eps - level.sigma * x) / level.alpha
            case "sample":
                return (x - level.sigma * eps) / level.alpha
        raise AssertionError(self.trained_scheduler.config.prediction_type)


SCHEDULERS: dict[str, Callable[[], object]] = {
    "lms epsilon": lambda: LMSDiscreteScheduler(timestep_spacing="linspace"),
    "lms v": lambda: LMSDiscreteScheduler(timestep_spacing="linspace", prediction_type="v_prediction"),
    "ddim sample": lambda: DDIMScheduler(timestep_spacing="linspace", prediction_type="sample", clip_sample=False),
    "flow": lambda: FlowMatchEulerDiscreteScheduler(),
    "stochastic flow": lambda: FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
}


def process_of(texts: dict[str, Mixture], scheduler: str = "lms epsilon", steps: int = 100, batch_size: int = 100_000) -> Process:
    """Return a process with exact predictions.

    Args:
        texts: For each text the mixture that it stands for.
        scheduler: A key of `SCHEDULERS`.
        steps: The number of denoising steps T.
        batch_size: The largest number of rows in one call.
    """
    pipeline = AnalyticPipeline(SCHEDULERS[scheduler]())
    pipeline.texts = texts
    return Process(pipeline=pipeline, scheduler=pipeline.scheduler, steps=steps, batch_size=batch_size)

r"""Algorithm 1 of the paper in plain code: two trajectories, and both texts evaluated at every state of each.

This module shares, batches and caches nothing. The engine is tested against it, and the benchmarks compare the speed of both.

Reference: Liu and Soatto, "Conjuring Semantic Similarity", ICLR 2026, Algorithm 1 (https://arxiv.org/abs/2410.16431).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

GuidedPrediction = Callable[[Tensor, Any, str], Tensor]
"""A denoiser with guidance. It is called with the scaled x_t, the timestep t and the text, and returns the guided prediction."""


@dataclass
class ReferenceResult:
    """One Monte-Carlo sample of the distance of two texts.

    Attributes:
        forward: The mean over steps of the squared differences along the trajectory of the first text.
        backward: The same along the trajectory of the second text.
        per_step: The contributions of the T steps to the sum of `forward` and `backward`.
        final_latents: The last latents of the two trajectories.
    """

    forward: float
    backward: float
    per_step: list[float]
    final_latents: tuple[Tensor, Tensor]


@torch.no_grad()
def algorithm_1(
    predict: GuidedPrediction,
    scheduler: Any,
    x_T: Float[Tensor, "1 *latent"],
    y1: str,
    y2: str,
    steps: int,
    *,
    velocity_as_noise: bool = False,
) -> ReferenceResult:
    r"""Return one sample of the distance of two texts.

    Denoise $x_T$ with $y_1$ and, separately, with $y_2$. At every visited $(x_t, t)$ of both trajectories compute

    $$\lVert m(x_t, t \mid y_1) - m(x_t, t \mid y_2) \rVert^2$$

    with the same $x_t$ for both texts. Average over the steps of each trajectory; the distance is the sum of both.

    Args:
        predict: The denoiser with guidance.
        scheduler: A scheduler of diffusers, whose configuration is used.
        x_T: The initial noise, with unit variance.
        y1: The first text.
        y2: The second text.
        steps: The number of denoising steps T.
        velocity_as_noise: Whether to convert differences of the velocity, which the model predicts, to differences of the noise.
            These are $\alpha$ times those of the velocity.

    Returns:
        The sample. Its distance is the sum of `forward` and `backward`.
    """
    differences, final_latents = [], []
    for text in (y1, y2):
        sampler = type(scheduler).from_config(scheduler.config)
        sampler.set_timesteps(steps)
        x_t = x_T * sampler.init_noise_sigma
        along_trajectory = []
        for index, t in enumerate(sampler.timesteps):
            scaled = sampler.scale_model_input(x_t, t)
            difference = (predict(scaled, t, y1) - predict(scaled, t, y2)).double()
            if velocity_as_noise:
                difference = difference * _signal_scale(sampler, index)
            along_trajectory.append(float(difference.square().sum()))
            x_t = sampler.step(predict(scaled, t, text), t, x_t).prev_sample
        differences.append(along_trajectory)
        final_latents.append(x_t)
    forward, backward = differences
    return ReferenceResult(
        forward=sum(forward) / steps,
        backward=sum(backward) / steps,
        per_step=[(first + second) / steps for first, second in zip(forward, backward, strict=True)],
        final_latents=(final_latents[0], final_latents[1]),
    )


def _signal_scale(sampler: Any, index: int) -> float:
    r"""Return $\alpha$ of a variance-preserving process at step `index`. For fractional timesteps only `sigmas` defines it."""
    if hasattr(sampler, "sigmas"):
        return float((1 + sampler.sigmas[index].double() ** 2).rsqrt())
    return float(sampler.alphas_cumprod[int(sampler.timesteps[index])].double().sqrt())

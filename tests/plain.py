"""Algorithm 1 of Liu and Soatto (2026) written plainly: two trajectories, no seam, every score evaluated where it is needed.

Used as the independent reference of the engine, and as the loop that the benchmarks compare it with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Guided = Callable[[torch.Tensor, Any, str], torch.Tensor]  # scaled x_t, t, text -> guided output


@dataclass
class Plain:
    """forward, backward: mean over steps of the squared differences along either trajectory; per_step: both, (T,)."""

    forward: float
    backward: float
    per_step: list[float]
    finals: tuple[torch.Tensor, torch.Tensor]


@torch.no_grad()
def algorithm_1(
    guided: Guided, scheduler_like: Any, x_T: torch.Tensor, a: str, b: str, steps: int, noise_of_velocity: bool = False
) -> Plain:
    """One Monte-Carlo step: denoise x_T with a, and with b; compare both texts' outputs at every visited state of both.

    noise_of_velocity: the model predicts v, and differences of eps = alpha v + sigma x_t are asked for, hence alpha dv.
    """
    totals, finals = [], []
    for own in (a, b):
        scheduler = type(scheduler_like).from_config(scheduler_like.config)
        scheduler.set_timesteps(steps)
        x = x_T * scheduler.init_noise_sigma
        along = []
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t)
            difference = (guided(scaled, t, a) - guided(scaled, t, b)).double()
            if noise_of_velocity:
                difference = difference * scheduler.alphas_cumprod[int(t)].double().sqrt()
            along.append(float(difference.square().sum()))
            x = scheduler.step(guided(scaled, t, own), t, x).prev_sample
        totals.append(along)
        finals.append(x)
    per_step = [(there + back) / steps for there, back in zip(*totals, strict=True)]
    return Plain(sum(totals[0]) / steps, sum(totals[1]) / steps, per_step, (finals[0], finals[1]))


def guided_pixart(pipeline: Any, weight: float, limit: int) -> Guided:
    """Classifier-free guidance over a PixArt transformer, one text at a time."""

    def embed(text: str) -> tuple[torch.Tensor, torch.Tensor]:
        words = pipeline.tokenizer(text, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
        return pipeline.text_encoder(words.input_ids, attention_mask=words.attention_mask)[0], words.attention_mask.float()

    known: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def guided(x: torch.Tensor, t: Any, text: str) -> torch.Tensor:
        for one in ("", text):
            if one not in known:
                known[one] = embed(one)
        states, mask = (torch.cat(parts) for parts in zip(known[""], known[text], strict=True))
        both = pipeline.transformer(x.repeat(2, 1, 1, 1), encoder_hidden_states=states, encoder_attention_mask=mask,
                                    timestep=torch.as_tensor(t).expand(2)).sample  # fmt: skip
        return both[:1] + weight * (both[1:] - both[:1])

    return guided


def guided_unet(pipeline: Any, weight: float) -> Guided:
    """Classifier-free guidance over the UNet of Stable Diffusion, one text at a time."""

    known: dict[str, torch.Tensor] = {}

    def embed(text: str) -> torch.Tensor:
        if text not in known:
            limit = pipeline.tokenizer.model_max_length
            words = pipeline.tokenizer(text, padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
            known[text] = pipeline.text_encoder(words.input_ids.to(pipeline.device))[0]
        return known[text]

    def guided(x: torch.Tensor, t: Any, text: str) -> torch.Tensor:
        both = pipeline.unet(x.repeat(2, 1, 1, 1), t, encoder_hidden_states=torch.cat([embed(""), embed(text)])).sample
        return both[:1] + weight * (both[1:] - both[:1])

    return guided

"""Pipelines with a safety checker that makes every image black, and with an autoencoder that overflows in half precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


class BlackImages(torch.nn.Module):
    """A safety checker that finds a problem in every image."""

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, images: Any, clip_input: Any) -> tuple[Any, list[bool]]:
        """Return black images."""
        return images * 0, [True] * len(images)


def set_safety_checker(pipeline: Any) -> torch.nn.Module:
    """Add a safety checker that replaces every image by a black one, and return it."""
    pipeline.safety_checker = BlackImages().eval()
    pipeline.feature_extractor = lambda images, return_tensors: SimpleNamespace(to=lambda device: None)
    return pipeline.safety_checker


def overflow_in_bfloat16(autoencoder: Any, value: float = torch.nan) -> None:
    """Convert an autoencoder to bfloat16, in which it then returns images of `value`."""
    autoencoder.to(torch.bfloat16)
    decode = type(autoencoder).decode

    def overflow(self: Any, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.dtype == torch.float32:
            return decode(self, latents, *args, **kwargs)
        return (torch.full((len(latents), 3, 64, 64), value),)

    autoencoder.decode = overflow.__get__(autoencoder)

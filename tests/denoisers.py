"""The denoiser of a process, its noise, and the sizes of its batches, for tests of the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import conjure


def denoiser(process: conjure.Process) -> Any:
    """Return the network that predicts at every step."""
    return process.pipeline.components.get("unet") or process.pipeline.transformer


def initial_noise(process: conjure.Process, seed: int) -> torch.Tensor:
    """Return the noise that a trajectory with this seed starts from, shape (1, channels, size, size)."""
    config = denoiser(process).config
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def record_batch_sizes(process: conjure.Process, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Patch the denoiser to append the number of rows of each of its calls to the returned list.

    The check of the rows, which calls the denoiser twice more for each network, is left out.
    """
    monkeypatch.setattr("conjure.diffusion.deduplication.has_independent_rows", lambda *_: True)
    network, batch_sizes = denoiser(process), list[int]()
    forward = network.forward

    def recording_forward(*args: Any, **kwargs: Any) -> Any:
        batch_sizes.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", recording_forward)
    return batch_sizes

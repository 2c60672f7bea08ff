"""The path from `conjure.distance` to the denoiser stays short enough to read."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import conjure
from denoisers import denoiser

PACKAGE = Path(conjure.__file__).parent
MAX_FRAMES = 6


@pytest.mark.parametrize("scheduler", ["lms", "heun"])
def test_few_frames_between_distance_and_the_denoiser(tiny_sd, monkeypatch, scheduler):
    """Frames of other packages do not count, and neither do `distance` and the wrapper that accepts its old argument names."""
    process = conjure.load(tiny_sd, steps=2, guidance=2.0, scheduler=scheduler)
    network, stacks = denoiser(process), list[list[traceback.FrameSummary]]()
    forward = network.forward

    def recording_forward(*args, **kwargs):
        stacks.append(traceback.extract_stack())
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", recording_forward)
    monkeypatch.setattr("conjure.diffusion.deduplication.has_independent_rows", lambda *_: True)  # it calls the network too
    conjure.distance(process, "snow leopard", "bengal tiger", samples=1)
    assert len(stacks) == {"lms": 2, "heun": 3}[scheduler]
    for stack in stacks:
        package_frames = [frame for frame in stack if Path(frame.filename).is_relative_to(PACKAGE)]
        names = [f"{Path(frame.filename).stem}.{frame.name}" for frame in package_frames]
        between = names[names.index("pairwise.distance") + 1 :]
        assert 1 <= len(between) <= MAX_FRAMES, between
        assert "deprecation.accept_old_names" not in between

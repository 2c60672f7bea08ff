"""Offloading keeps weights elsewhere, and changes neither numbers nor the fingerprint."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion import loading, placement
from conjure.diffusion.placement import OFFLOADS, check_offload, place


def distance(process: conjure.Process) -> float:
    return conjure.distance(process, "sun", "moon", samples=1).distance


@pytest.mark.parametrize("offload", OFFLOADS)
def test_offloading_changes_no_number(tiny_sd, monkeypatch, offload):
    """The CPU takes the part of the GPU here."""
    plain = conjure.load(tiny_sd, steps=2, device="cpu")
    monkeypatch.setattr(loading, "check_offload", lambda *_: None)
    process = conjure.load(tiny_sd, steps=2, device="cpu", offload=offload)
    if offload != "sequential":  # accelerate cannot run it with the CPU as the device
        assert distance(process) == distance(plain)
    assert process.fingerprint() == plain.fingerprint()
    assert process.device.type == "cpu"
    assert process.settings() == plain.settings() | {"offload": offload, "device": process.settings()["device"]}
    weights = process.pipeline.unet.conv_in
    assert {"model": hasattr(process.pipeline.unet, "_hf_hook"), "sequential": weights.weight.device.type == "meta",
            "group": hasattr(weights, "_diffusers_hook")}[offload]  # fmt: skip


class RecordingPipeline:
    """A pipeline that records how it is placed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.calls.append((name, args or options))


@pytest.mark.parametrize(
    ("offload", "call"),
    [
        (None, ("to", ("cuda:1",))),
        ("model", ("enable_model_cpu_offload", {"device": "cuda:1"})),
        ("sequential", ("enable_sequential_cpu_offload", {"device": "cuda:1"})),
        ("group", ("enable_group_offload", {"onload_device": torch.device("cuda:1"), "offload_device": torch.device("cpu"),
                                            "offload_type": "leaf_level"})),
    ],
)  # fmt: skip
def test_the_device_that_computes(offload, call):
    pipeline = RecordingPipeline()
    place(pipeline, "cuda:1", offload)
    assert pipeline.calls == [call]


def test_other_offloading_is_refused(tiny_sd):
    check_offload("model", "cuda")
    for device in ("cpu", None) if not torch.cuda.is_available() else ("cpu",):
        with pytest.raises(InputError, match="^offload is 'model', but the device is the CPU; .*: leave it out$"):
            conjure.load(tiny_sd, device=device, offload="model")
    other: Any
    for other in ("all", 3, ["model"]):
        with pytest.raises(InputError, match="^offload is .*; must be one of model, sequential, group$"):
            conjure.load(tiny_sd, offload=other)


def test_the_best_device_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert placement.choose_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert placement.choose_device(None) == "cuda"
    assert placement.choose_device("cuda:1") == "cuda:1"

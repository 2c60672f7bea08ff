"""The device of a pipeline, and offloading of its weights. Neither changes a number."""

from __future__ import annotations

from typing import Any

import torch

from conjure.errors import InputError

OFFLOADS = ("model", "sequential", "group")


def choose_device(device: str | None) -> str:
    """Return a device, or the best available one for None.

    Raises:
        InputError: If the device is unknown or not available.
    """
    if device is None:
        return _best_device()
    try:
        device_type = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; must be cpu, cuda or mps") from error
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device_type, True):
        raise InputError(
            f"the device is {device!r}, but PyTorch finds no {device_type.upper()} device on this machine; give cpu, or leave it "
            "out for the best one available"
        )
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_offload(offload: Any, device: str) -> None:
    """Check the kind of offloading.

    Args:
        offload: One of `OFFLOADS`, or None.
        device: The device that computes.

    Raises:
        InputError: If the kind is unknown, or the device is the CPU, where all weights are anyway.
    """
    if offload is None:
        return
    if offload not in OFFLOADS:
        raise InputError(f"offload is {offload!r}; must be one of {', '.join(OFFLOADS)}")
    if torch.device(device).type == "cpu":
        raise InputError(
            f"offload is {offload!r}, but the device is the CPU; offloading keeps weights on the CPU while a GPU computes: leave "
            "it out"
        )


def place(pipeline: Any, device: str, offload: str | None) -> None:
    """Move a pipeline to a device, or keep its weights on the CPU until they are needed there.

    Args:
        pipeline: The pipeline, on the CPU.
        device: The device that computes.
        offload: `model` moves whole networks, `group` and `sequential` single layers; `sequential` is the slowest. None moves all
            weights at once.
    """
    match offload:
        case None:
            pipeline.to(device)
        case "model":
            pipeline.enable_model_cpu_offload(device=device)
        case "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        case "group":
            pipeline.enable_group_offload(
                onload_device=torch.device(device), offload_device=torch.device("cpu"), offload_type="leaf_level"
            )

"""Timing helpers of the benchmark scripts."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Return the wall time of one call of `work`, including the GPU kernels that it starts."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def format_ratios(ratios: Sequence[float], digits: int = 2) -> str:
    """Return the median of the ratios of all rounds, and their range."""
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(ratios), min(ratios), max(ratios)))
    return f"{median} ({low} to {high})"


def describe_machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}"


def describe_rounds(rounds: int) -> str:
    """Return how the measured implementations were timed."""
    return f"{rounds} round{'s' * (rounds != 1)}, the implementations alternate"

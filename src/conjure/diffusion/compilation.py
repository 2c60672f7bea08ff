"""Compilation of the denoiser with `torch.compile`, and the memory format of its weights. Both change numbers by rounding only.

A compiled network is fastest for the shapes that it was compiled for. `deduplication` therefore gives it the same number of rows
in every call, so that it is compiled once per Python process. The compiler keeps its results in a folder, from which later
processes read them.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

DENOISERS = ("unet", "transformer")  # the names of the components
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # of torch, whose default is a temporary folder
# The numbers in the latents of one call of a compiled network: 16 rows of Stable Diffusion
CALL_NUMBERS = 16 * 4 * 64 * 64
MIN_ROWS, MAX_ROWS = 8, 256

_automatic: weakref.WeakSet[Any] = weakref.WeakSet()  # pipelines that are compiled if a run is long


def denoisers(pipeline: Any) -> dict[str, Any]:
    """Return the denoisers of a pipeline by the names of the components."""
    return {name: part for name in DENOISERS if (part := getattr(pipeline, name, None)) is not None}


def optimize_denoiser(pipeline: Any, compile: bool | None, channels_last: bool) -> None:
    """Compile the denoiser of a pipeline, or store its weights in the memory format `channels_last`.

    Args:
        pipeline: The pipeline.
        compile: Whether to compile; None to leave it to `compile_for_long_run`.
        channels_last: Whether to change the memory format.
    """
    for part in denoisers(pipeline).values():
        if channels_last:
            part.to(memory_format=torch.channels_last)
    if compile:
        compile_denoiser(pipeline)
    elif compile is None:
        _automatic.add(pipeline)


def compile_denoiser(pipeline: Any) -> None:
    """Compile the denoiser of a pipeline for constant shapes: its repeated blocks, or the whole network if it declares none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "conjure" / "compiled"
    os.environ.setdefault(CACHE_VARIABLE, str(cache))
    for part in denoisers(pipeline).values():
        if getattr(part, "_repeated_blocks", None):
            part.compile_repeated_blocks(dynamic=False)  # compiles minutes faster than the whole network, and runs as fast
        else:
            part.forward = torch.compile(part.forward, dynamic=False)


def compile_for_long_run(pipeline: Any) -> bool:
    """Compile the denoiser of a pipeline unless `conjure.load` was given whether to compile it.

    Args:
        pipeline: The pipeline.

    Returns:
        Whether it was compiled.
    """
    if pipeline not in _automatic:
        return False
    _automatic.discard(pipeline)
    compile_denoiser(pipeline)
    return True


def is_compiled(network: torch.nn.Module) -> bool:
    """Return whether a network or a module inside it is compiled."""
    return hasattr(network.forward, "_torchdynamo_orig_callable") or any(
        getattr(module, "_compiled_call_impl", None) is not None for module in network.modules()
    )


def constant_rows(latents: Any, max_rows: int | None) -> int:
    """Return the number of rows in each call of a compiled network, which is filled up with copies of a row.

    Small latents have more rows, since few would not occupy the device. The number is constant, unless `max_rows` is smaller.

    Args:
        latents: The noisy latents of all rows: a tensor, or a list with one tensor per row.
        max_rows: The largest number of rows; None for no limit.
    """
    rows = min(max(MIN_ROWS, CALL_NUMBERS // max(1, latents[0].numel())), MAX_ROWS)
    return rows if max_rows is None else min(rows, max_rows)


@contextlib.contextmanager
def uncompiled(network: torch.nn.Module) -> Iterator[None]:
    """Context manager in which a compiled network runs as if it were not, so that other shapes are not compiled."""
    with torch.compiler.set_stance("force_eager") if is_compiled(network) else contextlib.nullcontext():
        yield

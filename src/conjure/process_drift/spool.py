"""Tensors in a temporary file, which is in memory until it is large."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

MAX_MEMORY = 2**30  # bytes; a larger file is on the disk


@dataclass(frozen=True)
class SpooledTensor:
    """The place of a tensor in a spool."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class TensorSpool:
    """A temporary file of tensors, to be closed. The trajectories of many texts need more memory than a model.

    Args:
        max_memory: The largest size in bytes that stays in memory.
    """

    def __init__(self, max_memory: int = MAX_MEMORY) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=max_memory)  # noqa: SIM115

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def write(self, tensor: Tensor) -> SpooledTensor:
        """Append a tensor, on any device, and return its place.

        Raises:
            OSError: If the disk is full.
        """
        tensor = tensor.detach().cpu().contiguous()
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return SpooledTensor(offset, tuple(tensor.shape), tensor.dtype)

    def read(self, place: SpooledTensor) -> Tensor:
        """Return a tensor on the CPU."""
        self._file.seek(place.offset)
        content = bytearray(self._file.read(prod(place.shape) * place.dtype.itemsize))
        return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)

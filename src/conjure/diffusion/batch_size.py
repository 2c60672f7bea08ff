"""The batch size of a device. It is adapted to the memory that the last batch used, and halved after an out-of-memory error.

Results do not depend on it. On a CPU, throughput does not grow beyond a certain size, so the size is fixed. On a CUDA GPU,
throughput grows until the memory is full: the first batch is small, and its memory use predicts the largest possible size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from conjure.errors import InputError

R = TypeVar("R")

CPU_BATCH = 48  # measured by benchmarks/many.py
INITIAL_BATCH, MAX_BATCH = 16, 1024
MEMORY_FRACTION = 0.8  # of the free memory, since allocators keep fragments and other programs may use the device too


def is_out_of_memory(error: Exception) -> bool:
    """Return whether `error` is an out-of-memory error of any device."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


class AdaptiveBatchSize:
    """The number of rows of the next batch.

    Args:
        device: The device that evaluates the rows.
        fixed: The number of rows; None for as many as fit on a CUDA GPU, and a default size on other devices.

    Attributes:
        size: The number of rows of the next batch.
        is_adaptive: Whether the number grows with the free memory.
    """

    def __init__(self, device: torch.device, fixed: int | None = None) -> None:
        self.device = device
        self.is_adaptive = fixed is None and device.type == "cuda"
        self.size = fixed or (CPU_BATCH if device.type == "cpu" else INITIAL_BATCH)
        self._reset_peak()

    def on_success(self, used: int) -> None:
        """Set the size of the next batch.

        Args:
            used: The number of rows of the batch that was run.
        """
        if not self.is_adaptive:
            return
        peak = torch.cuda.max_memory_allocated(self.device) - self._allocated_before
        free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - self._allocated_before
        # At most four times the size, since the memory use of a small batch predicts that of a large one only roughly
        self.size = max(1, min(int(MEMORY_FRACTION * free / max(peak / used, 1)), 4 * self.size, MAX_BATCH))
        self._reset_peak()

    def on_out_of_memory(self, error: Exception) -> bool:
        """Halve the size if `error` is an out-of-memory error.

        Returns:
            True if the size was halved and the batch must be run again; False for any other error.

        Raises:
            InputError: If a single row does not fit.
        """
        if not is_out_of_memory(error):
            return False
        clear_device_cache(garbage_collection=True)
        if self.size == 1:
            raise InputError(
                f"not even one row fits into the memory of {self.device}; use --dtype float16 or bfloat16, a smaller "
                "--height and --width, fewer --frames of a video or --seconds of a sound, or another --device"
            ) from error
        self.is_adaptive = False
        self.size //= 2
        return True

    def _reset_peak(self) -> None:
        if self.is_adaptive:
            torch.cuda.reset_peak_memory_stats(self.device)
            self._allocated_before = torch.cuda.memory_allocated(self.device)


def fixed_length_end(items: Any, start: int, size: int) -> int:
    """Return the index after the last item of the batch of `size` items that begins at `start`."""
    return min(start + size, len(items))


def map_batches(
    items: Any,
    batch_size: AdaptiveBatchSize,
    work: Callable[[Any, int], R],
    end: Callable[[Any, int, int], int] = fixed_length_end,
) -> Iterator[R]:
    """Apply `work` to all items, batch by batch, with smaller batches after an out-of-memory error.

    Args:
        items: A sequence or a tensor.
        batch_size: The size of the batches.
        work: Called with a batch and the index of its first item.
        end: Called with the items, the index of the first item of a batch and the current size. It returns the index after the
            last item of the batch.

    Yields:
        The result of `work` for each batch.
    """
    start = 0
    while start < len(items):
        stop = end(items, start, batch_size.size)
        try:
            result = work(items[start:stop], start)
        except Exception as error:
            if not batch_size.on_out_of_memory(error):
                raise
            continue
        start = stop
        yield result

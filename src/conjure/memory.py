"""How many rows a device takes at once: found by using it, halved when they do not fit. No number depends on it.

On the CPU more rows than fill its cores and caches gain nothing, so their number is fixed. An accelerator is the faster the
fuller it is: the first batch is small, and from what it took the next ones are made to fill the memory that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from conjure.errors import InputError

R = TypeVar("R")

ON_CPU = 48  # benchmarks/many.py
FIRST, MOST = 16, 1024
SHARE = 0.8  # of what is free: allocators keep pieces that are too small to use, and others use the device too


def out_of_memory(error: Exception) -> bool:
    """Whether `error` is any device's way to say that its memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def in_batches(rows: Rows, items: Any, work: Callable[[Any], R]) -> Iterator[R]:
    """What `work` makes of all `items`, a sequence or a tensor, as many in a call as `rows` says and the memory takes."""
    done = 0
    while done < len(items):
        part = items[done : done + rows.number]
        try:
            made = work(part)
        except Exception as error:
            if not rows.failed(error):
                raise
            continue
        done += len(part)
        yield made


class Rows:
    """The number of rows of the next batch on `device`: `fixed`, or as many as fit.

    number: rows of the next batch.
    """

    def __init__(self, device: torch.device, fixed: int | None = None) -> None:
        self.device = device
        self.grows = fixed is None and device.type == "cuda"
        self.number = fixed or (ON_CPU if device.type == "cpu" else FIRST)
        self._note()

    def fitted(self, used: int) -> None:
        """Say that a batch of `used` rows went through, from which the next number is found."""
        if not self.grows:
            return
        peak = torch.cuda.max_memory_allocated(self.device) - self._before
        free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - self._before
        # four times at most: one small batch tells little of what a large one needs
        self.number = max(1, min(int(SHARE * free / max(peak / used, 1)), 4 * self.number, MOST))
        self._note()

    def failed(self, error: Exception) -> bool:
        """Whether `error` says that the last batch did not fit, and a smaller one is to be tried; False for any other error.

        Errors: `InputError` where not even one row fits.
        """
        if not out_of_memory(error):
            return False
        clear_device_cache(garbage_collection=True)
        if self.number == 1:
            raise InputError(
                f"not even one row fits into the memory of {self.device}; use --dtype float16 or bfloat16, a smaller picture, or "
                "another --device"
            ) from error
        self.grows = False
        self.number //= 2
        return True

    def _note(self) -> None:
        if self.grows:
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)

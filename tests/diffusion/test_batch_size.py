"""How the number of rows of a batch follows the memory of an accelerator."""

from __future__ import annotations

import torch

from conjure.diffusion.batch_size import MAX_BATCH, AdaptiveBatchSize

GIGABYTE = 10**9


def test_batches_grow_to_fill_an_accelerator(monkeypatch):
    """The arithmetic for values that a GPU might report: 10 GB of weights, 90 GB free, 1 GB per row."""
    peak = [0]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peak[0])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10 * GIGABYTE)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30 * GIGABYTE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70 * GIGABYTE, 100 * GIGABYTE))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    batch_size = AdaptiveBatchSize(torch.device("cuda"))
    peak[0] = 10 * GIGABYTE + batch_size.size * GIGABYTE
    batch_size.on_success(batch_size.size)
    assert batch_size.size == 64  # four times as many; 72 would fill 0.8 of the 90 GB
    peak[0] = 10 * GIGABYTE + batch_size.size * GIGABYTE
    batch_size.on_success(batch_size.size)
    assert batch_size.size == 72
    peak[0] = 10 * GIGABYTE + 1
    for _ in range(5):
        batch_size.on_success(batch_size.size)
    assert batch_size.size == MAX_BATCH
    assert batch_size.on_out_of_memory(torch.OutOfMemoryError())
    batch_size.on_success(batch_size.size)
    assert batch_size.size == MAX_BATCH // 2  # a size that did not fit is not tried again
    assert not batch_size.on_out_of_memory(ValueError("another error"))
    fixed = AdaptiveBatchSize(torch.device("cuda"), 5)
    fixed.on_success(5)
    assert fixed.size == 5

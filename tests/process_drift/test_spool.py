"""Tensors in a temporary file."""

from __future__ import annotations

from contextlib import closing

import torch

from conjure.process_drift.spool import TensorSpool


def test_tensors_are_read_as_they_were_written():
    tensors = [torch.randn(3), torch.randn(2, 5, 7).to(torch.bfloat16), torch.randn(4, 4).T]
    with closing(TensorSpool(max_memory=100)) as spool:  # the second tensor moves the file to the disk
        places = [spool.write(tensor) for tensor in tensors]
        for place, tensor in reversed(list(zip(places, tensors, strict=True))):
            assert torch.equal(spool.read(place), tensor)
            assert spool.read(place).dtype == tensor.dtype

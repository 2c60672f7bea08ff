"""The precision in which PyTorch computes float32 products, a setting of the Python process that changes results."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import torch

# Attributes of torch.backends, and their values when PyTorch starts. "none" means not set, and computes as "ieee"
INITIAL_PRECISIONS = {"cuda.matmul": "none", "cudnn.conv": "tf32", "mkldnn.matmul": "none", "mkldnn.conv": "none"}
EQUIVALENT = {"none": "ieee"}


def changed_float32_precisions() -> dict[str, str]:
    """Return the precisions of float32 products that are not those with which PyTorch starts, by backend.

    `torch.set_float32_matmul_precision` and the flags `allow_tf32` set them too.
    """
    changed = {}
    for backend, initial in INITIAL_PRECISIONS.items():
        precision = attrgetter(backend)(torch.backends).fp32_precision
        if EQUIVALENT.get(precision, precision) != EQUIVALENT.get(initial, initial):
            changed[backend] = precision
    return changed


def set_float32_precisions(changed: Mapping[str, str]) -> None:
    """Set the precisions of float32 products to those of another Python process, in which they are `changed`."""
    for backend, initial in INITIAL_PRECISIONS.items():
        attrgetter(backend)(torch.backends).fp32_precision = changed.get(backend, initial)

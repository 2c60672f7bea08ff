"""Negated noise for rows with a negative seed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def negate_noise(generators: Sequence[torch.Generator], seeds: Sequence[int]) -> contextlib.AbstractContextManager[Any]:
    """Context manager in which normal noise from the generators of negative seeds has the opposite sign.

    Args:
        generators: One generator per row.
        seeds: One seed per row.
    """
    negated = [generator for generator, seed in zip(generators, seeds, strict=True) if seed < 0]
    return _NegatedNoiseMode(negated) if negated else contextlib.nullcontext()


class _NegatedNoiseMode(TorchFunctionMode):
    """Negates the result of every `torch.randn` that draws from one of the given generators."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generator_ids = {id(generator) for generator in generators}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        return -result if function is torch.randn and id(kwargs.get("generator")) in self.generator_ids else result

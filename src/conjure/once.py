"""Rows that a batch repeats are evaluated once.

Rows of one trajectory share x_t, and under classifier-free guidance they share the unconditional half as well: of the eight
denoiser rows that a pair puts into a batch (two directions, two texts, with and without text) six are different. Text encoders
see the same few texts in every row. No rule per family is needed: rows that are equal in every input have equal outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextlib.contextmanager
def rows_once(module: torch.nn.Module) -> Iterator[None]:
    """While it lasts, `module.forward` runs on the distinct rows of its input only and repeats their outputs."""
    forward, patched = module.forward, "forward" in vars(module)  # as hooks of accelerate patch it

    def once(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim]
        rows = len(tensors[0]) if tensors else 0
        batched = [tensor for tensor in tensors if len(tensor) == rows]
        found = distinct_rows(batched) if rows > 1 else None
        if found is None:
            return forward(*args, **kwargs)
        kept, source = found
        picked = [leaf[kept] if any(leaf is tensor for tensor in batched) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(picked, spec)
        return pytree.tree_map(
            lambda out: out[source] if isinstance(out, torch.Tensor) and out.ndim and len(out) == len(kept) else out,
            forward(*args, **kwargs),
        )

    module.forward = once  # type: ignore[method-assign]
    try:
        yield
    finally:
        if patched:
            module.forward = forward  # type: ignore[method-assign]
        else:
            del module.forward  # the class' own shows again


def distinct_rows(tensors: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The rows that differ: `kept` are their numbers, and row i of the whole is row `source[i]` of the kept.

    None where all rows differ. Rows are told apart by a hash of their bits, and those it calls equal are compared whole.
    """
    rows, device = len(tensors[0]), tensors[0].device
    flat = [tensor.reshape(rows, -1) for tensor in tensors]
    marks = []
    for part in flat:
        # whole numbers, since a sum of floats may depend on where in the batch its row stands
        bits = part.view(BITS[part.element_size()]) if part.is_floating_point() else part
        factors = torch.randint(2**62, (part.shape[1],), generator=torch.Generator().manual_seed(0)).to(device)
        marks.append((bits.long() * factors).sum(1))
    groups: dict[tuple[int, ...], int] = {}
    kept: list[int] = []
    source: list[int] = []
    first: list[int] = []
    for row, mark in enumerate(torch.stack(marks, 1).tolist()):
        at = groups.setdefault(tuple(mark), len(kept))
        if at == len(kept):
            kept.append(row)
        source.append(at)
        first.append(kept[at])
    if len(kept) == rows:
        return None
    stand_in = torch.tensor(first, device=device)
    if not all(torch.equal(part, part[stand_in]) for part in flat):
        return None
    return torch.tensor(kept, device=device), torch.tensor(source, device=device)

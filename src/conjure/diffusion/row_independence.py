"""Whether the output of a network for a row depends on that row only: the condition for merging equal rows and for chunks.

Perturbed-attention guidance divides the batch by position: the last third of the rows has other attention layers, although its
inputs are those of the second third. Other networks may depend on the number of rows. Such networks of known packages treat the
rows of different texts alike, so that the pipeline's own batches are correct. Code that was added to a network, such as a hook,
may mix the rows of different texts, keep a state between calls, or begin at a later step. Then each row runs alone.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from conjure.diffusion.batch_size import is_out_of_memory
from conjure.diffusion.batched_call import BatchedCall, is_tensor_list
from conjure.diffusion.compilation import uncompiled
from conjure.diffusion.module_state import NetworkDescriber, describe_global_hooks, describe_network
from conjure.diffusion.weights import num_edits

# The largest error relative to the root mean square of the output: torch sums in another order if the number of rows differs
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
TOLERANCE_FLOAT32 = 2e-3
# Equal rows of one batch pass through the same operations, so that their tolerance is a fraction of that
FRACTION_IN_BATCH = 0.1

MAX_HASHED_BYTES = 2**20  # of tensors that are attributes, since the behaviour is described before every run


@dataclass
class _Verdicts:
    """Whether the rows of a network are independent, by its attention processors, which a pipeline may replace during a call.

    Attributes:
        behavior: The behaviour of the network, for which the verdicts were found. None: verdicts are not kept.
        by_processors: The verdicts.
    """

    behavior: str | None
    by_processors: dict[Any, bool] = field(default_factory=dict)


_verdicts: weakref.WeakKeyDictionary[torch.nn.Module, _Verdicts] = weakref.WeakKeyDictionary()


def has_added_code(module: torch.nn.Module) -> bool:
    """Return whether a network has hooks, attention processors or replaced functions that are not part of a known package.

    The answer is found while no method of the network is patched.
    """
    network = getattr(module, "_orig_mod", module)  # of torch.compile
    describer = NetworkDescriber({"network": network}, MAX_HASHED_BYTES)
    describe_network(network, "network", describer)
    describe_global_hooks(describer)
    return describer.has_added_code


def prepare_verdicts(module: torch.nn.Module) -> None:
    """Remove the verdict about `module` if its behaviour has changed since: hooks, adapters, methods, attributes or weights.

    To be called before a run, while no method of the network is patched.
    """
    network = getattr(module, "_orig_mod", module)  # of torch.compile
    describer = NetworkDescriber({"network": network}, MAX_HASHED_BYTES)
    description = [describe_network(network, "network", describer), describe_global_hooks(describer)]
    edits = [num_edits(weight) for weight in (*network.parameters(), *network.buffers())]
    behavior = None if describer.unknown else json.dumps([description, edits], default=str)
    if module not in _verdicts or behavior is None or _verdicts[module].behavior != behavior:
        _verdicts[module] = _Verdicts(behavior)


def has_independent_rows(module: torch.nn.Module, forward: Callable[..., Any], call: BatchedCall) -> bool:
    """Return whether `forward` treats rows independently of their position and number.

    The first call of a network with given behaviour and attention processors compares the rows r, s, r of `call` with the rows
    r, s. The result is kept for later calls.

    Args:
        module: The network, after `prepare_verdicts`.
        forward: Its forward method.
        call: The arguments of a call with at least 2 rows.
    """
    verdicts = _verdicts[module].by_processors
    key = frozenset(type(part.processor).__qualname__ for part in module.modules() if hasattr(part, "processor"))
    if key not in verdicts:
        with uncompiled(module):
            verdicts[key] = _compare_rows(forward, call)
    return verdicts[key]


def runs_whole_batches(module: torch.nn.Module) -> bool:
    """Return whether the rows of `module` were found to depend on their position or number, with any attention processors."""
    return module in _verdicts and not all(_verdicts[module].by_processors.values())


def _compare_rows(forward: Callable[..., Any], call: BatchedCall) -> bool:
    first, last = 0, call.num_rows - 1
    try:
        plain, deduplicated = (_rows_of(_run(forward, call, rows), len(rows)) for rows in ([first, last, first], [first, last]))
    except Exception as error:  # a network that cannot divide these rows raises errors of any type
        if is_out_of_memory(error):
            raise
        return False
    return all(
        _agree(a[0], a[2], FRACTION_IN_BATCH) and _agree(a[0], b[0], 1) and _agree(a[1], b[1], 1)
        for a, b in zip(plain, deduplicated, strict=True)
    )


def _run(forward: Callable[..., Any], call: BatchedCall, rows: list[int]) -> Any:
    args, kwargs = call.select(rows)
    return forward(*args, **kwargs)


def _rows_of(output: Any, num_rows: int) -> list[Any]:
    """Return the leaves of `output` with one entry per row."""
    leaves = pytree.tree_leaves(output, is_leaf=is_tensor_list)
    return [
        leaf
        for leaf in leaves
        if (is_tensor_list(leaf) or (isinstance(leaf, torch.Tensor) and leaf.ndim > 0)) and len(leaf) == num_rows
    ]


def _agree(a: torch.Tensor, b: torch.Tensor, fraction: float) -> bool:
    a64, b64 = a.double(), b.double()
    if not (a64.isfinite().all() and b64.isfinite().all()):
        return True  # errors about values that are not finite are raised elsewhere
    error, size = (float(values.square().mean().sqrt()) for values in (a64 - b64, b64))
    return error <= fraction * TOLERANCE.get(a.dtype, TOLERANCE_FLOAT32) * size

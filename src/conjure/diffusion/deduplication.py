"""Equal rows of a batch are evaluated once, and texts that were encoded before are not encoded again.

Rows of one trajectory share x_t, and under classifier-free guidance also the row without text. A pair has eight denoiser rows:
two directions, two texts, each with and without guidance text. Six of them are distinct. Text encoders receive the same few texts
in every batch. Since rows with equal inputs have equal outputs, no code per model family is needed.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from conjure.diffusion.batched_call import BatchedCall, concatenate_outputs
from conjure.diffusion.compilation import constant_rows, is_compiled
from conjure.diffusion.memoization import StaticInputCache
from conjure.diffusion.patching import patched_forward
from conjure.diffusion.row_independence import has_independent_rows, prepare_verdicts

# By the id of an input: its tensors (kept alive, so that the id is not reused), their versions, and the index of the first equal
# row for each row
SeenInputs = dict[int, tuple[list[torch.Tensor], list[float], list[int]]]

INT_VIEW_DTYPES = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextlib.contextmanager
def deduplicate_rows(module: torch.nn.Module, max_rows: int | None = None) -> Iterator[None]:
    """Context manager in which `module` evaluates only the distinct rows of its input and repeats their outputs.

    Modules inside it compute outputs for unchanged inputs once (see `conjure.diffusion.memoization`). A network whose output for
    a row depends on the position or the number of rows receives every batch as it is (see `conjure.diffusion.row_independence`).
    A compiled network receives the same number of rows in every call (see `conjure.diffusion.compilation`).

    Args:
        module: The denoiser.
        max_rows: The largest number of rows in one call of the denoiser; None for no limit.
    """
    prepare_verdicts(module)
    forward = module.forward
    has_constant_rows = is_compiled(module)
    seen_inputs: SeenInputs = {}  # of the last call, since texts stay the same from step to step
    static_inputs = StaticInputCache()

    @functools.wraps(forward)  # Modular pipelines read the signature to find out what to pass
    def deduplicated_forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen_inputs
        call = BatchedCall.from_call(args, kwargs)
        if call.num_rows < 2:
            return forward(*args, **kwargs)
        inputs = {id(leaf): (_tensors(leaf), _versions(leaf), _first_duplicates(leaf, seen_inputs)) for leaf in call.batched}
        latents, *other_inputs = call.batched
        # Register inputs that were passed in the last call too. In the first call all inputs count, except the noisy latents and
        # 1-d tensors such as timesteps.
        for leaf in other_inputs:
            if id(leaf) in seen_inputs or not (seen_inputs or leaf is latents or getattr(leaf, "ndim", 1) == 1):
                static_inputs.register(leaf)
        seen_inputs = inputs
        groups: dict[tuple[int, ...], int] = {}
        distinct: list[int] = []
        source: list[int] = []
        for row, labels in enumerate(zip(*(labels for _, _, labels in inputs.values()), strict=True)):
            index = groups.setdefault(labels, len(distinct))
            if index == len(distinct):
                distinct.append(row)
            source.append(index)
        if has_constant_rows:
            chunks = _filled_chunks(distinct, constant_rows(latents, max_rows))
        else:
            num_chunks = -(-len(distinct) // max_rows) if max_rows else 1
            chunks = [
                distinct[len(distinct) * i // num_chunks : len(distinct) * (i + 1) // num_chunks] for i in range(num_chunks)
            ]
        if chunks == [list(range(call.num_rows))] or not has_independent_rows(module, forward, call):
            return forward(*args, **kwargs)
        outputs = []
        for chunk in chunks:
            args, kwargs = call.select(chunk, static_inputs)
            outputs.append(forward(*args, **kwargs))
        return concatenate_outputs(outputs, [len(chunk) for chunk in chunks], source)

    with static_inputs.memoized(module), patched_forward(module, deduplicated_forward):
        yield


def _filled_chunks(rows: list[int], size: int) -> list[list[int]]:
    """Return chunks of `size` rows. The last one is filled up with copies of its last row, whose outputs nothing reads."""
    filled = rows + rows[-1:] * (-len(rows) % size)
    return [filled[start : start + size] for start in range(0, len(filled), size)]


class TextEmbeddingCache:
    """A cache of the outputs of text encoders by text. The least recently used outputs are removed first.

    Args:
        max_bytes: The largest total size of the outputs.
    """

    def __init__(self, max_bytes: int = 2**29) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self.entries: OrderedDict[Any, Any] = OrderedDict()

    def clear(self) -> None:
        """Remove all entries, after the text encoders have changed."""
        self.entries.clear()
        self.size = 0

    def cached_encoder(self, module: torch.nn.Module, name: str) -> contextlib.AbstractContextManager[None]:
        """Context manager in which `module` encodes only texts that are not in the cache.

        Each text is encoded by itself, so that its embedding does not depend on the other texts of a batch.

        Args:
            module: A text encoder.
            name: Its name in the pipeline.
        """
        forward = module.forward

        def cached_forward(*args: Any, **kwargs: Any) -> Any:
            call = BatchedCall.from_call(args, kwargs)
            if not call.num_rows:
                return forward(*args, **kwargs)
            outputs = []
            for row in range(call.num_rows):
                key = (name, *call.row_key(row))
                if key not in self.entries:
                    args, kwargs = call.select([row])
                    self.entries[key] = forward(*args, **kwargs)
                    self.size += _num_bytes(self.entries[key])
                self.entries.move_to_end(key)
                outputs.append(self.entries[key])
            while self.size > self.max_bytes and len(self.entries) > 1:
                self.size -= _num_bytes(self.entries.popitem(last=False)[1])
            return concatenate_outputs(outputs, [1] * call.num_rows, range(call.num_rows))

        return patched_forward(module, cached_forward)


def _tensors(leaf: Any) -> list[torch.Tensor]:
    return list(leaf) if isinstance(leaf, list) else [leaf]


def _versions(leaf: Any) -> list[float]:
    """Return the counts of in-place edits. NaN (unequal to itself) stands for tensors whose edits torch does not count."""
    return [math.nan if tensor.is_inference() else tensor._version for tensor in _tensors(leaf)]


def _num_bytes(output: Any) -> int:
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))


def _first_duplicates(rows: Any, seen_inputs: SeenInputs) -> list[int]:
    """Return the index of the first equal row, for each row.

    If `rows` is an unchanged input of the last call, the indices are read from `seen_inputs`.
    """
    tensors, versions, first = seen_inputs.get(id(rows), ([], [], []))
    is_same = len(tensors) == len(_tensors(rows)) and all(a is b for a, b in zip(tensors, _tensors(rows), strict=True))
    if is_same and all(a == b for a, b in zip(versions, _versions(rows), strict=True)):
        return first
    if isinstance(rows, list):
        hashes = torch.stack([_row_hashes(row[None])[0] for row in rows]).tolist()
        keys = [(row_hash, row.shape) for row_hash, row in zip(hashes, rows, strict=True)]
    else:
        keys = _row_hashes(rows).tolist()
    first_index: dict[Any, int] = {}
    first = [first_index.setdefault(key, row) for row, key in enumerate(keys)]
    # Compare rows with equal hashes completely, since different rows may have equal hashes
    if isinstance(rows, list):
        is_equal = all(torch.equal(rows[row], rows[twin]) for row, twin in enumerate(first) if row != twin)
    else:
        is_equal = len(first_index) == len(first) or torch.equal(rows, rows[torch.tensor(first, device=rows.device)])
    return first if is_equal else list(range(len(first)))


def _row_hashes(rows: torch.Tensor) -> torch.Tensor:
    """Return a hash of the bits of each row, shape (rows,): a sum of integers, since a sum of floats may depend on the order."""
    flat = rows.reshape(len(rows), -1)
    bits = flat.view(INT_VIEW_DTYPES[flat.element_size()]) if flat.is_floating_point() else flat
    return (bits.long() * _hash_multipliers(flat.shape[1], flat.device)).sum(1)


@functools.lru_cache(maxsize=8)
def _hash_multipliers(width: int, device: torch.device) -> torch.Tensor:
    return torch.randint(2**62, (width,), generator=torch.Generator().manual_seed(0)).to(device)

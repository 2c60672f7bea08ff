"""Nothing is evaluated twice: rows that a batch repeats, texts that were encoded before, what is made of texts alone (`steady`).

Rows of one trajectory share x_t, and under classifier-free guidance they share the unconditional half as well: of the eight
denoiser rows that a pair puts into a batch (two directions, two texts, with and without text) six are different. Text encoders
see the same few texts in every batch. No rule per family is needed: rows that are equal in every input have equal outputs.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from conjure.steady import Steady, replaced

# by id of an input: its tensors, held so that no id comes again, their versions, and for each row the first that equals it
Known = dict[int, tuple[list[torch.Tensor], list[float], list[int]]]

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# Positions in the picture or the text, the same for all rows; their number may happen to be that of the rows.
NOT_ROWS = ("txt_ids", "img_ids", "image_rotary_emb", "freqs_cis")


@contextlib.contextmanager
def rows_once(module: torch.nn.Module, at_most: int | None = None) -> Iterator[None]:
    """While it lasts, `module` evaluates the distinct rows of its input only, `at_most` in a call, and repeats their outputs.

    What its parts make of inputs that stay the same from call to call is evaluated once (`conjure.steady`).
    """
    forward = module.forward
    known: Known = {}  # of the last call: texts stay the same over the steps
    steady = Steady()

    @functools.wraps(forward)  # Modular pipelines read the signature to find out what to hand over
    def once(*args: Any, **kwargs: Any) -> Any:
        nonlocal known
        call = Call.of(args, kwargs)
        if call.rows < 2:
            return forward(*args, **kwargs)
        seen = {id(leaf): (_items(leaf), _versions(leaf), _first_equal(leaf, known)) for leaf in call.batched}
        noisy, *others = call.batched
        # whatever comes again; in the first call, all but the noisy pictures and their timesteps may turn out to
        for leaf in others:
            if id(leaf) in known or not (known or leaf is noisy or getattr(leaf, "ndim", 1) == 1):
                steady.mark(leaf)
        known = seen
        groups: dict[tuple[int, ...], int] = {}
        kept: list[int] = []
        source: list[int] = []
        for row, labels in enumerate(zip(*(labels for _, _, labels in seen.values()), strict=True)):
            at = groups.setdefault(labels, len(kept))
            if at == len(kept):
                kept.append(row)
            source.append(at)
        pieces = -(-len(kept) // at_most) if at_most else 1
        if len(kept) == call.rows and pieces == 1:
            return forward(*args, **kwargs)
        chunks = [kept[len(kept) * i // pieces : len(kept) * (i + 1) // pieces] for i in range(pieces)]
        outputs = []
        for chunk in chunks:
            args, kwargs = call.pick(chunk, steady)
            outputs.append(forward(*args, **kwargs))
        return joined(outputs, [len(chunk) for chunk in chunks], source)

    with steady.remembered(module), replaced(module, once):
        yield


class Encoded:
    """What text encoders made of texts, to be used again; the least recently used is forgotten beyond `limit` bytes."""

    def __init__(self, limit: int = 2**29) -> None:
        self.limit = limit
        self.size = 0
        self.rows: OrderedDict[Any, Any] = OrderedDict()

    def texts_once(self, module: torch.nn.Module, name: str) -> contextlib.AbstractContextManager[None]:
        """While it lasts, `module` encodes texts that are not known yet, each alone, so that no text depends on its company."""
        forward = module.forward

        def once(*args: Any, **kwargs: Any) -> Any:
            call = Call.of(args, kwargs)
            if not call.rows:
                return forward(*args, **kwargs)
            answers = []
            for row in range(call.rows):
                key = (name, *call.key(row))
                if key not in self.rows:
                    args, kwargs = call.pick([row])
                    self.rows[key] = forward(*args, **kwargs)
                    self.size += _bytes(self.rows[key])
                self.rows.move_to_end(key)
                answers.append(self.rows[key])
            while self.size > self.limit and len(self.rows) > 1:
                self.size -= _bytes(self.rows.popitem(last=False)[1])
            return joined(answers, [1] * call.rows, range(call.rows))

        return replaced(module, once)


@dataclass(frozen=True)
class Call:
    """A call of a network, taken apart into rows: what has one entry a row is a tensor, or a list of tensors."""

    leaves: list[Any]
    spec: Any
    is_batched: list[bool]
    rows: int

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The first tensor, or list of tensors, tells how many rows there are; 0 where there is none."""
        pairs, spec = pytree.tree_flatten_with_path((args, kwargs), is_leaf=_is_list)
        leaves = [leaf for _, leaf in pairs]
        lengths = [
            len(leaf)
            if (_is_list(leaf) or (isinstance(leaf, torch.Tensor) and leaf.ndim))
            and not any(getattr(key, "key", None) in NOT_ROWS for key in path)
            else -1
            for path, leaf in pairs
        ]
        rows = next((length for length in lengths if length > 0), 0)
        return cls(leaves, spec, [length == rows for length in lengths], rows)

    @property
    def batched(self) -> list[Any]:
        return [leaf for leaf, batched in zip(self.leaves, self.is_batched, strict=True) if batched]

    def pick(self, rows: Sequence[int], steady: Steady | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call for these `rows` alone; those that `steady` knows are the same ones each time."""
        steady = steady or Steady()

        def of(leaf: Any) -> Any:
            return [leaf[row] for row in rows] if isinstance(leaf, list) else steady.pick(leaf, rows)

        picked = [of(leaf) if batched else leaf for leaf, batched in zip(self.leaves, self.is_batched, strict=True)]
        return pytree.tree_unflatten(picked, self.spec)

    def key(self, row: int) -> tuple[Any, ...]:
        """All that the answer for this row depends on."""
        return (
            str(self.spec),
            *(_content(leaf[row] if batched else leaf) for leaf, batched in zip(self.leaves, self.is_batched, strict=True)),
        )


def joined(outputs: Sequence[Any], rows: Sequence[int], source: Sequence[int]) -> Any:
    """One output of all rows from those of pieces with `rows` rows each; row i of it is row `source[i]` of theirs in a row."""
    flat = [pytree.tree_flatten(output, is_leaf=_is_list) for output in outputs]
    leaves = []
    for parts in zip(*(leaves for leaves, _ in flat), strict=True):
        lengths = [len(part) if _is_list(part) or (isinstance(part, torch.Tensor) and part.ndim) else -1 for part in parts]
        if lengths != list(rows):
            leaves.append(parts[0])
        elif _is_list(parts[0]):
            items = [item for part in parts for item in part]
            leaves.append([items[i] for i in source])
        else:
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
            leaves.append(tensor[torch.tensor(source, device=tensor.device)])
    return pytree.tree_unflatten(leaves, flat[0][1])


def _is_list(leaf: Any) -> bool:
    return isinstance(leaf, list) and bool(leaf) and all(isinstance(item, torch.Tensor) for item in leaf)


def _items(leaf: Any) -> list[torch.Tensor]:
    return list(leaf) if isinstance(leaf, list) else [leaf]


def _versions(leaf: Any) -> list[float]:
    """Counts of edits in place; equal to nothing where torch does not count them."""
    return [math.nan if item.is_inference() else item._version for item in _items(leaf)]


def _content(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return tuple(_content(item) for item in leaf) if _is_list(leaf) else repr(leaf)


def _bytes(output: Any) -> int:
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))


def _first_equal(rows: Any, known: Known) -> list[int]:
    """For each row the number of the first row that equals it, from `known` if these are the rows of the last call."""
    items, versions, first = known.get(id(rows), ([], [], []))
    same = len(items) == len(_items(rows)) and all(one is other for one, other in zip(items, _items(rows), strict=True))
    if same and all(one == other for one, other in zip(versions, _versions(rows), strict=True)):
        return first
    if isinstance(rows, list):
        marks = torch.stack([_marks(row[None])[0] for row in rows]).tolist()
        keys = [(mark, row.shape) for mark, row in zip(marks, rows, strict=True)]
    else:
        keys = _marks(rows).tolist()
    at: dict[Any, int] = {}
    first = [at.setdefault(key, row) for row, key in enumerate(keys)]
    # rows with equal marks are compared whole, so that no collision can pass
    if isinstance(rows, list):
        equal = all(torch.equal(rows[row], rows[twin]) for row, twin in enumerate(first) if row != twin)
    else:
        equal = len(at) == len(first) or torch.equal(rows, rows[torch.tensor(first, device=rows.device)])
    return first if equal else list(range(len(first)))


def _marks(rows: torch.Tensor) -> torch.Tensor:
    """A hash of the bits of each row, shape (rows,): whole numbers, since a sum of floats may depend on where its row stands."""
    flat = rows.reshape(len(rows), -1)
    bits = flat.view(BITS[flat.element_size()]) if flat.is_floating_point() else flat
    return (bits.long() * _factors(flat.shape[1], flat.device)).sum(1)


@functools.lru_cache(maxsize=8)
def _factors(width: int, device: torch.device) -> torch.Tensor:
    return torch.randint(2**62, (width,), generator=torch.Generator().manual_seed(0)).to(device)

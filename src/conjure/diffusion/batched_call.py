"""The arguments and outputs of a network: selection of rows, and concatenation of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from conjure.diffusion.memoization import StaticInputCache

# Positions in the image or in the text. They are the same for all rows, but their number may equal the number of rows.
UNBATCHED_ARGUMENTS = ("txt_ids", "img_ids", "image_rotary_emb", "rotary_embedding", "freqs_cis")


@dataclass(frozen=True)
class BatchedCall:
    """The arguments of a call of a network, divided into those with one entry per row and others.

    Attributes:
        leaves: All arguments, with nested containers flattened. A list of tensors is one leaf.
        spec: The structure of the arguments, in the format of torch's pytree.
        is_batched: Whether a leaf has one entry per row, for each leaf.
        num_rows: The number of rows, 0 if no argument has rows.
    """

    leaves: list[Any]
    spec: Any
    is_batched: list[bool]
    num_rows: int

    @classmethod
    def from_call(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BatchedCall:
        """Return the call with these arguments.

        The first tensor or list of tensors that is not one of `UNBATCHED_ARGUMENTS` defines the number of rows.
        """
        pairs, spec = pytree.tree_flatten_with_path((args, kwargs), is_leaf=is_tensor_list)
        leaves = [leaf for _, leaf in pairs]
        lengths = [
            len(leaf)
            if (is_tensor_list(leaf) or (isinstance(leaf, torch.Tensor) and leaf.ndim))
            and not any(getattr(key, "key", None) in UNBATCHED_ARGUMENTS for key in path)
            else -1
            for path, leaf in pairs
        ]
        num_rows = next((length for length in lengths if length > 0), 0)
        return cls(leaves, spec, [length == num_rows for length in lengths], num_rows)

    @property
    def batched(self) -> list[Any]:
        """The leaves with one entry per row."""
        return [leaf for leaf, batched in zip(self.leaves, self.is_batched, strict=True) if batched]

    def select(
        self, rows: Sequence[int], static_inputs: StaticInputCache | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for a call with these rows only.

        Args:
            rows: The indices of the rows.
            static_inputs: For the static inputs in this cache, the returned tensors are the same objects in every call.
        """
        cache = static_inputs or StaticInputCache()

        def gather(leaf: Any) -> Any:
            return [leaf[row] for row in rows] if isinstance(leaf, list) else cache.gather(leaf, rows)

        selected = [gather(leaf) if batched else leaf for leaf, batched in zip(self.leaves, self.is_batched, strict=True)]
        return pytree.tree_unflatten(selected, self.spec)

    def row_key(self, row: int) -> tuple[Any, ...]:
        """Return a key of all inputs on which the output for this row depends."""
        return (
            str(self.spec),
            *(_content(leaf[row] if batched else leaf) for leaf, batched in zip(self.leaves, self.is_batched, strict=True)),
        )


def concatenate_outputs(outputs: Sequence[Any], num_rows: Sequence[int], source: Sequence[int]) -> Any:
    """Return one output for all rows from the outputs of several calls.

    Args:
        outputs: The outputs of the calls.
        num_rows: The number of rows of each call.
        source: For each row of the result, the index of its row in the concatenated calls.

    Returns:
        An output of the same structure. Leaves without one entry per row are those of the first call.
    """
    flat = [pytree.tree_flatten(output, is_leaf=is_tensor_list) for output in outputs]
    leaves = []
    for parts in zip(*(leaves for leaves, _ in flat), strict=True):
        lengths = [len(part) if is_tensor_list(part) or (isinstance(part, torch.Tensor) and part.ndim) else -1 for part in parts]
        if lengths != list(num_rows):
            leaves.append(parts[0])
        elif is_tensor_list(parts[0]):
            items = [item for part in parts for item in part]
            leaves.append([items[i] for i in source])
        else:
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
            leaves.append(tensor[torch.tensor(source, device=tensor.device)])
    return pytree.tree_unflatten(leaves, flat[0][1])


def is_tensor_list(leaf: Any) -> bool:
    """Return whether `leaf` is a list of tensors, which some pipelines pass with one tensor per row."""
    return isinstance(leaf, list) and bool(leaf) and all(isinstance(item, torch.Tensor) for item in leaf)


def _content(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return tuple(leaf.shape), leaf.dtype, leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return tuple(_content(item) for item in leaf) if is_tensor_list(leaf) else repr(leaf)

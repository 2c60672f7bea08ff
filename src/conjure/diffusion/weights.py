"""The weights of a network as plain tensors, also where they are offloaded or quantised."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from conjure.errors import InputError

CHECKSUM_COLUMNS = 61


def read_weights(network: torch.nn.Module) -> dict[str, torch.Tensor | DiskTensor]:
    """Return the parameters and buffers of a network by name, including buffers that are not saved.

    Raises:
        InputError: If weights are on the device `meta`, and no hook of accelerate provides their values.
    """
    tensors = {name: value for name, value in network.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)}
    for name, buffer in network.named_buffers():
        tensors.setdefault(name, buffer)
    offloaded, on_disk = _offloaded_by_accelerate(network), _offloaded_to_disk(network)
    weights: dict[str, torch.Tensor | DiskTensor] = {}
    for name, tensor in tensors.items():
        value = on_disk.get(id(tensor), offloaded.get(name, tensor) if tensor.device.type == "meta" else tensor)
        if isinstance(value, torch.Tensor) and value.device.type == "meta":
            raise InputError(
                f"the weights {name!r} of {type(network).__name__} have no values (device meta); load the model completely"
            )
        weights[name] = value
    return weights


def plain_tensors(tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the plain tensors that a tensor consists of, with their names: more than one for quantised weights."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        yield str(int(getattr(tensor, "quant_type", 0) or 0)), tensor.detach().as_subclass(torch.Tensor)
        return
    names, context = tensor.__tensor_flatten__()
    described = sorted(f"{key}={value}" for key, value in context.items()) if isinstance(context, dict) else context
    for name in names:
        for inner_name, inner in plain_tensors(getattr(tensor, name)):
            yield f"{type(tensor).__name__} {described} {name} {inner_name}", inner


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the content of a plain tensor as bytes, shape (bytes,)."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()


def sum_of_bits(tensor: torch.Tensor) -> list[int]:
    """Return a checksum of a plain tensor, which is computed on its device.

    The content as integers of 64 bits is arranged in rows of CHECKSUM_COLUMNS numbers, a prime, and each column is summed, so
    that the checksum depends on the order of the elements. What remains is appended: a weighted sum, and less than 8 bytes.
    """
    content = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    size = len(content) // 8 * 8
    integers = content[:size]
    if integers.storage_offset() % 8:  # torch reads larger integers at multiples of their size only
        integers = integers.clone()
    integers = integers.view(torch.int64)
    rows = integers[: len(integers) // CHECKSUM_COLUMNS * CHECKSUM_COLUMNS].view(-1, CHECKSUM_COLUMNS)
    remaining = integers[rows.numel() :]
    weighted = remaining * torch.arange(1, len(remaining) + 1, device=remaining.device)
    return [*torch.cat([rows.sum(0), weighted.sum()[None]]).tolist(), *content[size:].tolist()]


def num_edits(tensor: torch.Tensor) -> int:
    """Return the number of in-place edits of a tensor, except through `.data`. Those of inference tensors are not counted."""
    return 0 if tensor.is_inference() else tensor._version


class DiskTensor:
    """A tensor that diffusers' group offloading keeps in a file.

    Args:
        path: The safetensors file.
        key: The name of the tensor in it.
    """

    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key

    def read(self) -> torch.Tensor:
        """Return the tensor."""
        with safe_open(self.path, "pt") as file:
            return file.get_tensor(self.key)

    def version(self) -> tuple[Any, ...]:
        """Return values that change when the file changes."""
        status = os.stat(self.path)
        return self.path, self.key, status.st_mtime_ns, status.st_size


def _offloaded_by_accelerate(network: torch.nn.Module) -> dict[str, Any]:
    """Return tensors that accelerate's offloading hooks keep outside of the modules, by name."""
    offloaded: dict[str, Any] = {}
    for path, module in network.named_modules():
        hook = getattr(module, "_hf_hook", None)
        for part in getattr(hook, "hooks", [hook]):
            weights_map = getattr(part, "weights_map", None)
            if weights_map is None:
                continue
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                if tensor.device.type == "meta" and _contains(weights_map, name):
                    offloaded[f"{path}.{name}" if path else name] = weights_map[name]
    return offloaded


def _contains(weights_map: Any, name: str) -> bool:
    try:
        return weights_map[name] is not None
    except KeyError:
        return False


def _offloaded_to_disk(network: torch.nn.Module) -> dict[int, DiskTensor]:
    """Return the tensors that group offloading keeps in files, by the id of the parameter."""
    tensors: dict[int, DiskTensor] = {}
    for module in network.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry is not None else ():
            group: Any = getattr(hook, "group", None)
            if getattr(group, "_is_offloaded_to_disk", False):
                tensors |= {id(value): DiskTensor(group.safetensors_file_path, key) for value, key in group.tensor_to_key.items()}
    return tensors

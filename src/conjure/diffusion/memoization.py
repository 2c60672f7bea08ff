"""Outputs of network modules whose input does not change from step to step are computed at the first step only.

Cross-attention projects the states of the texts to keys and values at each of the T steps, and some networks embed them before.
If images have few tokens, this is half of the computation. Since a module that receives the same unchanged tensor again returns
the same output, no code per model family is needed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from conjure.diffusion.patching import patched_forward

MAX_CACHE_BYTES = 2**29


class StaticInputCache:
    """Outputs of modules for inputs that do not change from step to step.

    `register` marks inputs as possibly static. An output is reused only if its input has the same address, shape, strides, type
    and number of in-place edits as before. The cache keeps a reference to the input, so that its memory is not reused.

    Args:
        max_bytes: The largest total size of the outputs and of the gathered inputs.
    """

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self.registered: dict[int, torch.Tensor] = {}  # by the address of their memory
        self.gathered: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def register(self, tensor: Any) -> None:
        """Register a tensor that may be passed to a module again."""
        if isinstance(tensor, torch.Tensor) and not tensor.is_inference():  # edits of inference tensors are not counted
            self.registered[tensor.untyped_storage().data_ptr()] = tensor

    def is_static(self, tensor: Any) -> bool:
        """Return whether a tensor with the memory of `tensor` was registered, such as the tensor of which it is a view."""
        return (
            isinstance(tensor, torch.Tensor)
            and not tensor.is_inference()
            and tensor.untyped_storage().data_ptr() in self.registered
        )

    def gather(self, tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Return `tensor[rows]`. For a static tensor the result is the same object in every call, and is registered as static."""
        key = (_key(tensor), tuple(rows)) if self.is_static(tensor) else None
        if key in self.gathered:
            return self.gathered[key][1]
        result = tensor[torch.tensor(rows, device=tensor.device)]
        if key is not None and self.size + result.nbytes <= self.max_bytes:
            self.size += result.nbytes
            self.gathered[key] = tensor, result
            self.register(result)
        return result

    @contextlib.contextmanager
    def memoized(self, network: torch.nn.Module) -> Iterator[None]:
        """Context manager in which the modules of `network` reuse outputs. Compiled modules are not changed."""
        with contextlib.ExitStack() as stack:
            for module in _uncompiled_modules(network):
                stack.enter_context(patched_forward(module, self._memoize(module.forward)))
            yield

    def _memoize(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        outputs: dict[Any, tuple[torch.Tensor, torch.Tensor, int]] = {}

        @functools.wraps(forward)
        def memoized_forward(*args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != 1 or not self.is_static(args[0]):
                return forward(*args, **kwargs)
            key = _key(args[0])
            if key in outputs and outputs[key][1]._version == outputs[key][2]:
                return outputs[key][1]
            output = forward(*args)
            if isinstance(output, torch.Tensor) and not output.is_inference() and self.size + output.nbytes <= self.max_bytes:
                self.size += output.nbytes
                outputs[key] = args[0], output, output._version
                self.register(output)
            return output

        return memoized_forward


def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version


def _uncompiled_modules(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield all modules inside `network` that are not compiled; a compiled one would be recompiled for every new `forward`."""
    is_compiled = getattr(network, "_compiled_call_impl", None) is not None
    if is_compiled or hasattr(network.forward, "_torchdynamo_orig_callable"):
        return
    for module in network.children():
        if getattr(module, "_compiled_call_impl", None) is None:
            yield module
            yield from _uncompiled_modules(module)

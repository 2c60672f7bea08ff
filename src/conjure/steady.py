"""What a network makes of its texts alone is the same at every step, and is computed at the first.

Cross-attention projects the states of the texts into keys and values anew at each of the T steps, and some networks embed them
before; where pictures have few tokens, that is half of the work. No rule per family is needed: a part of a network that is
given one tensor, unchanged since it was given it last, gives the same output again.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

LIMIT = 2**29  # bytes


@contextlib.contextmanager
def replaced(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, `module` answers with `forward`."""
    own = vars(module).get("forward")  # as hooks of accelerate put one on an instance
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del module.forward  # the class' own shows again
        else:
            module.forward = own  # type: ignore[method-assign]


class Steady:
    """What the parts of a network said of inputs that do not change from step to step.

    Which inputs may be steady is a hint, told by `mark`. An answer is used again only where its input is known to be unchanged:
    the same memory, held until then, of the same shape, with as many edits in place as before.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.size = 0
        self.marked: dict[int, torch.Tensor] = {}  # by the address of their memory
        self.picked: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def mark(self, tensor: Any) -> None:
        """Say that `tensor` may come again."""
        if isinstance(tensor, torch.Tensor) and not tensor.is_inference():  # edits of which are not counted
            self.marked[tensor.untyped_storage().data_ptr()] = tensor

    def holds(self, tensor: Any) -> bool:
        """Whether `tensor`, or what it is a view of, was marked."""
        return (
            isinstance(tensor, torch.Tensor) and not tensor.is_inference() and tensor.untyped_storage().data_ptr() in self.marked
        )

    def pick(self, tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """`tensor[rows]`: for a marked tensor the same one each time, and marked itself."""
        key = (_key(tensor), tuple(rows)) if self.holds(tensor) else None
        if key in self.picked:
            return self.picked[key][1]
        picked = tensor[torch.tensor(rows, device=tensor.device)]
        if key is not None and self.size + picked.nbytes <= self.limit:
            self.size += picked.nbytes
            self.picked[key] = tensor, picked
            self.mark(picked)
        return picked

    @contextlib.contextmanager
    def remembered(self, network: torch.nn.Module) -> Iterator[None]:
        """While it lasts, no part of `network` is asked the same twice. Compiled parts are left as they are."""
        with contextlib.ExitStack() as stack:
            for part in _parts(network):
                stack.enter_context(replaced(part, self._once(part.forward)))
            yield

    def _once(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        answers: dict[Any, tuple[torch.Tensor, torch.Tensor, int]] = {}

        @functools.wraps(forward)
        def once(*args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != 1 or not self.holds(args[0]):
                return forward(*args, **kwargs)
            key = _key(args[0])
            if key in answers and answers[key][1]._version == answers[key][2]:
                return answers[key][1]
            answer = forward(*args)
            if isinstance(answer, torch.Tensor) and not answer.is_inference() and self.size + answer.nbytes <= self.limit:
                self.size += answer.nbytes
                answers[key] = args[0], answer, answer._version
                self.mark(answer)
            return answer

        return once


def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version


def _parts(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """All modules inside `network` that are not compiled, which would be compiled again for every new `forward`."""
    compiled = getattr(network, "_compiled_call_impl", None) is not None
    if compiled or hasattr(network.forward, "_torchdynamo_orig_callable"):
        return
    for part in network.children():
        if getattr(part, "_compiled_call_impl", None) is None:
            yield part
            yield from _parts(part)

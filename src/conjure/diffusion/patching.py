"""Methods of objects, replaced for a block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


@contextlib.contextmanager
def patched_method(target: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Context manager in which `target` has `method` instead of its method `name`."""
    instance_method = vars(target).get(name)  # hooks of accelerate are set on the instance
    setattr(target, name, method)
    try:
        yield
    finally:
        if instance_method is None:
            delattr(target, name)  # the method of the class is visible again
        else:
            setattr(target, name, instance_method)


def patched_forward(module: torch.nn.Module, forward: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """Context manager in which `module` calls `forward` instead of its method."""
    return patched_method(module, "forward", forward)

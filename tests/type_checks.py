"""The type checker that the tests install, switched off for calls with arguments of a wrong type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jaxtyping


@contextlib.contextmanager
def unchecked_types() -> Iterator[None]:
    """Context manager in which functions receive arguments of any type, as they do outside of the tests."""
    previous = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", previous)

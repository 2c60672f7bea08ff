"""Warnings about texts that are collected by thread, since Python's filters of warnings know no threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from conjure.errors import TextTruncationWarning

_collector = threading.local()  # .messages: where the warnings of this thread are collected


@contextlib.contextmanager
def collect_warnings(messages: list[str]) -> Iterator[None]:
    """Context manager that appends warnings of this thread about truncated texts to `messages`; see `record_warning`."""
    _collector.messages = messages
    try:
        yield
    finally:
        _collector.messages = None


def record_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Record a warning for `collect_warnings`. It replaces `warnings.showwarning`, since Python's filters know no threads."""
    messages = getattr(_collector, "messages", None)
    if messages is not None and issubclass(category, TextTruncationWarning) and str(message) not in messages:
        messages.append(str(message))

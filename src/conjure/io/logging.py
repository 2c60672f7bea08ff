"""Switches for the log output and progress bars of diffusers, transformers and the Hub client; the reporter of downloads."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging

WITH_PROGRESS_BARS = (diffusers_logging, transformers_logging)
LIBRARIES = (*WITH_PROGRESS_BARS, hub_logging)

_lock = threading.RLock()  # the libraries' switches are global


def print_progress(message: str) -> None:
    """Print a line on standard error."""
    print(message, file=sys.stderr, flush=True)


_reporter: Callable[[str], None] = print_progress


def set_reporter(reporter: Callable[[str], None]) -> None:
    """Set the function that receives lines about the progress of downloads; `print_progress` unless it is set.

    Args:
        reporter: Called with one line of text, from any thread.
    """
    global _reporter
    _reporter = reporter


def report(message: str) -> None:
    """Report the progress of a download."""
    _reporter(message)


def silence_libraries() -> None:
    """Switch off log output and progress bars of the libraries. Errors are still raised."""
    for library in LIBRARIES:
        library.set_verbosity(logging.CRITICAL)
    for library in WITH_PROGRESS_BARS:
        library.disable_progress_bar()


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Context manager that silences the libraries and restores their settings afterwards."""
    with _lock:
        levels = [library.get_verbosity() for library in LIBRARIES]
        bars = [library.is_progress_bar_enabled() for library in WITH_PROGRESS_BARS]
        hub_bars = not are_progress_bars_disabled()
        silence_libraries()
        try:
            yield
        finally:
            for library, level in zip(LIBRARIES, levels, strict=True):
                library.set_verbosity(level)
            for library, enabled in zip(WITH_PROGRESS_BARS, bars, strict=True):
                if enabled:
                    library.enable_progress_bar()
            (enable_progress_bars if hub_bars else disable_progress_bars)()  # transformers changes this setting too


@contextlib.contextmanager
def suppress_truncation_logs(pipeline: Any) -> Iterator[None]:
    """Context manager in which `pipeline` does not log truncated texts, since Conjure emits a `TextTruncationWarning` for them.

    Other threads that run a pipeline of the same class log as before.
    """
    this_thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != this_thread or "of your input was truncated" not in str(record.msg)

    loggers = [logging.getLogger(cls.__module__) for cls in type(pipeline).__mro__]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(keep)

"""Keeps the chatter of diffusers, transformers and the Hub's client off the terminal: what matters to a user is said by us."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging

WITH_BARS = (diffusers_logging, transformers_logging)
LIBRARIES = (*WITH_BARS, hub_logging)

_one_at_a_time = threading.RLock()  # the libraries' switches are global


def hush() -> None:
    """From now on they log nothing and show no bars. What goes wrong they raise as well, which is told in a line."""
    for library in LIBRARIES:
        library.set_verbosity(logging.CRITICAL)
    for library in WITH_BARS:
        library.disable_progress_bar()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """The same while it lasts: after it they are as loud as before, for whatever else they are used for."""
    with _one_at_a_time:
        levels = [library.get_verbosity() for library in LIBRARIES]
        bars = [library.is_progress_bar_enabled() for library in WITH_BARS]
        hub_bars = not are_progress_bars_disabled()
        hush()
        try:
            yield
        finally:
            for library, level in zip(LIBRARIES, levels, strict=True):
                library.set_verbosity(level)
            for library, enabled in zip(WITH_BARS, bars, strict=True):
                if enabled:
                    library.enable_progress_bar()
            (enable_progress_bars if hub_bars else disable_progress_bars)()  # which the switch of transformers moves too


@contextlib.contextmanager
def no_word_of_cuts(pipeline: Any) -> Iterator[None]:
    """While it lasts, `pipeline` does not log what it cuts off texts: that is a `TextCutWarning` of ours, without the padding.

    Other threads hear its kind as before.
    """
    own = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != own or "of your input was truncated" not in str(record.msg)

    loggers = [logging.getLogger(kind.__module__) for kind in type(pipeline).__mro__]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)

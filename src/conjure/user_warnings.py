"""Warnings that point to the line of the user's code that caused them."""

from __future__ import annotations

import sys
import warnings

# Packages through which a call passes on its way to a warning; jaxtyping and beartype check types in tests
PASSED_PACKAGES = frozenset({
    "conjure", "diffusers", "transformers", "accelerate", "peft", "huggingface_hub", "torch",
    "contextlib", "dataclasses", "functools", "importlib", "jaxtyping", "beartype",
})  # fmt: skip


def warn_user(message: str, category: type[Warning]) -> None:
    """Issue a warning at the innermost line of the call stack that is outside of Conjure and of the libraries it drives.

    Python shows this line, and shows a warning once per line. `warnings.warn` would need the number of frames up to it, which
    differs between the functions that lead to the same warning.

    Args:
        message: The message.
        category: The class of the warning.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__") or "").partition(".")[0] in PASSED_PACKAGES:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )

"""Deprecated: the names of this module are in `conjure.evaluation.datasets` and `conjure.evaluation.pair_files`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from conjure.deprecation import warn_renamed

_NEW_NAMES = {
    "Pairs": "conjure.evaluation.pair_files.Pairs",
    "TASKS": "conjure.evaluation.datasets.TASKS",
    "of_frame": "conjure.evaluation.pair_files.from_dataframe",
    "read": "conjure.evaluation.datasets.read",
    "read_file": "conjure.evaluation.pair_files.read_pairs",
}


def __getattr__(name: str) -> Any:
    if name not in _NEW_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, new_name = _NEW_NAMES[name].rpartition(".")
    warn_renamed(f"{__name__}.{name}", _NEW_NAMES[name])
    return getattr(import_module(module), new_name)

"""Other measures of the distance of two texts, behind one protocol, to compare Conjure's distance with."""

from importlib import import_module
from typing import Any

from conjure.deprecation import warn_renamed


def __getattr__(name: str) -> Any:
    """Return `make_baselines` for its former name `conjure.baselines.baselines`, with a `DeprecationWarning`."""
    if name != "baselines":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_renamed("conjure.baselines.baselines", "conjure.baselines.registry.make_baselines")
    return import_module("conjure.baselines.registry").make_baselines  # imported on first use, since it imports torch

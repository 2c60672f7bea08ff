"""The version of the installed package, which results record."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the version of Conjure, or `0+unknown` if it runs from sources that are not installed."""
    try:
        return version("conjure")
    except PackageNotFoundError:
        return "0+unknown"

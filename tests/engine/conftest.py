"""Fixtures of the tests of stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import conjure
from conjure import Store
from stores import FilledStore, fill_store


@pytest.fixture(scope="session")
def short_process(default_process) -> conjure.Process:
    """The default model with two steps."""
    return default_process.set(steps=2)


@pytest.fixture(scope="session")
def filled_store(short_process, tmp_path_factory) -> FilledStore:
    """A store with the results of a matrix. Tests copy its file."""
    return fill_store(short_process, tmp_path_factory.mktemp("filled") / "store")


@pytest.fixture
def open_store() -> Iterator[Callable[[Path], Store]]:
    """Open the store in a file. It is closed after the test."""
    stores: list[Store] = []

    def open_path(path: Path) -> Store:
        stores.append(Store(path))
        return stores[-1]

    yield open_path
    for store in stores:
        store.close()

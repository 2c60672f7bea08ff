"""Stores of results for tests: how they are filled, how their files are changed, and how many steps a call takes."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conjure

WORDS = ("puppy", "poodle", "shark")
NUM_TRAJECTORIES, NUM_EVALUATIONS = 6, 12  # of a matrix of WORDS with two samples


@dataclass
class StepCounter:
    """A progress callback that counts the denoising steps that a call takes. Steps of a batch count once."""

    steps: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.steps += 1


@dataclass(frozen=True)
class FilledStore:
    """A store with the results of a matrix of `WORDS`.

    Attributes:
        path: Its file, which must not be changed.
        matrix: The matrix.
    """

    path: Path
    matrix: conjure.Matrix

    def copy_to(self, path: Path) -> Path:
        """Copy the file to `path`."""
        shutil.copy(self.path, path)
        return path


def fill_store(process: conjure.Process, path: Path) -> FilledStore:
    """Compute a matrix of `WORDS` with a new store at `path`."""
    with contextlib.closing(conjure.Store(path)) as store:
        matrix = conjure.matrix(process.set(store=store), WORDS, samples=2)
    return FilledStore(path, matrix)


def execute(path: Path, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Execute a statement on the database in the file `path`, as another program would, and return its rows."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        return database.execute(statement, values).fetchall()

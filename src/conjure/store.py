"""Results that survive: what sources gave, one by one, in one SQLite file that a crash cannot spoil.

A result is kept under the identity of its process (a hash of everything that changes a number), the text, the noise and the text
that judged, so another setting never meets it, and nothing is computed twice. Whatever was finished is there after a kill.
Baselines keep their distances in the same file, pair by pair.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conjure.errors import InputError
from conjure.process import Process
from conjure.run import Measured, Source
from conjure.similarity import Results
from conjure.units import Level

METHOD = 1  # raised when the engine comes to give other numbers for the same process, so that old ones are not met

SCHEMA = """
CREATE TABLE IF NOT EXISTS process (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, settings TEXT NOT NULL, visited TEXT);
CREATE TABLE IF NOT EXISTS judged (process INTEGER, text TEXT, seed INTEGER, target TEXT, squared BLOB NOT NULL,
    PRIMARY KEY (process, text, seed, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS final (process INTEGER, text TEXT, seed INTEGER, latents BLOB NOT NULL,
    PRIMARY KEY (process, text, seed)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compared (process INTEGER, text1 TEXT, text2 TEXT, distances BLOB NOT NULL,
    PRIMARY KEY (process, text1, text2)) WITHOUT ROWID;
"""


class Store:
    """The file `path`, which is made if it is not there.

    Errors: `InputError` for a file that is no such store or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.database = sqlite3.connect(path, isolation_level=None, timeout=60)
            self.database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"{str(path)!r} cannot be used as a store of results: {error}; name another folder") from error

    def close(self) -> None:
        """Close the file; what was added is in it already."""
        self.database.close()

    def of(self, process: Process) -> Kept:
        """What is kept of `process`."""
        return Kept(self, process)

    def scored(self, settings: Mapping[str, Any]) -> Scored:
        """What is kept of the baseline with these `settings`."""
        return Scored(self, settings)

    def entry(self, key: str, settings: str) -> tuple[int, str | None]:
        """The number under which results of `key` are kept, and what is known of where they were measured."""
        self.write("INSERT OR IGNORE INTO process (key, settings) VALUES (?, ?)", [(key, settings)])
        return self.read("SELECT id, visited FROM process WHERE key = ?", (key,))[0]

    def read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """All rows that `query` finds."""
        try:
            return self.database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise InputError(
                f"{str(self.path)!r} cannot be read: {error}; it is broken, so move it away and run the same command again"
            ) from error

    def write(self, statement: str, rows: Sequence[tuple[object, ...]] | None = None) -> None:
        """Execute `statement`, for each of `rows` if given."""
        try:
            if rows is None:
                self.database.execute(statement)
            else:
                self.database.executemany(statement, rows)
        except sqlite3.Error as error:
            raise InputError(
                f"{str(self.path)!r} cannot be written: {error}; what was finished is kept, run the same command again"
            ) from error


class Kept:
    """What a store holds of one process."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store = store
        key, settings = f"{METHOD} {process.identity()}", json.dumps(process.settings(), default=str)
        self.process, visited = store.entry(key, settings)
        self.visited = json.loads(visited) if visited else None

    def add(self, measured: Measured) -> None:
        """Keep what a source gave."""
        source = measured.source
        if self.visited is None:
            self.visited = {
                "timesteps": measured.timesteps,
                "levels": [asdict(level) for level in measured.levels],
                "shape": list(measured.final.shape),
            }
            self.store.write("UPDATE process SET visited = ? WHERE id = ?", [(json.dumps(self.visited), self.process)])
        where = (self.process, source.text, source.seed)
        rows = [(*where, target, row.tobytes()) for target, row in zip(source.targets, measured.squared, strict=True)]
        self.store.write("BEGIN")
        self.store.write("INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?, ?)", rows)
        self.store.write("INSERT OR REPLACE INTO final VALUES (?, ?, ?, ?)", [(*where, measured.final.numpy().tobytes())])
        self.store.write("COMMIT")

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """What of `sources` is not there yet."""
        known: dict[tuple[str, int], set[str]] = {}
        query = "SELECT text, seed, target FROM judged WHERE process = ?"
        for text, seed, target in self.store.read(query, (self.process,)):
            known.setdefault((text, seed), set()).add(target)
        left = []
        for source in sources:
            targets = tuple(target for target in source.targets if target not in known.get((source.text, source.seed), ()))
            if targets:
                left.append(Source(source.text, source.seed, targets))
        return left

    def results(self, results: Results, sources: Sequence[Source]) -> Results:
        """`results` with what `sources` gave, all of which must be there. Last latents are read when they are asked for."""
        assert self.visited is not None
        results.timesteps = tuple(self.visited["timesteps"])
        results.levels = tuple(Level(**level) for level in self.visited["levels"])
        results.dimensions = int(np.prod(self.visited["shape"]))
        results.finals = _Finals(self)
        query = "SELECT squared FROM judged WHERE process = ? AND text = ? AND seed = ? AND target = ?"
        for source in sources:
            for target in source.targets:
                key = (source.text, source.seed, target)
                ((row,),) = self.store.read(query, (self.process, *key))
                results.squared[key] = np.frombuffer(row)
        return results


class _Finals(Mapping[tuple[str, int], torch.Tensor]):
    """The last latents of a process, read when they are asked for: those of a large model fill a memory."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def __getitem__(self, key: tuple[str, int]) -> torch.Tensor:
        query = "SELECT latents FROM final WHERE process = ? AND text = ? AND seed = ?"
        found = self.kept.store.read(query, (self.kept.process, *key))
        if not found:
            raise KeyError(key)
        assert self.kept.visited is not None
        return torch.frombuffer(bytearray(found[0][0]), dtype=torch.float32).reshape(self.kept.visited["shape"])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        query = "SELECT text, seed FROM final WHERE process = ?"
        return iter(self.kept.store.read(query, (self.kept.process,)))

    def __len__(self) -> int:
        return len(list(iter(self)))


class Scored:
    """What a store holds of one baseline, whose settings tell all that changes a number."""

    def __init__(self, store: Store, settings: Mapping[str, Any]) -> None:
        self.store = store
        told = json.dumps(settings, default=str, sort_keys=True)
        self.baseline, _ = store.entry(f"baseline {METHOD} {hashlib.sha256(told.encode()).hexdigest()}", told)

    def known(self) -> dict[tuple[str, str], np.ndarray]:
        """All distances (samples,) that are there, by pair."""
        query = "SELECT text1, text2, distances FROM compared WHERE process = ?"
        rows = self.store.read(query, (self.baseline,))
        return {(first, second): np.frombuffer(distances) for first, second, distances in rows}

    def add(self, pairs: Sequence[tuple[str, str]], distances: np.ndarray) -> None:
        """Keep `distances`, (pairs, samples)."""
        rows = [(self.baseline, *pair, row.astype(np.float64).tobytes()) for pair, row in zip(pairs, distances, strict=True)]
        self.store.write("BEGIN")
        self.store.write("INSERT OR REPLACE INTO compared VALUES (?, ?, ?, ?)", rows)
        self.store.write("COMMIT")

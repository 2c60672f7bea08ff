"""Results that survive: what sources gave, one by one, in one SQLite file that a crash cannot spoil.

A result is kept under the identity of its process (a hash of everything that changes a number), the text, the noise and the text
that judged, so another setting never meets it, and nothing is computed twice. Whatever was finished is there after a kill.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

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
"""


class Store:
    """The results of one process in the file `path`, which is made if it is not there.

    Errors: `InputError` for a file that is no such store or cannot be written.
    """

    def __init__(self, path: Path, process: Process) -> None:
        self.path = path
        try:
            self.database = sqlite3.connect(path, isolation_level=None, timeout=60)
            self.database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)
            settings = json.dumps(process.settings(), default=str)
            key = (f"{METHOD} {process.identity()}",)
            self.database.execute("INSERT OR IGNORE INTO process (key, settings) VALUES (?, ?)", (*key, settings))
            self.process, visited = self.database.execute("SELECT id, visited FROM process WHERE key = ?", key).fetchone()
        except sqlite3.Error as error:
            raise InputError(f"{str(path)!r} cannot be used as a store of results: {error}; name another folder") from error
        self.visited = json.loads(visited) if visited else None

    def close(self) -> None:
        """Close the file; what was added is in it already."""
        self.database.close()

    def add(self, measured: Measured) -> None:
        """Keep what a source gave."""
        source = measured.source
        if self.visited is None:
            self.visited = {
                "timesteps": measured.timesteps,
                "levels": [asdict(level) for level in measured.levels],
                "shape": list(measured.final.shape),
            }
            self._write("UPDATE process SET visited = ? WHERE id = ?", [(json.dumps(self.visited), self.process)])
        where = (self.process, source.text, source.seed)
        rows = [(*where, target, row.tobytes()) for target, row in zip(source.targets, measured.squared, strict=True)]
        self._write("BEGIN")
        self._write("INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?, ?)", rows)
        self._write("INSERT OR REPLACE INTO final VALUES (?, ?, ?, ?)", [(*where, measured.final.numpy().tobytes())])
        self._write("COMMIT")

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """What of `sources` is not there yet."""
        known: dict[tuple[str, int], set[str]] = {}
        query = "SELECT text, seed, target FROM judged WHERE process = ?"
        for text, seed, target in self.database.execute(query, (self.process,)):
            known.setdefault((text, seed), set()).add(target)
        left = []
        for source in sources:
            targets = tuple(target for target in source.targets if target not in known.get((source.text, source.seed), ()))
            if targets:
                left.append(Source(source.text, source.seed, targets))
        return left

    def fill(self, results: Results, sources: Sequence[Source]) -> None:
        """Put what `sources` gave, all of which must be there, into `results`."""
        assert self.visited is not None
        levels = tuple(Level(**level) for level in self.visited["levels"])
        timesteps = tuple(self.visited["timesteps"])
        for source in sources:
            where = (self.process, source.text, source.seed)
            squared = [
                self.database.execute(
                    "SELECT squared FROM judged WHERE process = ? AND text = ? AND seed = ? AND target = ?", (*where, target)
                ).fetchone()[0]
                for target in source.targets
            ]
            (latents,) = self.database.execute(
                "SELECT latents FROM final WHERE process = ? AND text = ? AND seed = ?", where
            ).fetchone()
            final = torch.frombuffer(bytearray(latents), dtype=torch.float32).reshape(self.visited["shape"])
            table = np.stack([np.frombuffer(row) for row in squared])
            results.add(Measured(source, table, timesteps, levels, final, None), keep_final=True)

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]] | None = None) -> None:
        try:
            if rows is None:
                self.database.execute(statement)
            else:
                self.database.executemany(statement, rows)
        except sqlite3.Error as error:
            raise InputError(
                f"{str(self.path)!r} cannot be written: {error}; what was finished is kept, run the same command again"
            ) from error

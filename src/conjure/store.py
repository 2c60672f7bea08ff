"""Results that survive: what sources gave, one by one, in one SQLite file that a crash cannot spoil.

A result is kept under the identity of its process (a hash of everything that changes a number), the text, the noise and the text
that judged, so another setting never meets it, and nothing is computed twice. Whatever was finished is there after a kill.
Baselines keep their distances in the same file, pair by pair. A run, its comparisons and the app may share a file, at once too.
Every row carries a checksum, so that a flipped byte is noticed and what it spoilt is computed again (`conjure.upkeep`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import zlib
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

LAYOUT = 2  # of the file
BROKEN = (sqlite3.Error, UnicodeError)  # the second where what SQLite says of a spoilt file is itself spoilt
MEND = "mend it with conjure store repair, or name another file"

SCHEMA = """
CREATE TABLE IF NOT EXISTS process (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, settings TEXT NOT NULL, visited TEXT,
    sum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS judged (process INTEGER, text TEXT, seed INTEGER, target TEXT, squared BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (process, text, seed, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS final (process INTEGER, text TEXT, seed INTEGER, latents BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (process, text, seed)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compared (process INTEGER, text1 TEXT, text2 TEXT, distances BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (process, text1, text2)) WITHOUT ROWID;
"""
PARTS = {("table", name) for name in ("process", "judged", "final", "compared")}


def checksum(*parts: str | int | bytes | None) -> int:
    """CRC-32 of a row: what it is kept under, the key of its process first, and what is kept."""
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else f"{part}\0".encode(), value)
    return value


class Store:
    """The file `path`, which is made if it is not there. Threads may share one, and processes a file.

    Errors: `InputError` for a file that is no such store, is broken or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        try:
            self.database = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
            parts = set(self.database.execute("SELECT type, name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"))
            ((layout,),) = self.database.execute("PRAGMA user_version").fetchall()
            if parts and (parts != PARTS or layout != LAYOUT):  # other programs count their layouts from 1, too
                raise InputError(f"{str(self.path)!r} is no store of this version of Conjure; {MEND}")
            self.database.execute("PRAGMA synchronous = NORMAL")
            if not parts:  # a store that is there is not written to before there is something new
                self.database.executescript(
                    f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {LAYOUT}; COMMIT;"
                )
        except BROKEN as error:
            raise InputError(f"{str(self.path)!r} cannot be used as a store of results: {error}; {MEND}") from error

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
        row = (key, settings, None)
        self.write("INSERT OR IGNORE INTO process (key, settings, visited, sum) VALUES (?, ?, ?, ?)", [(*row, checksum(*row))])
        return self.known(key)

    def known(self, key: str) -> tuple[int, str | None]:
        """The same of a key that is there. Errors: `InputError` where it is spoilt."""
        for number, *told, known in self.read("SELECT id, settings, visited, sum FROM process WHERE key = ?", (key,)):
            if checksum(key, *told) == known:
                return number, told[1]
        raise InputError(f"{str(self.path)!r} is spoilt: what it tells of a process is not what was kept; {MEND}")

    def tell(self, key: str, visited: str) -> None:
        """Keep where the results of `key` were measured."""
        ((settings,),) = self.read("SELECT settings FROM process WHERE key = ?", (key,))
        row = (visited, checksum(key, settings, visited), key)
        self.write("UPDATE process SET visited = ?, sum = ? WHERE key = ?", [row])

    def read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows that `query` finds."""
        try:
            with self._lock:
                return self.database.execute(query, values).fetchall()
        except BROKEN as error:
            raise InputError(f"{str(self.path)!r} cannot be read: {error}; {MEND}") from error

    def write(self, statement: str, rows: Sequence[tuple[object, ...]] | None = None) -> None:
        """Execute `statement`, for each of `rows` if given."""
        try:
            with self._lock:
                if rows is None:
                    self.database.execute(statement)
                else:
                    self.database.executemany(statement, rows)
        except BROKEN as error:
            raise InputError(
                f"{str(self.path)!r} cannot be written: {error}; what was finished is kept, run the same command again"
            ) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All that is written while it lasts is there in the end, or nothing of it."""
        with self._lock:
            self.write("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.database.execute("ROLLBACK")
                raise
            self.write("COMMIT")


class Kept:
    """What a store holds of one process."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store = store
        self.key = f"{METHOD} {process.identity()}"
        self.process, visited = store.entry(self.key, json.dumps(process.settings(), default=str))
        self.visited = json.loads(visited) if visited else None

    def add(self, batch: Sequence[Measured]) -> None:
        """Keep what a batch of sources gave, all of it or, where that fails, nothing."""
        judged, finals = [], []
        for measured in batch:
            where = (measured.source.text, measured.source.seed)
            for target, row in zip(measured.source.targets, measured.squared, strict=True):
                blob = row.tobytes()
                judged.append((self.process, *where, target, blob, checksum(self.key, *where, target, blob)))
            latents = measured.final.numpy().tobytes()
            finals.append((self.process, *where, latents, checksum(self.key, *where, latents)))
        with self.store.together():
            if self.visited is None:
                self.visited = {
                    "timesteps": batch[0].timesteps,
                    "levels": [asdict(level) for level in batch[0].levels],
                    "shape": list(batch[0].final.shape),
                }
                self.store.tell(self.key, json.dumps(self.visited))
            self.store.write("INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?, ?, ?)", judged)
            self.store.write("INSERT OR REPLACE INTO final VALUES (?, ?, ?, ?, ?)", finals)

    def missing(self, sources: Sequence[Source], *, finals: bool) -> list[Source]:
        """What of `sources` is not there yet, or is spoilt; last latents are looked at where `finals` are needed."""
        left = []
        for source in sources:
            ended = self._ended(source.text, source.seed, sound=finals)
            known = self._judged(source.text, source.seed) if ended else {}
            if targets := tuple(target for target in source.targets if target not in known):
                left.append(Source(source.text, source.seed, targets))
        return left

    def _judged(self, text: str, seed: int) -> dict[str, bytes]:
        """What is there, and sound, of a trajectory, by the text that judged."""
        if self.visited is None:  # nobody knows where it was measured, as when the row that told it was lost
            return {}
        query = "SELECT target, squared, sum FROM judged WHERE process = ? AND text = ? AND seed = ?"
        rows = self.store.read(query, (self.process, text, seed))
        return {target: squared for target, squared, known in rows if checksum(self.key, text, seed, target, squared) == known}

    def _ended(self, text: str, seed: int, *, sound: bool) -> bool:
        """Whether the end of a trajectory is there, and with `sound` as it was kept."""
        if sound:
            found = self.final(text, seed)
            return found is not None and found[1]
        query = "SELECT 1 FROM final WHERE process = ? AND text = ? AND seed = ?"
        return bool(self.store.read(query, (self.process, text, seed)))

    def final(self, text: str, seed: int) -> tuple[bytes, bool] | None:
        """The last latents of a trajectory, and whether they are sound; None where they are not there."""
        query = "SELECT latents, sum FROM final WHERE process = ? AND text = ? AND seed = ?"
        for latents, known in self.store.read(query, (self.process, text, seed)):
            return latents, checksum(self.key, text, seed, latents) == known
        return None

    def fill(self, results: Results, sources: Sequence[Source]) -> None:
        """Give `results` what `sources` gave, all of which must be there. Last latents are read when they are asked for."""
        assert self.visited is not None
        results.timesteps = tuple(self.visited["timesteps"])
        results.levels = tuple(Level(**level) for level in self.visited["levels"])
        results.dimensions = int(np.prod(self.visited["shape"]))
        results.finals = _Finals(self)
        for source in sources:
            known = self._judged(source.text, source.seed)
            for target in source.targets:
                results.squared[source.text, source.seed, target] = np.frombuffer(known[target])


class _Finals(Mapping[tuple[str, int], torch.Tensor]):
    """The last latents of a process, read when they are asked for: those of a large model fill a memory."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def __getitem__(self, key: tuple[str, int]) -> torch.Tensor:
        found = self.kept.final(*key)
        if found is None:
            raise KeyError(key)
        latents, sound = found
        if not sound:
            path = str(self.kept.store.path)
            raise InputError(f"{path!r} is spoilt: the last latents of {key[0]!r} are not what was kept; {MEND}")
        assert self.kept.visited is not None
        return torch.frombuffer(bytearray(latents), dtype=torch.float32).reshape(self.kept.visited["shape"])

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
        self.key = f"baseline {METHOD} {hashlib.sha256(told.encode()).hexdigest()}"
        self.baseline, _ = store.entry(self.key, told)

    def known(self) -> dict[tuple[str, str], np.ndarray]:
        """All distances (samples,) that are there and sound, by pair."""
        rows = self.store.read("SELECT text1, text2, distances, sum FROM compared WHERE process = ?", (self.baseline,))
        return {
            (first, second): np.frombuffer(distances)
            for first, second, distances, known in rows
            if checksum(self.key, first, second, distances) == known
        }

    def add(self, pairs: Sequence[tuple[str, str]], distances: np.ndarray) -> None:
        """Keep `distances`, (pairs, samples)."""
        rows = []
        for pair, row in zip(pairs, distances, strict=True):
            blob = row.astype(np.float64).tobytes()
            rows.append((self.baseline, *pair, blob, checksum(self.key, *pair, blob)))
        with self.store.together():
            self.store.write("INSERT OR REPLACE INTO compared VALUES (?, ?, ?, ?, ?)", rows)

"""Look after a store of results: what is in it, is it sound, mend it, make it smaller, and take it elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjure.errors import InputError
from conjure.files import parquet_package, whole
from conjure.store import BROKEN, Store, checksum

# What identifies a row, and what it holds
TABLES = {
    "judged": (("text", "seed", "target"), "squared"),
    "final": (("text", "seed"), "latents"),
    "compared": (("text1", "text2"), "distances"),
}
ROWS = 100_000  # of an exported row group


@dataclass(frozen=True)
class Held:
    """What a store holds of one process, or of one baseline.

    identity: of the process, or of the baseline's settings. trajectories, judgements, pairs (of a baseline): how many.
    size: bytes of what is kept, without what finds it.
    """

    identity: str
    settings: dict[str, Any]
    trajectories: int
    judgements: int
    pairs: int
    size: int


@dataclass(frozen=True)
class Soundness:
    """rows: how many were looked at. spoilt: by table, what those are kept under whose checksums do not hold."""

    rows: int
    spoilt: dict[str, list[tuple[Any, ...]]]

    @property
    def sound(self) -> bool:
        return not any(self.spoilt.values())


def opened(path: str | Path) -> Store:
    """The store in the file, or in the folder of a run. Errors: `InputError` for one that is not there."""
    return Store(_file(path))


def _file(path: str | Path) -> Path:
    path = Path(path)
    path = path / "store.sqlite" if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise InputError(f"there is no store {str(path)!r}; give the file, or the folder of a run of conjure bench")
    return path


def held(store: Store) -> list[Held]:
    """What is in `store`, process by process."""
    found = []
    for number, key, settings in _processes(store):
        counts, sizes = {}, 0
        for table, (_, blob) in TABLES.items():
            query = f"SELECT count(*), coalesce(sum(length({blob})), 0) FROM {table} WHERE process = ?"
            ((counts[table], size),) = store.read(query, (number,))
            sizes += size
        found.append(Held(key.split()[-1], json.loads(settings), counts["final"], counts["judged"], counts["compared"], sizes))
    return found


def _processes(store: Store) -> list[tuple[int, str, str]]:
    """Number, key and settings of each process and baseline. Errors: `InputError` where one is spoilt."""
    processes = store.read("SELECT id, key, settings FROM process ORDER BY id")
    for _, key, _ in processes:
        store.known(key)
    return processes


def verify(store: Store) -> Soundness:
    """Look at every row. Errors: `InputError` for a file so broken that not all can be read."""
    rows, spoilt = 0, dict[str, list[tuple[Any, ...]]]()
    ((told,),) = store.read("PRAGMA quick_check(1)")
    if told != "ok":
        raise InputError(f"{str(store.path)!r} is broken: {' '.join(told.split())}; mend it with conjure store repair")
    for table in TABLES:
        spoilt[table] = []
        for key, _, sound in _rows(store, table):
            rows += 1
            if not sound:
                spoilt[table].append(key)
    return Soundness(rows, spoilt)


def _rows(store: Store, table: str) -> Iterator[tuple[tuple[Any, ...], bytes, bool]]:
    """What each row of `table` is kept under, its process first, what is kept, and whether it is sound."""
    keys, blob = TABLES[table]
    whose = {number: key for number, key, _ in _processes(store)}
    query = f"SELECT process, {', '.join(keys)}, {blob}, sum FROM {table}"
    try:
        for process, *key, content, known in store.database.execute(query):
            sound = process in whose and checksum(whose[process], *key, content) == known
            yield (process, *key), content, sound
    except BROKEN as error:
        raise InputError(f"{str(store.path)!r} cannot be read: {error}; mend it with conjure store repair") from error


def repair(path: str | Path) -> tuple[int, Path]:
    """Write what is sound in the store `path` into a new file in its place: how many rows, and where the old file now lies.

    What is lost is computed again by the next run that needs it. Errors: `InputError` where there is no such file.
    """
    path = _file(path)
    names = (path.with_name(f"{path.name}.broken{number or ''}") for number in itertools.count())
    old = next(name for name in names if not name.exists())  # what an earlier repair put aside stays
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".conjure-") as place:
        fresh, saved = Store(Path(place) / "new"), 0
        with contextlib.closing(sqlite3.connect(path)) as broken:
            broken.text_factory = bytes  # what is spoilt may be no text at all
            copied = _copied(broken, fresh)
            for table, (keys, blob) in TABLES.items():
                saved += _saved(broken, fresh, table, (*keys, blob), copied)
        fresh.read("PRAGMA wal_checkpoint(TRUNCATE)")
        fresh.close()
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{ending}", f"{old}{ending}")
        os.replace(fresh.path, path)
    return saved, old


def _copied(broken: sqlite3.Connection, fresh: Store) -> dict[int, tuple[int, str]]:
    """Copy the processes: their new numbers and keys by their old numbers."""
    copied = {}
    for number, *told, known in _readable(broken, "process", ("id", "key", "settings", "visited", "sum"), "id"):
        with contextlib.suppress(UnicodeError):
            row = tuple(_text(part) for part in told)
            if checksum(*row) == known:
                fresh.write("INSERT OR IGNORE INTO process (key, settings, visited, sum) VALUES (?, ?, ?, ?)", [(*row, known)])
                (copied[number],) = fresh.read("SELECT id, key FROM process WHERE key = ?", row[:1])
    return copied


def _saved(
    broken: sqlite3.Connection, fresh: Store, table: str, columns: Sequence[str], copied: dict[int, tuple[int, str]]
) -> int:
    """Copy the sound rows of a table: how many."""
    saved, marks = 0, ", ".join("?" * (len(columns) + 2))
    with fresh.together():
        for process, *key, content, known in _readable(broken, table, ("process", *columns, "sum"), "process"):
            with contextlib.suppress(UnicodeError):
                told = [_text(part) for part in key]
                number, whose = copied.get(process, (0, ""))
                if number and isinstance(content, bytes) and checksum(whose, *told, content) == known:
                    row = (number, *told, content, known)
                    fresh.write(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", [row])
                    saved += 1
    return saved


def _text(part: Any) -> Any:
    return part.decode() if isinstance(part, bytes) else part


def _readable(broken: sqlite3.Connection, table: str, columns: Sequence[str], order: str) -> Iterator[tuple[Any, ...]]:
    """Rows from either end of a table, up to where it is broken: a row of a sound table once, from its beginning."""
    for direction in ("ASC", "DESC"):
        try:
            yield from broken.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order} {direction}")
            return
        except BROKEN:
            continue


def prune(store: Store, identities: Sequence[str]) -> int:
    """Delete what is kept of the processes whose identities begin with `identities`: how many bytes the file lost.

    Errors: `InputError` where none begins so, or more than one.
    """
    before = _size(store.path)
    known = [(number, key) for number, key, _ in _processes(store)]
    numbers = []
    for identity in identities:
        meant = [number for number, key in known if identity and key.split()[-1].startswith(identity)]
        if len(meant) != 1:
            raise InputError(
                f"{len(meant)} entries have an identity that begins with {identity!r}; conjure store look tells them"
            )
        numbers += meant
    with store.together():
        for number in numbers:
            for table in (*TABLES, "process"):
                column = "id" if table == "process" else "process"
                store.write(f"DELETE FROM {table} WHERE {column} = ?", [(number,)])
    store.write("VACUUM")
    store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - _size(store.path)


def _size(path: Path) -> int:
    return sum(Path(f"{path}{ending}").stat().st_size for ending in ("", "-wal") if Path(f"{path}{ending}").exists())


def export(store: Store, path: str | Path) -> int:
    """Write every sound judgement of `store` to a Parquet file, one row each: how many.

    Columns: identity, text, seed, target, squared (a list, one number a step).
    """
    pyarrow, parquet = parquet_package()
    names = {number: key for number, key, _ in _processes(store)}
    schema = pyarrow.schema(
        [("identity", pyarrow.string()), ("text", pyarrow.string()), ("seed", pyarrow.int64()), ("target", pyarrow.string()),
         ("squared", pyarrow.list_(pyarrow.float64()))]
    )  # fmt: skip
    rows = ((names[process], *key, np.frombuffer(squared)) for (process, *key), squared, sound in _rows(store, "judged") if sound)
    written = 0
    try:
        with whole(Path(path)) as file, parquet.ParquetWriter(file, schema) as writer:
            while group := list(itertools.islice(rows, ROWS)):
                writer.write_table(pyarrow.table([list(column) for column in zip(*group, strict=True)], schema=schema))
                written += len(group)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}; name a file in an existing folder") from error
    return written

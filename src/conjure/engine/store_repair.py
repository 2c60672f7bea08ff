"""Repair of a store: its valid rows are copied into a new file."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conjure.engine.store_database import CURRENT_SCHEMA, StoreDatabase, checksum, read_schema
from conjure.engine.store_file import DATABASE_ERRORS, database_error, is_store_file
from conjure.engine.store_maintenance import store_file
from conjure.engine.store_schema import CONTENT, SCHEMA_2_TABLES, SCHEMA_2_VIEWS, TABLES
from conjure.errors import InputError
from conjure.io.files import output_error


def repair(path: str | Path) -> tuple[int, Path | None]:
    """Replace a damaged store by a new file with its valid rows. The old file is kept under another name.

    Lost results are computed again by the next run that needs them. A store without damage is not changed.

    Args:
        path: The file of the store, or the folder of a run.

    Returns:
        The number of valid rows, and the new path of the old file; None if it was valid and is unchanged.

    Raises:
        InputError: If there is no such file, or it is not a store.
        OutputError: If no new file can be written, or another program has the store open; the store is unchanged then.
    """
    path = store_file(path)
    if not is_store_file(path):
        raise InputError(f"{str(path)!r} is not a store of Conjure, so it is not changed; name a store")
    names = (path.with_name(f"{path.name}.broken{number or ''}") for number in itertools.count())
    old_file = next(name for name in names if not name.exists())  # files of earlier repairs are kept
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".conjure-") as folder:
            new = Path(folder) / "new"
            with contextlib.closing(_open_alone(path)) as database:
                num_rows = _copy(database, new)
                if num_rows == _count_if_intact(database):
                    return num_rows, None
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", f"{old_file}{suffix}")
            os.replace(new, path)
    except OSError as error:
        raise output_error(path, error) from error
    return num_rows, old_file


def _open_alone(path: Path) -> sqlite3.Connection:
    """Open a possibly damaged store, and prevent that another program opens it.

    Otherwise rows that another program adds would count as damage, and it would go on writing to the old file.

    Raises:
        OutputError: If another program has it open.
    """
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN IMMEDIATE")
    except DATABASE_ERRORS as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            database.close()
            raise database_error(path, "cannot be repaired", error) from error
        # A damaged file may have no transactions; what is readable is read without one
    return database


def _count_if_intact(database: sqlite3.Connection) -> int | None:
    """Return the number of rows of a file in which SQLite finds no damage and only the tables of a store."""
    database.text_factory = str
    try:
        if read_schema(database) != CURRENT_SCHEMA:
            return None
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            return None
        return sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in CONTENT)
    except DATABASE_ERRORS:
        return None


def _copy(broken: sqlite3.Connection, new_path: Path) -> int:
    """Copy the valid rows of a store to a new one. Return their number."""
    num_rows = 0
    with contextlib.suppress(*DATABASE_ERRORS):
        if read_schema(broken)[0] & SCHEMA_2_TABLES - TABLES:
            for statement in SCHEMA_2_VIEWS:
                broken.execute(statement)
    broken.text_factory = bytes  # corrupted text may not be valid UTF-8
    new = StoreDatabase(new_path)
    try:
        copied = _copy_processes(broken, new)
        for table, (keys, content) in CONTENT.items():
            num_rows += _copy_rows(broken, new, table, (*keys, content), copied)
        new.read("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        new.close()
    return num_rows


def _copy_processes(broken: sqlite3.Connection, new: StoreDatabase) -> dict[int, tuple[int, str]]:
    """Copy the valid records of processes. Return their new numbers and keys by their old numbers."""
    copied = {}
    for number, *content, crc32 in _iter_readable_rows(broken, "process", ("id", "key", "settings", "metadata", "crc32"), "id"):
        with contextlib.suppress(UnicodeError):
            row = tuple(_decode(part) for part in content)
            if checksum(*row) == crc32:
                new.write("INSERT OR IGNORE INTO process (key, settings, metadata, crc32) VALUES (?, ?, ?, ?)", [(*row, crc32)])
                (copied[number],) = new.read("SELECT id, key FROM process WHERE key = ?", row[:1])
    return copied


def _copy_rows(
    broken: sqlite3.Connection, new: StoreDatabase, table: str, columns: Sequence[str], copied: dict[int, tuple[int, str]]
) -> int:
    """Copy the valid rows of a table. Return their number."""
    saved, placeholders = 0, ", ".join("?" * (len(columns) + 2))
    with new.transaction():
        for process, *key, content, crc32 in _iter_readable_rows(broken, table, ("process", *columns, "crc32"), "process"):
            with contextlib.suppress(UnicodeError):
                decoded = [_decode(part) for part in key]
                number, process_key = copied.get(process, (0, ""))
                if number and isinstance(content, bytes) and checksum(process_key, *decoded, content) == crc32:
                    new.write(f"INSERT OR IGNORE INTO {table} VALUES ({placeholders})", [(number, *decoded, content, crc32)])
                    saved += 1
    return saved


def _decode(part: Any) -> Any:
    return part.decode() if isinstance(part, bytes) else part


def _iter_readable_rows(broken: sqlite3.Connection, table: str, columns: Sequence[str], order: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows before the first and after the last corrupted part of a table. A valid table is read once."""
    for direction in ("ASC", "DESC"):
        try:
            yield from broken.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order} {direction}")
            return
        except DATABASE_ERRORS:
            continue

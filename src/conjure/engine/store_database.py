"""The SQLite file of a store: opening, reading, writing, transactions and checksums."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conjure.engine.store_file import DATABASE_ERRORS, REPAIR_HINT, advice, connect, database_error, is_read_only
from conjure.engine.store_schema import CREATE_TABLES, MIGRATION, READ_ONLY_OVERLAY, SCHEMA_2_TABLES, SCHEMA_VERSION, TABLES
from conjure.errors import InputError, OutputError, ReadOnlyStoreWarning
from conjure.user_warnings import warn_user


def checksum(*parts: str | int | bytes | None) -> int:
    """Return the CRC-32 of the parts of a row: the key of its process, the other keys of the row, and its content."""
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else f"{part}\0".encode(), value)
    return value


# Tables and version together, since other programs use small version numbers too
CURRENT_SCHEMA = (TABLES, SCHEMA_VERSION)


def read_schema(connection: sqlite3.Connection) -> tuple[set[tuple[str, str]], int]:
    """Return types and names of what a database consists of, and its version number. Those of a store: `CURRENT_SCHEMA`."""
    tables = set(connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"))
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return tables, version


class StoreDatabase:
    """The database in the file `path`, which is created if it does not exist.

    A file that cannot be written is read. New rows are then kept in memory until it is closed.

    Args:
        path: The file.

    Attributes:
        path: The file.
        read_only: Whether the file cannot be written.

    Raises:
        InputError: If the file is not a store or is corrupted.
        OutputError: If the file cannot be opened or created.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{str(self.path)!r} cannot be used as a store of results: it is not a regular file; name a file")
        self.read_only = is_read_only(self.path)
        self._warns_of_new_rows = self.read_only
        self._lock = threading.RLock()
        try:
            self.connection = connect(self.path, self.read_only)
            try:
                self._prepare()
            except BaseException:
                self.connection.close()
                raise
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be used as a store of results", error) from error

    def _prepare(self) -> None:
        """Check the schema. Migrate a store of the previous schema, and create the tables of a new one."""
        tables, version = schema = read_schema(self.connection)
        is_schema_2 = tables == SCHEMA_2_TABLES and version == 2
        is_current = schema == CURRENT_SCHEMA
        if tables and not is_current and not is_schema_2:
            raise InputError(f"{str(self.path)!r} is not a store of this version of Conjure; {advice(self.path)}")
        if self.read_only and not is_current:
            raise OutputError(f"{str(self.path)!r} is read-only and has to be changed first; copy it to a writable folder")
        if self.read_only:
            self.connection.executescript(READ_ONLY_OVERLAY)
            return
        if is_schema_2:
            self.connection.executescript(MIGRATION)
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages: 32 MB. The default is less than one large batch
        if not tables:  # an existing store is not written to until there are new results
            self.connection.executescript(CREATE_TABLES)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def get_or_create(self, key: str, settings: str) -> tuple[int, str | None]:
        """Return the record of the process or baseline with this key. Create it if it does not exist.

        Args:
            key: The key.
            settings: The settings in JSON, for a new record.

        Returns:
            The number of the record, and the metadata of its trajectories in JSON (None if there are no trajectories).

        Raises:
            InputError: If the record is corrupted, or the file cannot be written.
        """
        row = (key, settings, None)
        self.write("INSERT OR IGNORE INTO process (key, settings, metadata, crc32) VALUES (?, ?, ?, ?)", [(*row, checksum(*row))])
        return self.lookup(key)

    def lookup(self, key: str) -> tuple[int, str | None]:
        """Return the number and the metadata of the record with an existing key, as `get_or_create` does.

        Raises:
            InputError: If the record is corrupted.
        """
        if (record := self.find(key)) is None:
            raise self._corrupted_record()
        return record

    def find(self, key: str) -> tuple[int, str | None] | None:
        """Return the number and the metadata of the record with this key, or None if there is no such record.

        Raises:
            InputError: If the record is corrupted.
        """
        for number, *content, crc32 in self.read("SELECT id, settings, metadata, crc32 FROM process WHERE key = ?", (key,)):
            if checksum(key, *content) == crc32:
                return number, content[1]
            raise self._corrupted_record()
        return None

    def _corrupted_record(self) -> InputError:
        path = str(self.path)
        return InputError(f"{path!r} is corrupted: the record of a process does not match its checksum; {REPAIR_HINT}")

    def set_metadata(self, key: str, metadata: str) -> None:
        """Store the metadata of the trajectories of a process: timesteps, noise levels and shape of latents, in JSON."""
        ((settings,),) = self.read("SELECT settings FROM process WHERE key = ?", (key,))
        row = (metadata, checksum(key, settings, metadata), key)
        self.write("UPDATE process SET metadata = ?, crc32 = ? WHERE key = ?", [row])

    def read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query.

        Raises:
            InputError: If the file cannot be read.
        """
        try:
            with self._lock:
                return self.connection.execute(query, values).fetchall()
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be read", error) from error

    def write(self, statement: str, rows: Sequence[tuple[object, ...]] | None = None) -> None:
        """Execute a statement once, or once per row if `rows` is given.

        Raises:
            InputError: If the file cannot be written.
        """
        try:
            with self._lock:
                if rows is None:
                    self.connection.execute(statement)
                else:
                    self.connection.executemany(statement, rows)
        except DATABASE_ERRORS as error:
            raise database_error(self.path, "cannot be written", error) from error

    def require_writable(self) -> None:
        """Check that the file can be written.

        Raises:
            OutputError: If it cannot.
        """
        if self.read_only:
            raise OutputError(f"{str(self.path)!r} is read-only; copy it to a writable folder, and give the copy")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Context manager with a transaction: after an error, nothing of it is written.

        Warns:
            ReadOnlyStoreWarning: If the file is read-only, so that new rows are kept in memory only; once.
        """
        if self._warns_of_new_rows:
            self._warns_of_new_rows = False
            warn_user(
                f"{str(self.path)!r} is read-only, so new results are not stored; copy it to a writable folder to store them",
                ReadOnlyStoreWarning,
            )
        with self._lock:
            self.write("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise
            self.write("COMMIT")

"""The file of a store: whether a file is a store, how it is opened, and what is said about a file that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.request import pathname2url

from conjure.engine.store_schema import COLUMN_DEFINITIONS
from conjure.errors import InputError, OutputError
from conjure.io.text import one_line

DATABASE_ERRORS = (sqlite3.Error, UnicodeError)  # UnicodeError if SQLite's message quotes corrupted text of the file
REPAIR_HINT = "fix it with conjure store repair, or name another file"
SCHEMA_BYTES = 65_536  # at the beginning of a file; the schema is on the first page, or in the first transaction of the journal

# What to do about errors that are not due to the content of the file, by SQLite's primary error code
ADVICE = {
    sqlite3.SQLITE_BUSY: "another program is using it; wait until that program has ended",
    sqlite3.SQLITE_LOCKED: "another program is using it; wait until that program has ended",
    sqlite3.SQLITE_FULL: "finished results are kept; free some space and run the same command again",
    sqlite3.SQLITE_IOERR: "finished results are kept; check the disk and its free space, and run the same command again",
    sqlite3.SQLITE_READONLY: "check the permissions of the file and its folder, or name another file",
    sqlite3.SQLITE_PERM: "check the permissions of the file and its folder, or name another file",
    sqlite3.SQLITE_AUTH: "check the permissions of the file and its folder, or name another file",
    sqlite3.SQLITE_CANTOPEN: "check that its folder exists and the permissions of both, or name another file",
}


def is_store_file(path: Path) -> bool:
    """Return whether a file is a store, possibly a damaged one.

    SQLite stores the definitions of the tables as text at the beginning of the file, or in its journal. They are searched there,
    because SQLite cannot read a damaged file.
    """
    for name in (path, Path(f"{path}-wal")):
        try:
            with name.open("rb") as file:
                start = file.read(SCHEMA_BYTES)
        except OSError:
            continue
        if any(definition.encode() in start for definition in COLUMN_DEFINITIONS):
            return True
    return False


def advice(path: Path) -> str:
    """Return what to do about a file whose content is not that of a store: repair helps only if it was one."""
    return REPAIR_HINT if is_store_file(path) else "it is not a store of Conjure; name another file"


def database_error(path: Path, problem: str, error: Exception) -> InputError:
    """Return the error, in one line with its fix, for an error of SQLite.

    Args:
        path: The file.
        problem: What cannot be done with it, such as `cannot be read`.
        error: The error of SQLite.
    """
    extended_code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    code = extended_code & 0xFF
    if extended_code == sqlite3.SQLITE_IOERR_SHORT_READ:  # a truncated file
        code = sqlite3.SQLITE_CORRUPT
    reason = one_line(error)
    if code not in ADVICE:
        return InputError(f"{str(path)!r} {problem}: {reason}; {advice(path)}")
    cls = InputError if code == sqlite3.SQLITE_CANTOPEN and not path.parent.is_dir() else OutputError
    return cls(f"{str(path)!r} {problem}: {reason}; {ADVICE[code]}")


def is_read_only(path: Path) -> bool:
    """Return whether an existing store cannot be written, because of its permissions or those of its folder."""
    if not path.exists():
        return False
    has_journal = all(os.access(f"{path}{suffix}", os.W_OK) for suffix in ("-wal", "-shm"))  # of a program that has it open
    return not (os.access(path, os.W_OK) and (os.access(path.parent, os.W_OK) or has_journal))


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """Open a database.

    Args:
        path: The file.
        read_only: Whether to open it without writing, also not to its folder where that is read-only.

    Raises:
        sqlite3.Error: If it cannot be opened.
    """
    name, uses_uri = str(path.absolute()), False  # absolute, because SQLite has a meaning for `:memory:`
    if read_only:
        journal = Path(f"{path}-wal")
        # SQLite creates a journal even to read, unless nothing can change the file. Without an existing journal it is complete.
        is_complete = not (journal.exists() and journal.stat().st_size)
        immutable = "&immutable=1" if is_complete and not os.access(path.parent, os.W_OK) else ""
        name, uses_uri = f"file:{pathname2url(str(path.absolute()))}?mode=ro{immutable}", True
    return sqlite3.connect(name, isolation_level=None, timeout=60, check_same_thread=False, uri=uses_uri)

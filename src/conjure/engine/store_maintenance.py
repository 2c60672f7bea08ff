"""Maintenance of a store: its contents, their validity, repair, deletion and export."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjure.deprecation import deprecated_property
from conjure.engine.store import Store
from conjure.engine.store_database import StoreDatabase, checksum
from conjure.engine.store_file import DATABASE_ERRORS, REPAIR_HINT, database_error
from conjure.engine.store_schema import CONTENT
from conjure.errors import InputError
from conjure.io.files import atomic_open, check_regular_output, import_pyarrow, output_error, parse_json

ROW_GROUP_SIZE = 100_000  # of an exported Parquet file


@dataclass(frozen=True)
class ProcessSummary:
    """The contents of a store for one process or one baseline.

    Attributes:
        fingerprint: The fingerprint of the process, or of the baseline's settings.
        settings: The settings.
        trajectories: The number of trajectories of a process.
        evaluations: The number of texts that were evaluated on these trajectories, summed over trajectories.
        pairs: The number of pairs of a baseline.
        size: The size of the contents in bytes, without keys and indices.
    """

    fingerprint: str
    settings: dict[str, Any]
    trajectories: int
    evaluations: int
    pairs: int
    size: int

    identity = deprecated_property("identity", "fingerprint")


@dataclass(frozen=True)
class VerificationReport:
    """The result of checking every row.

    Attributes:
        rows: The number of rows.
        corrupted: For each table, the keys of the rows that do not match their checksums. A key begins with the number of the
            process.
    """

    rows: int
    corrupted: dict[str, list[tuple[Any, ...]]]

    @property
    def is_valid(self) -> bool:
        """Whether no row is corrupted."""
        return not any(self.corrupted.values())


def open_store(path: str | Path) -> Store:
    """Open an existing store.

    Args:
        path: The file of the store, or the folder of a run.

    Raises:
        InputError: If there is no store.
    """
    return Store(store_file(path))


def store_file(path: str | Path) -> Path:
    """Return the file of an existing store.

    Args:
        path: The file of the store, or the folder of a run.

    Raises:
        InputError: If there is no store.
    """
    path = Path(path)
    path = path / "store.sqlite" if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise InputError(f"there is no store {str(path)!r}; give the file, or the folder of a run of conjure bench")
    if not os.path.getsize(path):  # opening it would write the tables of a store to it
        raise InputError(f"{str(path)!r} is empty, and is not a store of Conjure, so it is not changed; give the file of a store")
    return path


def summarize(store: Store) -> list[ProcessSummary]:
    """Return the contents of a store, one summary per process or baseline.

    Raises:
        InputError: If the record of a process is corrupted.
    """
    summaries = []
    for number, key, settings in _processes(store.database):
        counts, total_size = {}, 0
        for table, (_, content) in CONTENT.items():
            query = f"SELECT count(*), coalesce(sum(length({content})), 0) FROM {table} WHERE process = ?"
            ((counts[table], size),) = store.database.read(query, (number,))
            total_size += size
        summaries.append(
            ProcessSummary(
                fingerprint=key.split()[-1],
                settings=parse_json(settings, f"{str(store.path)!r}, the settings of a process", allow_nan=True),
                trajectories=counts["final_latents"],
                evaluations=counts["squared_differences"],
                pairs=counts["baseline_distances"],
                size=total_size,
            )
        )
    return summaries


def _processes(database: StoreDatabase) -> list[tuple[int, str, str]]:
    """Return number, key and settings of each process and baseline."""
    processes = database.read("SELECT id, key, settings FROM process ORDER BY id")
    for _, key, _ in processes:
        database.lookup(key)
    return processes


def verify(store: Store) -> VerificationReport:
    """Check every row of a store.

    Raises:
        InputError: If the file is too corrupted to read all rows.
    """
    rows, corrupted = 0, dict[str, list[tuple[Any, ...]]]()
    ((message,),) = store.database.read("PRAGMA quick_check(1)")
    if message != "ok":
        raise InputError(f"{str(store.path)!r} is corrupted: {' '.join(message.split())}; {REPAIR_HINT}")
    for table in CONTENT:
        corrupted[table] = []
        for key, _, is_valid in _iter_rows(store.database, table):
            rows += 1
            if not is_valid:
                corrupted[table].append(key)
    return VerificationReport(rows, corrupted)


def _iter_rows(database: StoreDatabase, table: str) -> Iterator[tuple[tuple[Any, ...], bytes, bool]]:
    """Yield the key of each row of a table (the number of its process first), its content, and whether it is valid."""
    keys, content_column = CONTENT[table]
    process_keys = {number: key for number, key, _ in _processes(database)}
    query = f"SELECT process, {', '.join(keys)}, {content_column}, crc32 FROM {table}"
    try:
        for process, *key, content, crc32 in database.connection.execute(query):
            is_valid = process in process_keys and checksum(process_keys[process], *key, content) == crc32
            yield (process, *key), content, is_valid
    except DATABASE_ERRORS as error:
        raise database_error(database.path, "cannot be read", error) from error


def prune(store: Store, fingerprints: Sequence[str]) -> int:
    """Delete the results of some processes or baselines.

    Args:
        store: The store.
        fingerprints: Prefixes of their fingerprints.

    Returns:
        The number of bytes by which the file became smaller.

    Raises:
        InputError: If a prefix matches no process or baseline, or more than one.
        OutputError: If the store is read-only.
    """
    store.database.require_writable()
    before = _file_size(store.path)
    processes = [(number, key) for number, key, _ in _processes(store.database)]
    numbers = []
    for fingerprint in fingerprints:
        matches = [number for number, key in processes if fingerprint and key.split()[-1].startswith(fingerprint)]
        if len(matches) != 1:
            raise InputError(
                f"{len(matches)} entries have a fingerprint that begins with {fingerprint!r}; conjure store info lists them"
            )
        numbers += matches
    with store.database.transaction():
        for number in numbers:
            for table in (*CONTENT, "process"):
                column = "id" if table == "process" else "process"
                store.database.write(f"DELETE FROM {table} WHERE {column} = ?", [(number,)])
    store.database.write("VACUUM")
    store.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - _file_size(store.path)


def _file_size(path: Path) -> int:
    return sum(Path(f"{path}{suffix}").stat().st_size for suffix in ("", "-wal") if Path(f"{path}{suffix}").exists())


def export(store: Store, path: str | Path) -> int:
    """Write all valid squared differences of a store to a Parquet file, one row per trajectory and evaluated text.

    The columns are fingerprint, text, seed, target, and squared_differences (a list with one number per step).

    Args:
        store: The store.
        path: The file to write.

    Returns:
        The number of rows.

    Raises:
        InputError: If there is no such folder, the path is that of a named pipe or a device, or pyarrow is not installed.
        OutputError: If the file cannot be written.
    """
    pyarrow, parquet = import_pyarrow()
    check_regular_output(Path(path))
    process_keys = {number: key for number, key, _ in _processes(store.database)}
    schema = pyarrow.schema(
        [
            ("fingerprint", pyarrow.string()),
            ("text", pyarrow.string()),
            ("seed", pyarrow.int64()),
            ("target", pyarrow.string()),
            ("squared_differences", pyarrow.list_(pyarrow.float64())),
        ]
    )
    rows = (
        (process_keys[process], *key, np.frombuffer(content))
        for (process, *key), content, is_valid in _iter_rows(store.database, "squared_differences")
        if is_valid
    )
    written = 0
    try:
        with atomic_open(Path(path)) as file, parquet.ParquetWriter(file, schema) as writer:
            while group := list(itertools.islice(rows, ROW_GROUP_SIZE)):
                writer.write_table(pyarrow.table([list(column) for column in zip(*group, strict=True)], schema=schema))
                written += len(group)
    except OSError as error:
        raise output_error(path, error) from error
    return written

"""Stores on read-only media are read, files of other programs are left alone, and repair is advised only where it helps."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import conjure
from conjure import InputError, Store
from conjure.engine.store_database import checksum
from conjure.engine.store_file import database_error, is_store_file
from conjure.engine.store_maintenance import prune, summarize, verify
from conjure.errors import OutputError, ReadOnlyStoreWarning
from stores import NUM_EVALUATIONS, WORDS, StepCounter, execute

NOBODY = 65534


@pytest.fixture
def read_only_store(filled_store, tmp_path, monkeypatch):
    """A copy of the filled store that cannot be written, nor can its folder; `os.access` reports both, also to root."""
    folder = tmp_path / "medium"
    folder.mkdir()
    path = filled_store.copy_to(folder / "s")
    path.chmod(0o444)
    folder.chmod(0o555)
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda name, mode: access(name, mode) and not (mode == os.W_OK and Path(name).is_relative_to(folder))
    )
    yield path
    folder.chmod(0o755)


def test_a_read_only_store_is_read(short_process, filled_store, open_store, read_only_store):
    content = read_only_store.read_bytes()
    store, steps = open_store(read_only_store), StepCounter()
    matrix = conjure.matrix(short_process.set(store=store), WORDS, samples=2, progress=steps)
    assert (matrix.distance == filled_store.matrix.distance).all()
    assert steps.steps == 0
    assert verify(store).is_valid
    assert summarize(store)[0].evaluations == NUM_EVALUATIONS
    assert read_only_store.read_bytes() == content
    assert [file.name for file in read_only_store.parent.iterdir()] == ["s"]


def test_results_that_a_read_only_store_lacks_are_computed(short_process, open_store, read_only_store):
    """One warning; the new results are used until the store is closed, also those of another process."""
    content = read_only_store.read_bytes()
    process = short_process.set(store=open_store(read_only_store))
    with pytest.warns(ReadOnlyStoreWarning, match="is read-only, so new results are not stored; copy it") as caught:
        estimates = [conjure.distance(variant, "puppy", "train", samples=1) for variant in (process, process.set(steps=3))]
    assert [warning.category for warning in caught].count(ReadOnlyStoreWarning) == 1
    for estimate, variant in zip(estimates, (short_process, short_process.set(steps=3)), strict=True):
        assert estimate.samples == pytest.approx(conjure.distance(variant, "puppy", "train", samples=1).samples, rel=1e-5)
    steps = StepCounter()
    assert conjure.distance(process, "puppy", "train", samples=1, progress=steps).to_dict() == estimates[0].to_dict()
    assert conjure.distance(process.set(steps=3), "puppy", "train", samples=1, progress=steps).to_dict() == estimates[1].to_dict()
    assert steps.steps == 0
    baseline = process.store.for_baseline({"name": "b"})
    baseline.add([("a", "b")], np.array([[0.25, 0.5]]))
    assert baseline.load()["a", "b"].tolist() == [0.25, 0.5]
    assert read_only_store.read_bytes() == content


def test_a_corrupted_row_of_a_read_only_store_is_computed_again(short_process, filled_store, open_store, read_only_store):
    read_only_store.chmod(0o644)
    read_only_store.parent.chmod(0o755)
    execute(read_only_store, "UPDATE squared_differences SET crc32 = crc32 + 1 WHERE text = 'puppy' AND target = 'shark'")
    execute(read_only_store, "PRAGMA wal_checkpoint(TRUNCATE)")
    process = short_process.set(store=open_store(read_only_store))
    with pytest.warns(ReadOnlyStoreWarning):
        matrix = conjure.matrix(process, WORDS, samples=2)
    assert matrix.distance == pytest.approx(filled_store.matrix.distance, rel=1e-5)


def test_a_read_only_store_is_not_pruned(short_process, open_store, read_only_store):
    with pytest.raises(OutputError, match="is read-only; copy it to a writable folder, and give the copy"):
        prune(open_store(read_only_store), [short_process.fingerprint()])


def test_the_command_warns_once_of_a_read_only_store(conjure_command, read_only_store):
    for arguments in (("compare", "puppy", "train"), ("matrix", "puppy", "train", "shark")):
        code, out, err = conjure_command(*arguments, "--steps", 1, "--samples", 2, "--store", read_only_store)
        assert (code, err.count("\n"), "is read-only, so new results are not stored" in err) == (0, 1, True)
        assert out


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root to become a user without rights")
def test_a_user_without_rights_reads_a_store(filled_store):
    """The permissions are real here: the file and its folder belong to another user."""
    code = (
        "import os\n"
        "from conjure.engine.store_maintenance import open_store, summarize\n"
        f"os.setuid({NOBODY})\n"
        "print(summarize(open_store(os.environ['STORE']))[0].evaluations)\n"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        path = filled_store.copy_to(Path(folder) / "s")
        path.chmod(0o444)
        os.chmod(folder, 0o555)
        environment = os.environ | {"STORE": str(path)}
        completed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert completed.stdout == f"{NUM_EVALUATIONS}\n", completed.stderr


def test_only_regular_files_are_stores(tmp_path, conjure_command):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        code, out, err = conjure_command("compare", "a", "b", "--steps", 1, "--samples", 1, "--store", path)
        assert (code, out) == (2, "")
        assert err == f"error: {str(path)!r} cannot be used as a store of results: it is not a regular file; name a file\n"


def test_no_name_of_a_file_is_special(tmp_path, monkeypatch):
    """SQLite would keep `:memory:` in memory, and lose the results."""
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "a?b#c%41"):
        Store(name).close()
        assert is_store_file(tmp_path / name)


FOREIGN = {
    "database": "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')",
    "same names": "CREATE TABLE process (id); CREATE TABLE squared_differences (a)",
    "text": None,
    "empty": None,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_repair_refuses_the_file_of_another_program(conjure_command, tmp_path, kind):
    path = tmp_path / "other.sqlite"
    if (statements := FOREIGN[kind]) is not None:
        database = sqlite3.connect(path)
        database.executescript(statements)
        database.close()
    else:
        path.write_bytes(b"no database " * 500 if kind == "text" else b"")
    before = path.read_bytes()
    code, out, err = conjure_command("store", "repair", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is not a store of Conjure, so it is not changed" in err
    assert [file.name for file in tmp_path.iterdir()] == ["other.sqlite"]
    assert path.read_bytes() == before
    if kind != "empty":
        code, _, err = conjure_command("store", "info", path)
        assert (code, "store repair" in err, "it is not a store of Conjure; name another file" in err) == (2, False, True)


def test_a_store_whose_tables_are_in_the_journal_is_a_store(tmp_path):
    """As after a kill before the first checkpoint."""
    with sqlite3.connect(tmp_path / "s") as connection:
        store = Store(tmp_path / "s")
        connection.execute("SELECT 1 FROM process").fetchall()
        assert b"final_latents" not in (tmp_path / "s").read_bytes()
        assert is_store_file(tmp_path / "s")
        store.close()
    connection.close()


@pytest.mark.parametrize(
    ("code", "expected", "advice"),
    [
        (sqlite3.SQLITE_FULL, OutputError, "free some space"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, OutputError, "check the permissions"),
        (sqlite3.SQLITE_BUSY, OutputError, "another program is using it"),
        (sqlite3.SQLITE_LOCKED, OutputError, "another program is using it"),
        (sqlite3.SQLITE_IOERR_WRITE, OutputError, "check the disk"),
        (sqlite3.SQLITE_CANTOPEN, OutputError, "check that its folder exists"),
        (sqlite3.SQLITE_CORRUPT, InputError, "fix it with conjure store repair"),
        (sqlite3.SQLITE_NOTADB, InputError, "fix it with conjure store repair"),
        (sqlite3.SQLITE_IOERR_SHORT_READ, InputError, "fix it with conjure store repair"),
    ],
)
def test_repair_is_advised_only_where_it_helps(filled_store, code, expected, advice):
    error = sqlite3.OperationalError("reason")
    error.sqlite_errorcode = code
    message = database_error(filled_store.path, "cannot be read", error)
    assert type(message) is expected
    assert str(message).startswith(f"{str(filled_store.path)!r} cannot be read: reason; ")
    assert advice in str(message)
    assert ("repair" in str(message)) == (expected is InputError)


def test_repair_on_a_full_disk_changes_nothing(conjure_command, filled_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    before = path.read_bytes()
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard_limit))
    try:
        code, out, err = conjure_command("store", "repair", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft_limit, hard_limit))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_repair_in_a_read_only_folder_changes_nothing(conjure_command, filled_store, tmp_path, monkeypatch, number):
    path = filled_store.copy_to(tmp_path / "s")

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    code, out, err = conjure_command("store", "repair", path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"cannot be written: {os.strerror(number)}" in err
    assert path.read_bytes() == filled_store.path.read_bytes()


@pytest.mark.parametrize(
    "metadata", ["[]", "{}", '{"timesteps": 3}', "[" * 100_000, '{"timesteps": [], "levels": [3], "shape": []}']
)
def test_metadata_of_another_form_is_refused(short_process, filled_store, open_store, tmp_path, metadata):
    """Also if its checksum is right."""
    store = open_store(filled_store.copy_to(tmp_path / "s"))
    ((key,),) = store.database.read("SELECT key FROM process")
    store.database.set_metadata(key, metadata)
    with pytest.raises(InputError, match="the metadata of a process"):
        conjure.distance(short_process.set(store=store), *WORDS[:2], samples=1)


def test_rows_of_another_length_are_computed_again(short_process, filled_store, open_store, tmp_path):
    """Also if their checksum is right."""
    store = open_store(filled_store.copy_to(tmp_path / "s"))
    ((key,),) = store.database.read("SELECT key FROM process")
    for text, seed, target in store.database.read("SELECT text, seed, target FROM squared_differences"):
        row = (b"short", checksum(key, text, seed, target, b"short"), text, seed, target)
        statement = "UPDATE squared_differences SET squared_differences = ?, crc32 = ? WHERE text = ? AND seed = ? AND target = ?"
        store.database.write(statement, [row])
    matrix = conjure.matrix(short_process.set(store=store), WORDS, samples=2)
    assert matrix.distance == pytest.approx(filled_store.matrix.distance, rel=1e-5)

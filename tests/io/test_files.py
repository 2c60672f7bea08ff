"""Files are written completely or not at all, and errors name the file."""

from __future__ import annotations

import math
import os
import stat
import sys

import pytest

from conjure import InputError, Store
from conjure.engine.store_maintenance import export
from conjure.errors import OutputError
from conjure.io.files import MAX_JSON_BYTES, atomic_open, atomic_write, import_pyarrow, read_json, write_output


def test_atomic_open_replaces_the_file_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_open(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_open_keeps_the_old_file_after_an_error(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_and_fail():
        with atomic_open(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_of_ordinary_files(tmp_path):
    ordinary, atomic = tmp_path / "ordinary", tmp_path / "atomic"
    ordinary.write_bytes(b"")
    atomic_write(atomic, b"")
    assert stat.S_IMODE(atomic.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_write_output_makes_parent_folders(tmp_path):
    path = tmp_path / "run" / "images" / "pair.png"
    write_output(path, b"content")
    assert path.read_bytes() == b"content"
    write_output(path, b"other content")
    assert path.read_bytes() == b"other content"


def test_outputs_do_not_replace_pipes(tmp_path):
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is not a regular file; name another file"):
        write_output(pipe, b"x")
    with pytest.raises(InputError, match="is not a regular file; name another file"):
        export(Store(tmp_path / "store.sqlite"), pipe)
    assert pipe.is_fifo()


def test_write_output_reports_the_path_and_the_reason(tmp_path):
    (tmp_path / "run").write_bytes(b"a file, not a folder")
    with pytest.raises(InputError, match="run/summary.json' cannot be written: .+; name a file in a writable folder") as error:
        write_output(tmp_path / "run" / "summary.json", b"{}")
    assert isinstance(error.value.__cause__, OSError)
    assert "\n" not in str(error.value)


def test_a_full_disk_keeps_the_old_output(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_output(path, b"old")

    def raise_disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", raise_disk_full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free some space"):
        write_output(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_pyarrow_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install '\.\[bench\]' in a clone"):
        import_pyarrow()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read: Expecting value"),
        (b"no JSON", "cannot be read: Expecting value"),
        (b"[]", "must contain a JSON object; it contains a list"),
        (b"3", "must contain a JSON object; it contains a number"),
        (b"null", "must contain a JSON object; it contains null"),
        (b'{"a": NaN}', "cannot be read: it contains NaN"),
        (b'{"a": "\\ud800"}', "cannot be read: it contains a lone surrogate"),
        (b'{"a": "\xff"}', "cannot be read: it is not in UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read: Exceeds the limit"),
        (b"[" * 100_000, "cannot be read: it is nested too deeply"),
        (b'{"a":' * 100_000, "cannot be read: it is nested too deeply"),
    ],
)
def test_unreadable_json_is_refused_in_one_line(tmp_path, content, problem):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"^the file {problem}[^\n]*$"):
        read_json(tmp_path / "run.json", "the file")


def test_json_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="^the file does not exist$"):
        read_json(tmp_path / "nowhere", "the file")
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(InputError, match="^the file is not a regular file$"):
            read_json(tmp_path / name, "the file")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(InputError, match="^the file has 64 MB; at most 64 MB are read$"):
        read_json(tmp_path / "huge", "the file")


def test_json_of_an_object_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"low": -Infinity, "text": "ü"}', encoding="utf-8")
    assert read_json(path, "the file") == {"low": -math.inf, "text": "ü"}
    path.write_text('{"a": NaN}')
    assert math.isnan(read_json(path, "the file", allow_nan=True)["a"])

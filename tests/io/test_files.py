"""Files are written completely or not at all, and errors name the file."""

from __future__ import annotations

import stat
import sys

import pytest

from conjure import InputError
from conjure.io.files import atomic_open, atomic_write, import_pyarrow, write_output


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


def test_write_output_reports_the_path_and_the_reason(tmp_path):
    (tmp_path / "run").write_bytes(b"a file, not a folder")
    with pytest.raises(InputError, match="run/summary.json' cannot be written: .+; free some space") as error:
        write_output(tmp_path / "run" / "summary.json", b"{}")
    assert isinstance(error.value.__cause__, OSError)
    assert "\n" not in str(error.value)


def test_a_full_disk_keeps_the_old_output(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_output(path, b"old")

    def raise_disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", raise_disk_full)
    with pytest.raises(InputError, match="cannot be written: No space left on device; free some space"):
        write_output(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_pyarrow_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'conjure\[bench\]'"):
        import_pyarrow()

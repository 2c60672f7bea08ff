"""A file that a user gives is read with a limit, and nothing that may have no end is read."""

from __future__ import annotations

import io
import os
import sys

import pytest

from conjure import InputError
from conjure.io.input_files import read_input, read_input_text


def test_pipes_devices_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(InputError, match="not a regular file; give a file"):
            read_input(path, advice="give a file")
    for path in (tmp_path / "missing", "a\0b"):
        with pytest.raises(InputError, match="cannot be read: .*give a file"):
            read_input(path, advice="give a file")


def test_sizes_are_limited(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"a" * 10**6)
    assert len(read_input(path, 1, advice="")) == 10**6
    path.write_bytes(b"a" * (10**6 + 1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    for source in (path, "-"):
        with pytest.raises(InputError, match="more than 1 MB; .*--max-file-mb"):
            read_input(source, 1, advice="")
    for limit in (2, 10**30):
        assert len(read_input(path, limit, advice="")) == 10**6 + 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "x").write_text("naïve 🐅", encoding=encoding)
    assert read_input_text(tmp_path / "x", advice="") == "naïve 🐅"


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "x").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot be read: it is not a text in UTF-8 or UTF-16 \(see byte 3\); give UTF-8"):
        read_input_text(tmp_path / "x", advice="give UTF-8")


@pytest.mark.parametrize(("signature", "name"), [(b"PAR1", "Parquet"), (b"PK\x03\x04", "Excel")])
def test_binary_formats_are_named(tmp_path, signature, name):
    (tmp_path / "x").write_bytes(signature + b"\x15\0\x15")
    with pytest.raises(InputError, match=f"{name}.*, not text; give UTF-8"):
        read_input_text(tmp_path / "x", advice="give UTF-8")
    (tmp_path / "x").write_bytes(signature + b" is a text")  # a text may begin in the same way
    assert read_input_text(tmp_path / "x", advice="give UTF-8").endswith(" is a text")

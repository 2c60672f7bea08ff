"""Files that are written completely or not at all, and the optional package for Parquet tables."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from conjure.errors import InputError


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to `path`, completely or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_open(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """Context manager with a binary file that replaces `path` when the block ends without an error.

    A reader of `path` reads either the old content or the complete new content.

    Raises:
        OSError: If the file cannot be written.
    """
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".conjure-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_output(path: Path, content: bytes) -> None:
    """Write a file of a run, completely or not at all. Missing parent folders are created.

    Raises:
        InputError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}; free some space and run the same command again"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("Parquet tables need the package pyarrow: pip install 'conjure[bench]'") from error
    return pyarrow, parquet

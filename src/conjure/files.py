"""Files that are written whole or not at all, and the package that tables need."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from conjure.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Errors: `OSError`."""
    with whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` in the end, so that nobody ever meets half of it. Errors: `OSError`."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".conjure-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def parquet_package() -> tuple[Any, Any]:
    """pyarrow and its part for Parquet. Errors: `InputError` where it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("tables of pairs need the package pyarrow: pip install 'conjure[bench]'") from error
    return pyarrow, parquet

"""Files that are written completely or not at all, files of JSON, and the optional package for Parquet tables."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from conjure.errors import InputError, OutputError
from conjure.io.text import one_line

MAX_JSON_BYTES = 64_000_000  # of a file of JSON; the largest that Conjure writes have some megabytes
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_SUCH_FOLDER = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


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


def check_regular_output(path: Path, what: str = "") -> None:
    """Check that an output would not replace a named pipe or a device.

    Args:
        path: The output.
        what: What the output is and a space, for the message.

    Raises:
        InputError: If it would.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # pathlib's raise for names that are too long
        raise InputError(f"{what}{str(path)!r} is not a regular file; name another file")


def check_output(path: str | Path, suffixes: Sequence[str], what: str) -> Path:
    """Return `path` if a file can be written to it. Call this before any long computation.

    Args:
        path: Name of the output file.
        suffixes: Allowed endings of the name, in lower case.
        what: What is written to it, such as `figure`, for error messages.

    Raises:
        InputError: The suffix is not allowed, the folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{what} {str(path)!r} ends with {path.suffix!r}; allowed are {', '.join(suffixes)}")
    try:
        if path.is_dir() or not path.parent.is_dir():
            problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist, {str(path.parent)!r}"
            raise InputError(f"{what} {str(path)!r} {problem}; name a file in an existing folder")
        check_regular_output(path, f"{what} ")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        is_new = not path.exists()
        path.open("ab").close()
        if is_new:
            path.resolve().unlink()  # a link to a file that does not exist is kept
    except OSError as error:
        raise InputError(f"{what} {str(path)!r} cannot be written: {error.strerror}; name a writable file") from error
    return path


def write_output(path: Path, content: bytes, make_folders: bool = True) -> None:
    """Write an output file, completely or not at all.

    Args:
        path: The file.
        content: Its content.
        make_folders: Whether missing parent folders are created.

    Raises:
        InputError: If there is no such folder, or the path is that of a named pipe or a device.
        OutputError: If the file cannot be written.
    """
    check_regular_output(path)
    try:
        if make_folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
    except OSError as error:
        raise output_error(path, error) from error


@contextlib.contextmanager
def keeping(result: object) -> Iterator[None]:
    """Context manager in which the files of a result are written.

    Raises:
        OutputError: If one cannot be written. The error has the result as an attribute, so that it is not lost.
    """
    try:
        yield
    except InputError as error:
        raise OutputError(str(error), result) from error


def output_error(path: str | Path, error: OSError) -> InputError:
    """Return the error, in one line with its fix, for a file that cannot be written.

    Args:
        path: The file.
        error: Why it cannot be written.
    """
    advice = "free some space and run the same command again" if error.errno in FULL_DISK else "name a file in a writable folder"
    cls = InputError if isinstance(error, NO_SUCH_FOLDER) else OutputError
    return cls(f"{str(path)!r} cannot be written: {error.strerror or error}; {advice}")


def read_json(path: Path, what: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Read a file that contains a JSON object.

    Args:
        path: The file.
        what: What the file is, as the subject of messages, such as `the file 'run.json'`.
        allow_nan: Whether NaN, which JSON does not define, is allowed. Infinities always are, since configurations of schedulers
            contain them.

    Returns:
        The object.

    Raises:
        InputError: If the file is missing, unreadable, not a regular file, too large, not in UTF-8, or not a JSON object.
    """
    try:
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise InputError(f"{what} {problem}")
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise InputError(f"{what} has {size / 1e6:,.0f} MB; at most {MAX_JSON_BYTES / 1e6:.0f} MB are read")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} cannot be read: it is not in UTF-8") from error
    return parse_json(text, what, allow_nan=allow_nan)


def parse_json(text: str, what: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Return the JSON object in `text`. The other arguments and the errors are those of `read_json`."""

    def parse_constant(name: str) -> float:
        if name == "NaN" and not allow_nan:
            raise ValueError("it contains NaN")
        return float(name)

    try:
        value = json.loads(text, parse_constant=parse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate could be neither printed nor written later
    except RecursionError as error:
        raise InputError(f"{what} cannot be read: it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{what} cannot be read: it contains a lone surrogate") from error
    except ValueError as error:
        raise InputError(f"{what} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} must contain a JSON object; it contains {describe_json(value)}")
    return value


def describe_json(value: Any) -> str:
    """Return the type of a JSON value in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def import_pandas() -> Any:
    """Return the module `pandas`.

    Raises:
        InputError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("data frames need the package pandas: pip install pandas") from error
    return pandas


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("Parquet tables need the package pyarrow: pip install '.[bench]' in a clone") from error
    return pyarrow, parquet


def parquet_bytes(table: Any) -> bytes:
    """Return the content of a Parquet file that holds a table of pyarrow."""
    pyarrow, parquet = import_pyarrow()
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content

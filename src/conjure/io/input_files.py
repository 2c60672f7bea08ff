"""Files that users give: read with a limit of their size, and never from something that may have no end."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from conjure.errors import InputError

MAX_FILE_MB = 100
BYTES_PER_READ = 1_000_000
STANDARD_INPUT = "-"
BINARY_FORMATS = {b"PAR1": "a Parquet file", b"PK\x03\x04": "an Excel file or another zip archive"}  # by their first bytes


def read_input(path: str | Path, max_mb: int = MAX_FILE_MB, *, advice: str) -> bytes:
    """Return the content of a regular file, or of standard input for `-`.

    Args:
        path: The file.
        max_mb: The largest size, in units of 10^6 bytes.
        advice: What to give instead, for error messages.

    Raises:
        InputError: If the file cannot be read, is not a regular file, or is larger than `max_mb`.
    """
    limit = max_mb * 10**6
    try:
        content = _read(path, limit + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}; {advice}") from error
    if content is None:
        raise InputError(f"{str(path)!r} cannot be read: it is not a regular file; {advice}")
    if len(content) > limit:
        raise InputError(f"{str(path)!r} has more than {max_mb:,} MB; give a smaller file, or raise the limit by --max-file-mb")
    return content


def _read(path: str | Path, size: int) -> bytes | None:
    """Return the first `size` bytes of a file; None if it is not a regular file."""
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None:
            raise OSError("standard input is closed")
        return _read_at_most(sys.stdin.buffer, size)
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe without a writer would block, and a device may have no end
        return None
    with open(path, "rb") as file:
        return _read_at_most(file, size)


def _read_at_most(file: BinaryIO, size: int) -> bytes:
    """Return the first `size` bytes of a file. `file.read(size)` would allocate them, even for a small file."""
    parts = []
    while size > 0 and (part := file.read(min(size, BYTES_PER_READ))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_input_text(path: str | Path, max_mb: int = MAX_FILE_MB, *, advice: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark. Arguments are those of `read_input`.

    Raises:
        InputError: As `read_input`, and if the file has another encoding or is a known binary format.
    """
    return decode_input(read_input(path, max_mb, advice=advice), path, advice=advice)


def decode_input(content: bytes, path: str | Path, *, advice: str) -> str:
    """Return the text of the content of a file. The encodings are those of `read_input_text`.

    Args:
        content: The content.
        path: The file, for error messages.
        advice: What to give instead, for error messages.

    Raises:
        InputError: If the content has another encoding, or is a known binary format, whose bytes can be valid UTF-8.
    """
    for signature, name in BINARY_FORMATS.items():
        if content.startswith(signature) and b"\0" in content:
            raise InputError(f"{str(path)!r} cannot be read: it is {name}, not text; {advice}")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"it is not a text in UTF-8 or UTF-16 (see byte {error.start + 1:,})"
        raise InputError(f"{str(path)!r} cannot be read: {problem}; {advice}") from error

"""Standard streams that are closed, full, or read by a program that has ended."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any

from conjure.errors import OutputError

STANDARD_OUTPUT = "standard output"
CLOSED = "standard output is closed, so the result cannot be printed; redirect it to a file, or to /dev/null"


class StandardOutput(io.FileIO):
    """The file of standard output: an error names it, as an error of another file names that one."""

    def write(self, data: Any) -> int:
        """Write `data` and return the number of written bytes."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


class BestEffortFile(io.FileIO):
    """A file to which writing never fails: what cannot be written is discarded."""

    def write(self, data: Any) -> int:
        """Write `data` and return the number of bytes that need not be written again."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def prepare_standard_streams() -> None:
    """Make the standard streams of this process usable.

    Closed descriptors are opened, because the next file that is opened, such as a store, would get their number, and messages of
    libraries would be written to it. Messages that standard error cannot take are discarded, because a result is worth more.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is `descriptor`
            os.set_inheritable(descriptor, True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot encode a text
    if os.name != "posix":  # a console of Windows is not a file of bytes
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(StandardOutput(1, "w", closefd=False)),
            sys.stdout.encoding,
            errors="replace",
            line_buffering=sys.stdout.line_buffering,
            write_through=sys.stdout.write_through,
        )
    messages = io.BufferedWriter(BestEffortFile(2, "w", closefd=False))
    encoding = getattr(sys.stderr, "encoding", "utf-8")
    sys.stderr = io.TextIOWrapper(messages, encoding, errors="replace", line_buffering=True)


def check_standard_output() -> None:
    """Check that standard output can be written, before anything is computed.

    Raises:
        OutputError: If it is closed.
        OSError: If it cannot be written.
    """
    if sys.stdout is None:
        raise OutputError(CLOSED)
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file, as in tests
        return
    try:
        os.write(descriptor, b"")
    except OSError as error:
        if error.errno == errno.EBADF:
            raise OutputError(CLOSED) from error
        error.filename = STANDARD_OUTPUT
        raise


def flush_output() -> None:
    """Write what is buffered of standard output, so that an error is reported.

    Raises:
        OSError: If it cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_unwritable_output() -> None:
    """Write what is buffered of standard output, or discard what cannot be written, which Python would try again at the exit."""
    try:
        flush_output()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())

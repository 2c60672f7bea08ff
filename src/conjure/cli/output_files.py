"""Output files of commands: an error of a file does not lose the printed result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from conjure.cli.streams import flush_output
from conjure.errors import InputError, OutputError

R = TypeVar("R")


def check_is_not_input(out: str, file: str | None) -> None:
    """Check that an output file is not the file that a command reads.

    Raises:
        InputError: If it is.
    """
    if file is not None and os.path.realpath(out) == os.path.realpath(file):
        raise InputError(f"the output {out!r} is the input; name another file")


def check_folder(path: str) -> None:
    """Check that a folder for output files exists or can be created, before anything is computed.

    Raises:
        InputError: If the path is blank or a file, or its parent folder does not exist.
    """
    if not path.strip() or (os.path.lexists(path) and not os.path.isdir(path)):
        raise InputError(f"{path!r} is not a folder; name a new or an existing folder")
    if not os.path.isdir(parent := os.path.dirname(os.path.abspath(path))):
        raise InputError(f"the folder {parent!r} does not exist; create it, or name another folder")


@contextlib.contextmanager
def files_after_output(
    files: Sequence[tuple[str, Callable[[str], object]]], announce: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Context manager in which the result is printed, and after which output files are written.

    All files are written, also if the result cannot be printed.

    Args:
        files: The path of each file, and a function that writes it.
        announce: Called with a line about each file that was written.

    Raises:
        OutputError: If a file cannot be written, after all others. The input was valid, even if its folder is missing by now.
    """
    is_printed = False
    try:
        yield
        flush_output()
        is_printed = True
    finally:
        errors = []
        for path, write in files:
            try:
                write(path)
            except InputError as error:
                errors.append(error)
            else:
                if announce is not None and is_printed:
                    announce(f"wrote {path}")
        if errors:
            raise OutputError("; ".join(map(str, errors))) from errors[0]


def result_and_writer(compute: Callable[[], R]) -> tuple[R, Callable[[str], None]]:
    """Return the result of a function that also writes it, and a function that raises the error if it could not be written.

    Args:
        compute: A function that raises an `OutputError` with its result if the result cannot be written.
    """
    try:
        return compute(), lambda _: None
    except OutputError as error:
        if error.result is None:
            raise
        failure = error

    def raise_failure(_: str) -> None:
        raise failure

    return failure.result, raise_failure

"""The commands of `conjure`, and how they end."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from conjure.cli.aliases import CommandWithAliases
from conjure.cli.app import serve_app
from conjure.cli.bench import ablate, bench, diff
from conjure.cli.check import check
from conjure.cli.compare import compare, matrix
from conjure.cli.console import EXIT_FAILURE, EXIT_INVALID_INPUT, fail
from conjure.cli.drift import drift
from conjure.cli.nearest import nearest
from conjure.cli.store import store_app
from conjure.errors import InputError, OutputError
from conjure.io.files import FULL_DISK
from conjure.io.version import package_version

EXIT_INTERRUPTED = 130  # typer returns it after Ctrl-C

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _print_version(requested: bool) -> None:
    if requested:
        print(f"conjure {package_version()}")
        raise typer.Exit


@app.callback()
def conjure(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure the similarity of texts by the predictions of a text-to-image diffusion model."""


for command in (compare, matrix, nearest, drift, check, bench, diff, ablate):
    app.command(cls=CommandWithAliases)(command)
app.command("app", cls=CommandWithAliases)(serve_app)
app.add_typer(store_app, name="store")


def run(arguments: list[str] | None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The command and its options; `sys.argv` for None.

    Raises:
        SystemExit: After invalid input.
        KeyboardInterrupt: After Ctrl-C.
    """
    try:
        code = app(arguments, standalone_mode=False)
        flush_output()
    except OutputError as error:
        fail(str(error), EXIT_FAILURE)
    except InputError as error:
        fail(str(error), EXIT_INVALID_INPUT)
    except typer.TyperException as error:
        fail(f"{error.format_message()} (see conjure --help)", EXIT_INVALID_INPUT)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except BrokenPipeError:  # the reader, such as head, has ended; this is no failure of the command
        discard_output()
        return EXIT_FAILURE
    except OSError as error:
        discard_output()
        name = repr(error.filename) if error.filename else "standard output"
        advice = "; free some space and run the same command again" if error.errno in FULL_DISK else ""
        fail(f"{name} cannot be used: {error.strerror or error}{advice}", EXIT_FAILURE)
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def flush_output() -> None:
    """Write what is buffered of standard output, so that an error is reported.

    Raises:
        OSError: If it cannot be written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Discard what is buffered of standard output, which Python would try to write again at the exit."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), descriptor)

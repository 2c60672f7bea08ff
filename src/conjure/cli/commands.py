"""The commands of `conjure`, and how they end."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from conjure.cli.aliases import CommandWithAliases, Group
from conjure.cli.app import serve_app
from conjure.cli.bench import ablate, bench, diff
from conjure.cli.calibrate import calibrate
from conjure.cli.check import check
from conjure.cli.compare import compare, matrix
from conjure.cli.console import EXIT_FAILURE, EXIT_INVALID_INPUT, print_error
from conjure.cli.distances import distances
from conjure.cli.drift import drift
from conjure.cli.nearest import nearest
from conjure.cli.store import store_app
from conjure.cli.streams import STANDARD_OUTPUT, check_standard_output, discard_unwritable_output, flush_output
from conjure.errors import InputError, OutputError
from conjure.io.files import FULL_DISK
from conjure.io.version import package_version

EXIT_INTERRUPTED = 130  # typer returns it after Ctrl-C

HYPHEN_HINT = (
    "; a text that begins with a hyphen follows two hyphens, after all options: "
    'conjure compare --samples 5 -- "-20 degrees" frost'
)

app = typer.Typer(cls=Group, pretty_exceptions_enable=False, rich_markup_mode="rich")


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
    """Measure the similarity of texts by the predictions of a diffusion model of images, videos or sounds."""


for command in (compare, matrix, nearest, distances, calibrate, drift, check, bench, diff, ablate):
    app.command(cls=CommandWithAliases)(command)
app.command("app", cls=CommandWithAliases)(serve_app)
app.add_typer(store_app, name="store")


def check_environment() -> None:
    """Check what libraries need: without a current folder, those of PyTorch abort; without docstrings, diffusers fails.

    Raises:
        InputError: If the current folder was deleted or cannot be read, or Python removes docstrings.
    """
    if sys.flags.optimize > 1:
        raise InputError("Python runs with -OO or PYTHONOPTIMIZE=2, which removes docstrings that libraries need; leave it out")
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the current folder cannot be used: {error.strerror}; change to another folder") from error


def _hyphen_hint(error: typer.TyperException) -> str:
    """Return what to do if an unknown option was meant as a text; empty unless the command takes texts."""
    option = getattr(error, "option_name", None)
    if option is None or (getattr(error, "possibilities", None) and " " not in option):  # a mistyped option
        return ""
    command = getattr(getattr(error, "ctx", None), "command", None)
    takes_texts = any((parameter.metavar or "").startswith("TEXT") for parameter in getattr(command, "params", ()))
    return HYPHEN_HINT if takes_texts else ""


def run(arguments: list[str] | None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The command and its options; `sys.argv` for None.

    Raises:
        SystemExit: If the program that reads standard output has ended.
        KeyboardInterrupt: After Ctrl-C.
    """
    try:
        check_standard_output()
        check_environment()
        code = app(arguments, standalone_mode=False)
        flush_output()
    except BrokenPipeError:  # the reader, such as head, has ended; this is no failure of the command
        code = EXIT_FAILURE
    except OutputError as error:
        code = print_error(str(error), EXIT_FAILURE)
    except InputError as error:
        code = print_error(str(error), EXIT_INVALID_INPUT)
    except typer.TyperException as error:
        code = print_error(f"{error.format_message()} (see conjure --help){_hyphen_hint(error)}", EXIT_INVALID_INPUT)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except OSError as error:
        name = error.filename if error.filename == STANDARD_OUTPUT else repr(error.filename)
        subject = f"{name} cannot be used: " if error.filename is not None else ""
        advice = "; free some space and run the same command again" if error.errno in FULL_DISK else ""
        code = print_error(f"{subject}{error.strerror or error}{advice}", EXIT_FAILURE)
    finally:
        discard_unwritable_output()
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0

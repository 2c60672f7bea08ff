"""The command `conjure`. Exit codes: 0 on success, 2 for invalid input (one line on standard error), 1 for any other failure."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from conjure.cli.aliases import CommandWithAliases
from conjure.cli.app import serve_app
from conjure.cli.bench import ablate, bench, diff
from conjure.cli.check import check
from conjure.cli.compare import compare, matrix
from conjure.cli.console import EXIT_FAILURE, fail, stderr
from conjure.cli.nearest import nearest
from conjure.cli.store import store_app
from conjure.errors import InputError
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


for command in (compare, matrix, nearest, check, bench, diff, ablate):
    app.command(cls=CommandWithAliases)(command)
app.command("app", cls=CommandWithAliases)(serve_app)
app.add_typer(store_app, name="store")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: The command and its options; `sys.argv` by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot encode a text
    try:
        code = app(arguments, standalone_mode=False)
    except InputError as error:
        fail(str(error))
    except typer.TyperException as error:
        fail(f"{error.format_message()} (see conjure --help)")
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        stderr.print("interrupted")
        code = EXIT_FAILURE
    sys.exit(code if isinstance(code, int) else 0)

"""The group of commands `store`: inspect and maintain files of stored results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from conjure.cli.aliases import Command, Group, print_renamed
from conjure.cli.console import EXIT_FAILURE, print_json
from conjure.cli.options import AsJson
from conjure.errors import InputError
from conjure.io.formatting import pluralize

MAX_KEYS_SHOWN = 5

StoreFile = Annotated[
    str, typer.Argument(metavar="STORE", help="Store file, or run folder of conjure bench.", show_default=False)
]

store_app = typer.Typer(
    cls=Group, help="Inspect and maintain a store: a file of stored results (--store), or a run folder of conjure bench."
)


@store_app.command(cls=Command)
def info(store: StoreFile, as_json: AsJson = False) -> None:
    """List the processes and baselines in a store, with the number of their results."""
    from conjure.engine.store_maintenance import open_store, summarize

    summaries = summarize(open_store(store))
    if as_json:
        print_json([asdict(summary) for summary in summaries], allow_nan=True)
        return
    from conjure.cli.display import print_store

    print_store(summaries)


@store_app.command(cls=Command, hidden=True)
def look(store: StoreFile, as_json: AsJson = False) -> None:
    """Run `info`, which replaces this command."""
    print_renamed("conjure store look", "conjure store info")
    info(store, as_json)


@store_app.command(cls=Command)
def verify(store: StoreFile) -> None:
    """Verify the checksum of each row. Exit with 0 if all are valid, and with 1 if not."""
    from conjure.engine.store_maintenance import open_store, verify

    report = verify(open_store(store))
    num_corrupted = sum(map(len, report.corrupted.values()))
    print(f"{report.rows - num_corrupted:,} of {report.rows:,} rows are valid")
    if not report.is_valid:
        for table, keys in report.corrupted.items():
            for _, *key in keys[:MAX_KEYS_SHOWN]:
                print(f"corrupted in {table}: {' / '.join(map(repr, key))}")
        print("Corrupted rows are computed again when a run needs them; conjure store repair removes them.")
        raise typer.Exit(EXIT_FAILURE)


@store_app.command(cls=Command)
def repair(store: StoreFile) -> None:
    """Replace a corrupted store by a new file with its valid rows. The other rows are computed again when a run needs them.

    A valid store is not changed.
    """
    from conjure.engine.store_repair import repair

    num_rows, old_file = repair(store)
    rows = pluralize(num_rows, "row")
    print(f"{rows}, all valid; nothing was changed" if old_file is None else f"{rows} copied; the old file is {old_file}")


@store_app.command(cls=Command)
def prune(
    store: StoreFile,
    fingerprints: Annotated[
        list[str],
        typer.Argument(
            metavar="FINGERPRINT...", help="Fingerprints, or their first characters (conjure store info).", show_default=False
        ),
    ],
) -> None:
    """Delete all results of some processes or baselines."""
    from conjure.engine.store_maintenance import open_store, prune

    change = prune(open_store(store), fingerprints) / 1e6
    print(f"the store is {abs(change):.1f} MB {'larger' if change < 0 else 'smaller'}")


@store_app.command(cls=Command)
def export(
    store: StoreFile,
    out: Annotated[str, typer.Argument(metavar="FILE", help="Output file, which must end with .parquet.", show_default=False)],
) -> None:
    """Write all squared differences of predictions, one row per evaluated prompt, to a Parquet file."""
    from conjure.engine.store_maintenance import export, open_store

    if not out.endswith(".parquet"):
        raise InputError(f"out is {out!r}; it must end with .parquet")
    print(f"wrote {export(open_store(store), out):,} rows")

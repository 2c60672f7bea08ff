"""The command `distances`: the distances of a list of pairs, as a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import conjure
from conjure.cli.bench import print_plan
from conjure.cli.completion import complete_divergence
from conjure.cli.console import (
    EXIT_FAILURE,
    ProgressBar,
    TruncationWarnings,
    deprecations_printed,
    escape,
    print_text,
    print_warning,
    stderr,
)
from conjure.cli.options import Antithetic, MaxFileMB, MaxPairs, NumSamplesWithError, RawTexts, Seed, Shuffle, Weighting
from conjure.cli.output_files import check_is_not_input, files_after_output, result_and_writer
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.errors import InputError
from conjure.io.input_files import MAX_FILE_MB


@with_process_options()
def distances(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table of pairs (.csv, .tsv, .jsonl, .parquet), or - for standard input. Other columns are kept.",
            show_default=False,
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns of the first and the second texts, as in text1,text2. Without this option: known names of columns.",
            show_default=False,
        ),
    ] = None,
    max_pairs: MaxPairs = None,
    shuffle: Shuffle = None,
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    samples: NumSamplesWithError = 3,
    seed: Seed = 0,
    divergence: Annotated[
        list[str] | None,
        typer.Option(
            help="Divergence: jeffreys, kl, initial, final or direct; repeatable. The first one is the column distance.",
            show_default="jeffreys",
            autocompletion=complete_divergence,
        ),
    ] = None,
    weighting: Weighting = "uniform",
    antithetic: Antithetic = False,
    out: Annotated[
        str | None,
        typer.Option(
            help="Write the table to a .csv, .jsonl or .parquet file; the same command resumes an interrupted run. "
            "Without this option: it is printed."
        ),
    ] = None,
    *,
    process_options: ProcessOptions,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON Lines instead of comma-separated values.")] = False,
    raw_texts: RawTexts = False,
) -> None:
    """Compute the distances of pairs: one row per pair with distance, standard error, 95% interval and both directions."""
    from conjure.evaluation.columns import parse_text_columns
    from conjure.evaluation.text_pairs import read_text_pairs

    if as_jsonl and out is not None:
        raise InputError("both --jsonl and --out are given; the suffix of the output file selects its format")
    if raw_texts and (as_jsonl or (out is not None and not out.lower().endswith(".csv"))):
        raise InputError("--raw-texts is given without comma-separated values, which it is about; leave it out")
    if out is not None:
        from conjure.evaluation.distance_table import TABLE_SUFFIXES
        from conjure.io.files import check_output

        check_output(out, TABLE_SUFFIXES, "table")
        check_is_not_input(out, file)
    names: list[Any] = divergence or ["jeffreys"]  # `validated_sampling` refuses other names
    with deprecations_printed():
        pairs = read_text_pairs(file, parse_text_columns(columns), max_mb=max_file_mb).choose(max_pairs, shuffle)
    sampling: dict[str, Any] = {"samples": samples, "seed": seed, "weighting": weighting, "antithetic": antithetic}
    for name in names:
        validated_sampling((text for pair in pairs.texts for text in pair), process_options.unit, **sampling, divergence=name)
    process = process_options.load()
    with TruncationWarnings(), ProgressBar() as progress:
        table, write = result_and_writer(
            lambda: conjure.distance_table(
                process, pairs, **sampling, divergences=names, out=out, raw_texts=raw_texts, progress=progress,
                on_start=print_plan,
            )
        )  # fmt: skip
    with files_after_output([] if out is None else [(out, write)], lambda line: stderr.print(escape(line))):
        if out is not None:
            print_text(f"{table}\n")
        else:
            print_text(table.to_jsonl() if as_jsonl else table.to_csv(raw=raw_texts))
    if table.non_finite_texts:
        print_warning(table.notes[0])
        raise typer.Exit(EXIT_FAILURE)

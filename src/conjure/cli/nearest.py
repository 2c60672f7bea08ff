"""The command `nearest`: the candidates with the smallest distances to a text."""

from __future__ import annotations

from typing import Annotated

import typer

import conjure
from conjure.cli.console import ProgressBar, TruncationWarnings, print_json
from conjure.cli.options import (
    Antithetic,
    AsJson,
    Divergence,
    MaxFileMB,
    Seed,
    Weighting,
    parse_fraction,
)
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.io.input_files import MAX_FILE_MB


@with_process_options()
def nearest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to which the candidates are compared.", show_default=False)],
    candidates: Annotated[
        str, typer.Option(help="File of candidate texts, one per line, or - for standard input.", show_default=False)
    ],
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    top: Annotated[int, typer.Option(help="Number of nearest texts to find.")] = 1,
    samples: Annotated[int, typer.Option(help="Maximum number of Monte-Carlo samples per candidate.")] = 32,
    confidence: Annotated[
        str, typer.Option(metavar="FRACTION", help="Probability that none of the nearest texts is eliminated (0.95 or 95%).")
    ] = "0.95",
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    antithetic: Antithetic = False,
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
) -> None:
    """Rank candidates by their distance to a text; candidates that cannot be among the nearest are eliminated early."""
    from conjure.similarity.validation import check_ranking, read_groups

    candidate_texts = [candidate for group in read_groups(candidates, max_file_mb) for candidate in group]
    min_confidence = parse_fraction(confidence, "--confidence")
    check_ranking(candidate_texts, top, min_confidence)
    sampling = validated_sampling(
        (text, *candidate_texts),
        process_options.unit,
        samples=samples,
        seed=seed,
        divergence=divergence,
        weighting=weighting,
        antithetic=antithetic,
    )
    process = process_options.load()
    with TruncationWarnings(), ProgressBar() as progress:
        neighbours = conjure.nearest(
            process, text, candidate_texts, **sampling, top=top, confidence=min_confidence, progress=progress
        )
    if as_json:
        print_json(neighbours.to_dict())
        return
    from conjure.cli.display import print_neighbours

    print_neighbours(neighbours)

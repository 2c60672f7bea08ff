"""The commands `compare` and `matrix`: distances of two texts, and of all pairs of several texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

import conjure
from conjure.cli.console import ProgressBar, TruncationWarnings, print_json, print_text, truncation_as_error
from conjure.cli.options import (
    Antithetic,
    AsJson,
    Divergence,
    MaxFileMB,
    NumSamplesWithError,
    RawTexts,
    Seed,
    Weighting,
    parse_fraction,
)
from conjure.cli.output_files import check_folder, files_after_output
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.errors import InputError
from conjure.io.input_files import MAX_FILE_MB


@with_process_options("workers", "ray")
def compare(
    first: Annotated[str, typer.Argument(metavar="TEXT", help="First text.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="TEXT", help="Second text.", show_default=False)],
    samples: NumSamplesWithError = 3,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    reduction: Annotated[str, typer.Option(help="Reduction over the dimensions of the latents: sum or mean.")] = "sum",
    antithetic: Antithetic = False,
    target_relative_error: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION",
            help="Add samples until the half-width of the 95% interval is this fraction of the distance (0.05 or 5%).",
        ),
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Write the images of the trajectories to a .png, .svg, .pdf or .html file.")
    ] = None,
    heatmap_scale: Annotated[
        str,
        typer.Option(
            help="Color scale of the heat maps of single steps: log or linear (the same for all steps), or step (each its own)."
        ),
    ] = "log",
    media: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write what both texts generate in the first sample to a folder: .png images, .gif videos or .wav sounds.",
        ),
    ] = None,
    words: Annotated[
        bool,
        typer.Option(
            "--words",
            help="Measure the effect of each word: how the divergence along the trajectories of the other text changes if it is "
            "removed.",
        ),
    ] = False,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Measure the effect of replacing the word OLD by NEW, as with --words; repeatable.",
            show_default=False,
        ),
    ] = None,
    *,
    process_options: ProcessOptions,
    strict: Annotated[bool, typer.Option("--strict", help="Reject texts that the text encoder truncates.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two texts: how far do the model's predictions for them differ?"""
    from conjure.similarity.validation import check_words, parse_replacements

    replacements = parse_replacements(replace or (), "--replace")
    target = None if target_relative_error is None else parse_fraction(target_relative_error, "--target-relative-error")
    if figure is not None:
        from conjure.io.files import check_output
        from conjure.plotting.heatmaps import check_heatmap_scale
        from conjure.plotting.output import FIGURE_SUFFIXES

        check_output(figure, FIGURE_SUFFIXES, "figure")
        check_heatmap_scale(heatmap_scale)
    elif heatmap_scale != "log":
        raise InputError("--heatmap-scale is given without --figure; give a file for the figure")
    if media is not None:
        check_folder(media)
        if figure is not None and os.path.realpath(figure) == os.path.realpath(media):
            raise InputError(f"both --figure and --media are {media!r}; name a file and a folder")
    if words or replacements:
        check_words(first, second, replacements, divergence)
    sampling = validated_sampling(
        (first, second, *replacements.values()), process_options.unit, samples=samples, seed=seed, divergence=divergence,
        weighting=weighting, reduction=reduction, antithetic=antithetic, target_relative_error=target,
    )  # fmt: skip
    process = process_options.load()
    attribution = None
    with truncation_as_error(strict), ProgressBar() as progress:
        if figure is not None or media is not None:
            from conjure.explanation.explain import DEFAULT_SAMPLES_SHOWN

            has_sliders = figure is not None and figure.lower().endswith(".html")  # other figures show one sample
            explanation = conjure.explain(
                process, first, second, **sampling, words=words, replacements=replacements, progress=progress,
                samples_shown=DEFAULT_SAMPLES_SHOWN if has_sliders else 1,
            )  # fmt: skip
            estimate, attribution = explanation.estimate, explanation.words
        else:
            estimate = conjure.distance(process, first, second, **sampling, progress=progress)
            if words or replacements:
                del sampling["target_relative_error"]
                sampling["samples"] = len(estimate.samples)
                attribution = conjure.attribute(process, first, second, **sampling, replacements=replacements, progress=progress)
    files: list[tuple[str, Callable[[str], object]]] = []
    if figure is not None:
        files.append((figure, lambda path: explanation.save(path, heatmap_scale=cast(Any, heatmap_scale))))
    if media is not None:
        files.append((media, explanation.save_media))
    with files_after_output(files, None if as_json else lambda line: print_text(f"  {line}\n")):
        if as_json:
            print_json(estimate.to_dict() | ({} if attribution is None else {"words": attribution.to_list()}))
        else:
            from conjure.cli.display import print_estimate

            print_estimate(estimate, attribution)


@with_process_options()
def matrix(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts.", show_default=False)] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="Read the texts from a file, one per line, or from standard input (-). "
            "Blank lines separate groups, whose silhouette is then measured."
        ),
    ] = None,
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    samples: NumSamplesWithError = 3,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    antithetic: Antithetic = False,
    figure: Annotated[
        str | None, typer.Option(help="Write a heat map with a dendrogram to a .png, .svg, .pdf or .html file.")
    ] = None,
    mds: Annotated[
        str | None,
        typer.Option(help="Write a scatter plot (multidimensional scaling) of the texts to a .png, .svg or .pdf file."),
    ] = None,
    similarity: Annotated[
        bool,
        typer.Option(
            "--similarity",
            help="Print similarities instead of distances: shares of unrelated pairs that are farther apart.",
        ),
    ] = False,
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print the distances and their standard errors as comma-separated values.")
    ] = False,
    raw_texts: RawTexts = False,
) -> None:
    """Compare all pairs of texts: distances, standard errors and clusters."""
    from conjure.io.files import check_output
    from conjure.plotting.output import EMBEDDING_SUFFIXES, FIGURE_SUFFIXES
    from conjure.similarity.validation import check_matrix_texts, read_groups

    if as_json and as_csv:
        raise InputError("both --json and --csv are given; give only one of them")
    if raw_texts and not as_csv:
        raise InputError("--raw-texts is given without --csv; give both, or none")
    if bool(texts) == (file is not None):
        raise InputError("give either texts or a file of texts (--file)" + (", not both" if texts else ""))
    groups = [list(texts or ())] if file is None else read_groups(file, max_file_mb)
    all_texts = check_matrix_texts(text for group in groups for text in group)
    sampling = validated_sampling(
        all_texts, process_options.unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
        antithetic=antithetic,
    )  # fmt: skip
    if figure is not None:
        check_output(figure, FIGURE_SUFFIXES, "figure")
    if mds is not None:
        check_output(mds, EMBEDDING_SUFFIXES, "figure")
        if figure is not None and os.path.realpath(figure) == os.path.realpath(mds):
            raise InputError(f"both --figure and --mds are {mds!r}; name two files")
    process = process_options.load()
    if similarity:
        from conjure.similarity.calibration import require_calibration

        require_calibration(process)
    with TruncationWarnings(), ProgressBar() as progress:
        result = conjure.matrix(process, all_texts, **sampling, progress=progress)
    separation = result.separation(groups) if len(groups) > 1 else None
    files: list[tuple[str, Callable[[str], object]]] = [] if figure is None else [(figure, result.save)]
    if mds is not None:
        files.append((mds, lambda path: result.save_mds(path, groups)))
    with files_after_output(files, None if as_json or as_csv else lambda line: print_text(f"{line}\n")):
        if as_json:
            print_json(result.to_dict() | ({} if separation is None else {"separation": separation.to_dict()}))
        elif as_csv:
            print_text(result.to_csv(raw=raw_texts, similarity=similarity))
        else:
            from conjure.cli.display import print_matrix

            print_matrix(result, separation, similarity)

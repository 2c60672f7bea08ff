"""The command `drift`: how far two processes differ on the same texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

import conjure
from conjure.cli.console import ProgressBar, TruncationWarnings, escape, print_result, print_text, stderr
from conjure.cli.options import AsJson, MaxFileMB, NumSamplesWithError, Seed
from conjure.cli.output_files import check_is_not_input, files_after_output
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.errors import InputError
from conjure.io.input_files import MAX_FILE_MB

MAX_ROWS = 40  # texts in the printed table
# Settings that another process over the same weights can have
SETTINGS = ("steps", "guidance", "scheduler")


@with_process_options("workers", "ray", "compile")
def drift(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts.", show_default=False)] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="Read the texts from a file, one per line, or from standard input (-). Blank lines separate groups, which are "
            "compared with each other. Without texts and file: 500 built-in texts in eight groups."
        ),
    ] = None,
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    other: Annotated[
        str | None, typer.Option(help="The other model. Without this option: the same model with other settings.")
    ] = None,
    other_steps: Annotated[int | None, typer.Option(min=1, help="Number of denoising steps of the other process.")] = None,
    other_guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale of the other process.")] = None,
    other_scheduler: Annotated[str | None, typer.Option(help="Scheduler of the other process.")] = None,
    other_dtype: Annotated[str | None, typer.Option(help="Data type of the weights of the other process.")] = None,
    other_variant: Annotated[str | None, typer.Option(help="Variant of the weight files of the other process.")] = None,
    other_lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE_OR_NAME[:WEIGHT]", help="LoRA of the other process, as in --lora; repeatable.", show_default=False
        ),
    ] = None,
    other_textual_inversion: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Textual inversion of the other process; repeatable.", show_default=False),
    ] = None,
    other_quantize: Annotated[
        str | None, typer.Option(help="Type of the denoiser's weights in the other process, as in --quantize.")
    ] = None,
    other_negative_prompt: Annotated[
        str | None, typer.Option(help="Negative prompt of the other process.", show_default=False)
    ] = None,
    samples: NumSamplesWithError = 3,
    seed: Seed = 0,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Compare how the two processes arrange the texts, by the ranks of all distances: for models of different kinds.",
        ),
    ] = False,
    figure: Annotated[
        str | None,
        typer.Option(help="Write the images of the texts that changed most and least to a .png, .svg, .pdf or .html file."),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Number of texts that changed most, and of those that changed least, in the figure.")
    ] = 2,
    out: Annotated[str | None, typer.Option(help="Write one row per text to a .csv or .parquet file, or all to .json.")] = None,
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one row per text as comma-separated values.")] = False,
) -> None:
    """Compare two processes on the same texts: two models, or two settings of one model. For which texts do they differ?

    An option --other-... that is not given has the value of the option without other.
    """
    from conjure.io.files import check_output
    from conjure.plotting.output import FIGURE_SUFFIXES
    from conjure.process_drift.validation import MIN_ARRANGED_TEXTS, TABLE_SUFFIXES, check_drift_arguments, named_groups
    from conjure.similarity.validation import read_groups

    if as_json and as_csv:
        raise InputError("both --json and --csv are given; give only one of them")
    if texts and file is not None:
        raise InputError("give either texts or a file of texts (--file), not both")
    changes: dict[str, Any] = {
        "model": other, "steps": other_steps, "guidance": other_guidance, "scheduler": other_scheduler, "dtype": other_dtype,
        "variant": other_variant, "lora": other_lora or None, "textual_inversion": other_textual_inversion or None,
        "quantize": other_quantize, "negative_prompt": other_negative_prompt,
    }  # fmt: skip
    changes = {name: value for name, value in changes.items() if value is not None}
    if not changes:
        raise InputError(
            "both processes are the same; give the other model (--other), or another setting, as in --other-guidance 5"
        )
    groups = [list(texts)] if texts else [] if file is None else read_groups(file, max_file_mb)
    all_texts = [text for group in groups for text in group]
    sampling = validated_sampling(all_texts, process_options.unit, samples=samples, seed=seed)
    if groups or file is not None:
        check_drift_arguments(all_texts, images)
    compared = named_groups(groups) if len(groups) > 1 else all_texts or None
    if matrix and (as_csv or figure is not None or out is not None or process_options.unit is not None):
        raise InputError("--matrix is given with --csv, --figure, --out or --unit; it prints a table or JSON (--json) only")
    if matrix and len(all_texts) < MIN_ARRANGED_TEXTS:
        raise InputError(f"--matrix is given with {len(all_texts)} texts; give at least {MIN_ARRANGED_TEXTS}, or a file (--file)")
    if figure is not None:
        check_output(figure, FIGURE_SUFFIXES, "figure")
    if out is not None:
        check_output(out, TABLE_SUFFIXES, "table")
        check_is_not_input(out, file)
    process_a: Any = process_options.load_silently  # the progress bar is shown while they are loaded
    process_b: Any = replace(process_options, **changes).load_silently
    if changes.keys() <= set(SETTINGS):  # one model in memory serves both
        from conjure.diffusion.pipeline_kwargs import with_negative_prompt

        process_a = process_options.load()
        process_b = process_a.set(**changes)
        # refused if B does not use it
        with_negative_prompt(process_b.pipeline_kwargs, process_options.negative_prompt, process_b.pipeline, process_b.guidance)
    if matrix:
        with TruncationWarnings(), ProgressBar() as progress:
            from conjure.process_drift.arrangement import compare_arrangements

            arrangement = compare_arrangements(process_a, process_b, all_texts, **sampling, progress=progress)
        print_result(arrangement.to_dict(), arrangement.document().to_markdown(), as_json)
        return
    with TruncationWarnings(), ProgressBar() as progress:
        result = conjure.drift(
            process_a, process_b, compared, **sampling, images=0 if figure is None else images, progress=progress
        )
    files: list[tuple[str, Callable[[str], object]]] = [] if figure is None else [(figure, result.save)]
    if out is not None:
        files.append((out, result.save_table))
    with files_after_output(files, lambda line: stderr.print(escape(line))):
        if as_csv:
            print_text(result.to_csv())
        else:
            print_result(result.to_dict(), result.document(MAX_ROWS).to_markdown(), as_json)

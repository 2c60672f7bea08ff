"""The commands `bench`, `diff` and `ablate`: correlation of a model's distances with human ratings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import conjure
from conjure.cli.console import (
    ProgressBar,
    TruncationWarnings,
    deprecations_printed,
    escape,
    print_result,
    print_warning,
    silence,
    stderr,
)
from conjure.cli.options import (
    Antithetic,
    AsJson,
    Columns,
    DataPath,
    Device,
    Divergence,
    MaxFileMB,
    MaxPairs,
    NumSamples,
    RunFolder,
    Seed,
    Shuffle,
    Tasks,
    Weighting,
)
from conjure.cli.output_files import files_after_output, result_and_writer
from conjure.cli.process import ProcessOptions, validated_sampling, with_process_options
from conjure.errors import InputError
from conjure.io.input_files import MAX_FILE_MB

if TYPE_CHECKING:
    from conjure.io.documents import Document

DEFAULT_AXES = ("prior", "weighting")  # they need no further run of the model


@with_process_options()
def bench(
    tasks: Tasks = None,
    data: DataPath = None,
    columns: Columns = None,
    max_pairs: MaxPairs = None,
    shuffle: Shuffle = None,
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    samples: NumSamples = 1,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    antithetic: Antithetic = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Also evaluate a baseline on the same pairs, such as encoder or sentence:MODEL; repeatable.", show_default=False
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images per text, for baselines that compare sets of images.")] = 16,
    floors: Annotated[
        bool,
        typer.Option(
            "--floors/--no-floors",
            help="Also measure what the text encoder alone reaches, and the model with shuffled texts, on at most 100 pairs of "
            "each dataset.",
        ),
    ] = True,
    out: RunFolder = None,
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
) -> None:
    """Measure the rank correlation of a model's similarities with human ratings. The same command resumes an interrupted run."""
    from conjure.baselines.names import check_baseline_names
    from conjure.evaluation.datasets import load_tasks

    check_baseline_names(baseline or ())
    sampling = validated_sampling(
        (), process_options.unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, antithetic=antithetic
    )
    with deprecations_printed():
        data_sets = load_tasks(tasks, data, max_pairs, columns, max_file_mb, shuffle)
    process = process_options.load()
    from conjure.baselines.registry import make_baselines
    from conjure.evaluation.report import markdown

    baselines = make_baselines(baseline or (), process, samples=samples, seed=seed, images=images)
    folder = out or f"bench-{process.fingerprint()[:12]}"
    with TruncationWarnings(), ProgressBar() as progress:
        evaluation, write = result_and_writer(
            lambda: conjure.evaluate(
                process,
                data_sets,
                **sampling,
                baselines=baselines,
                floors=floors,
                out=folder,
                progress=progress,
                on_start=print_plan,
            )
        )
    note = "; its report.html also lists the pairs with the largest residuals"
    with files_after_output([(folder, write)], lambda line: stderr.print(escape(line + note))):
        print_result(evaluation.summary(), markdown(evaluation, pairs=False), as_json, evaluation.non_finite_texts)


def diff(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN [RUN]...", help="Two or more run folders of conjure bench.", show_default=False),
    ],
    images: Annotated[
        int, typer.Option(min=0, help="Generate images with both models for this many pairs per dataset; for two runs.")
    ] = 0,
    out: Annotated[str | None, typer.Option(help="Write the comparison to a .html or .md file.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: is the difference significant, and which pairs change rank the most?

    More than two runs, such as those of checkpoints, are compared with the first, with a chart over the steps of training, which
    are the last numbers in the names of the folders.
    """
    if len(runs) < 2:
        raise InputError(f"only the run {runs[0]!r} is given; give at least two run folders")
    if out is not None and not out.endswith((".html", ".md")):
        raise InputError(f"out is {out!r}; it must end with .html or .md")
    if images and (out is None or not out.endswith(".html")):
        raise InputError("images can only be written to an HTML page; give --out FILE.html as well")
    if images and len(runs) > 2:
        raise InputError(f"images can only be generated for two runs; {len(runs)} are given")
    from conjure.io.files import write_output

    summary, document = _compare_two(runs[0], runs[1], images, device) if len(runs) == 2 else _compare_many(runs)

    def write(path: str) -> None:
        write_output(Path(path), (document.to_html() if path.endswith(".html") else document.to_markdown()).encode())

    with files_after_output([] if out is None else [(out, write)], lambda line: stderr.print(escape(line))):
        print_result(summary, document.to_markdown(), as_json)


def _compare_two(first: str, second: str, images: int, device: str | None) -> tuple[dict[str, Any], Document]:
    from conjure.evaluation.comparison import generate_images

    comparison = conjure.diff(first, second)
    generated, note = None, ""
    if images:
        with stderr.status("generating images"):
            silence()
            try:
                generated = generate_images(comparison, images, device)
            except InputError as error:  # such as that of a pipeline that was only in memory
                print_warning(f"{error}; the comparison is written without images")
                note = f"This page has no images: {error}"
    return comparison.summary(), comparison.document(generated, note)


def _compare_many(runs: list[str]) -> tuple[dict[str, Any], Document]:
    series = conjure.diff_runs(runs)
    return series.summary(), series.document()


@with_process_options()
def ablate(
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Setting to vary, with its values: steps=5,10,20, guidance=1,3, scheduler=lms,ddim, size=512,768, model=A,B; "
            "or prior, samples or weighting, which take no values since one run provides them all; repeatable.",
            show_default="prior, weighting",
        ),
    ] = None,
    tasks: Tasks = None,
    data: DataPath = None,
    columns: Columns = None,
    max_pairs: MaxPairs = None,
    shuffle: Shuffle = None,
    max_file_mb: MaxFileMB = MAX_FILE_MB,
    samples: NumSamples = 1,
    seed: Seed = 0,
    out: RunFolder = None,
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
) -> None:
    """Vary one setting at a time and measure the correlation with human ratings. The same command resumes an interrupted run."""
    from conjure.evaluation.axes import check_axes
    from conjure.evaluation.datasets import load_tasks

    axes: dict[str, list[str]] = {}
    for axis, _, values in (setting.partition("=") for setting in vary or DEFAULT_AXES):
        axes.setdefault(axis, []).extend(value.strip() for value in values.split(",") if value.strip())
    check_axes(axes)
    sampling = validated_sampling((), process_options.unit, samples=samples, seed=seed)
    with deprecations_printed():
        data_sets = load_tasks(tasks, data, max_pairs, columns, max_file_mb, shuffle)
    process = process_options.load()
    folder = out or f"ablate-{process.fingerprint()[:12]}"
    with TruncationWarnings(), ProgressBar() as progress:
        ablation, write = result_and_writer(
            lambda: conjure.ablate(process, data_sets, axes, **sampling, out=folder, progress=progress, on_start=print_plan)
        )
    with files_after_output([(folder, write)], lambda line: stderr.print(escape(f"{line}, with one figure per setting"))):
        print_result(ablation.summary(), ablation.document().to_markdown(), as_json, ablation.non_finite_texts)


def print_plan(plan: str) -> None:
    """Print a description of the work."""
    stderr.print(escape(plan))

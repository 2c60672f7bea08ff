"""The command `conjure`: a thin face of the Python calls. Exit code 0 done, 2 bad input (one line on standard error), 1 else."""

from __future__ import annotations

import gc
import io
import json
import math
import sys
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import markup
from rich.console import Console

from conjure.digits import between, counted, rounded
from conjure.errors import InputError, NoWorkersWarning, TextCutWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conjure.matrices import Matrix
    from conjure.process import Process
    from conjure.run import Progress
    from conjure.store import Store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def plain(text: str) -> str:
    """`text` without what would steer the terminal that shows it."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def escape(text: str) -> str:
    """`text` as it is to be shown: it neither styles nor steers anything."""
    return markup.escape(plain(text))


# What several commands take
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps T.")]
Model = Annotated[str, typer.Option(help="default, a folder in diffusers' format, or a Hub name (owner/name@revision).")]
Guidance = Annotated[float | None, typer.Option(min=0, help="Classifier-free guidance scale; the model's own if not given.")]
Scheduler = Annotated[str | None, typer.Option(help="lms, ddim, euler, ... or own; LMS for noise models if not given.")]
Seed = Annotated[int, typer.Option(help="Of the noise, which all texts share.")]
Divergence = Annotated[str, typer.Option(help="jeffreys, kl, initial, final or direct.")]
Weighting = Annotated[str, typer.Option(help="uniform (the paper's) or girsanov (nats).")]
Unit = Annotated[
    str | None, typer.Option(help="For uniform: output, epsilon, x0, score or velocity; the model's own if not given.")
]
Antithetic = Annotated[
    bool,
    typer.Option("--antithetic", help="Start the two texts of a pair from opposite noise: less error at the same cost."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best there is if not given.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")]
Tasks = Annotated[
    str | None, typer.Option(help="Names such as stsb,sickr, or seven; all nine of the paper if not given.", show_default=False)
]
Data = Annotated[str | None, typer.Option(help="A folder of sets, or one .tsv of your own; the Hugging Face Hub if not given.")]
Limit = Annotated[int | None, typer.Option(help="The first pairs of every set only.")]
Draws = Annotated[int, typer.Option(help="Monte-Carlo draws k.")]
Folder = Annotated[
    str | None, typer.Option(help="Folder that keeps the run; the same command goes on there. A name of its own if not given.")
]
Kept = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="CONJURE_STORE", help="A file of results, which other commands may share: nothing is computed twice."
    ),
]
Count = Annotated[
    int | None,
    typer.Option("--workers", help="Compute in so many processes (needs Ray): one a GPU, or one a core.", show_default=False),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--ray", envvar="CONJURE_RAY", help="Compute on the Ray cluster at this address, such as auto.", show_default=False
    ),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the denoiser: slow to start, for long runs.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"conjure {version('conjure')}")
        raise typer.Exit


@app.callback()
def conjure(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """How similar texts are by what they make a text-to-image diffusion model conjure."""


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="TEXT", help="One text.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="TEXT", help="The other text.", show_default=False)],
    model: Model = "default",
    samples: Annotated[int, typer.Option(help="Monte-Carlo draws k; an error bar needs at least 2.")] = 3,
    steps: Steps = 10,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit = None,
    reduction: Annotated[str, typer.Option(help="sum or mean over dimensions.")] = "sum",
    antithetic: Antithetic = False,
    precision: Annotated[
        float | None, typer.Option(help="Draw on until the 95 % interval is this share of the distance to either side.")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="Write the pictures, step by step, to a .png, .svg, .pdf or .html file.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Tell as well what each word does: the change when it is left out.")
    ] = False,
    instead: Annotated[
        list[str] | None,
        typer.Option(help="And what another word in its place does, as OLD=NEW; may be given again.", show_default=False),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Kept = None,
    compiled: Compiled = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a text that the text encoder would cut.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two texts: how far apart is what the model conjures for them?"""
    if figure is not None:
        from conjure.render import check_path

        check_path(figure)
    replaced: dict[str, str] = {}
    for one in instead or ():
        old, sign, new = one.partition("=")
        if not sign:
            raise InputError(f"instead is {one!r}; allowed are a word and another, as snow=desert")
        if old in replaced:
            raise InputError(f"instead names {old!r} twice; give each word one other")
        replaced[old] = new
    if words or replaced:
        from conjure.checks import check_words

        check_words(first, second, replaced, divergence)
    texts = (first, second, *replaced.values())
    _check(texts, samples, seed, antithetic, precision, divergence, weighting, unit, reduction)
    sampler: dict[str, Any] = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "unit": unit}
    process = _load(model, store, device=device, dtype=dtype, compile=compiled, **sampler)
    from conjure import attribute, distance, explain

    options: dict[str, Any] = {
        "samples": samples, "seed": seed, "divergence": divergence, "weighting": weighting, "reduction": reduction,
        "antithetic": antithetic,
    }  # fmt: skip
    with warnings.catch_warnings(), _Bar() as progress:
        warnings.simplefilter("error" if strict else "default", TextCutWarning)  # once a text, not once a batch
        try:
            said = None
            if figure is None:
                estimate = distance(process, first, second, precision=precision, progress=progress, **options)
                if words or replaced:
                    drawn = options | {"samples": len(estimate.samples)}
                    said = attribute(process, first, second, instead=replaced, progress=progress, **drawn)
            else:
                explanation = explain(
                    process, first, second, precision=precision, words=words, instead=replaced, progress=progress, **options
                )
                explanation.save(figure)
                estimate, said = explanation.estimate, explanation.words
        except TextCutWarning as cut:
            raise InputError(str(cut)) from cut
    if as_json:
        told = estimate.to_dict() | ({} if said is None else {"words": said.to_list()})
        print(json.dumps(told, default=str, allow_nan=False))
        return
    out = Console(soft_wrap=True, highlight=False, emoji=False)
    out.print(f"[bold]{escape(str(estimate))}[/]  {estimate.divergence}, {estimate.unit}")
    out.print(f"  {rounded(estimate.forward, estimate.stderr):>8}  along what “{escape(first)}” conjures")
    out.print(f"  {rounded(estimate.backward, estimate.stderr):>8}  along what “{escape(second)}” conjures")
    low, high = estimate.asymmetry_ci95
    if low > 0 or high < 0:
        asymmetry = rounded(estimate.asymmetry, (high - low) / 2, sign="+")
        sure = between((low, high), sign="+")
        out.print(f"  {asymmetry:>8}  more along the first than along the second (95 %: {sure})")
    peak = max(range(len(estimate.per_step)), key=estimate.per_step.__getitem__)
    when = f"most at t = {estimate.timesteps[peak]:.0f}" if estimate.per_step[peak] else "at none"
    out.print(f"  {counted(len(estimate.samples), 'sample')} of {counted(steps, 'step')}; they differ {when}")
    if said is not None:
        out.print("  words, and how the divergence from what the other text conjures changes without them:")
        for effect in said.effects:
            out.print(f"  {effect!s:>18}  {escape(effect.done)} in “{escape(effect.text)}”")
    used = estimate.process
    guided = "" if used["guidance"] is None else f", guidance {used['guidance']:g}"
    out.print(f"  [dim]model {escape(used['model'])}, {used['scheduler']}{guided}, seed {seed}[/]")
    if figure is not None:
        out.print(f"  wrote {escape(figure)}")


@app.command()
def matrix(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="The texts.", show_default=False)] = None,
    file: Annotated[
        str | None, typer.Option(help="A file with a text a line instead; blank lines part groups, whose separation is told.")
    ] = None,
    model: Model = "default",
    samples: Annotated[int, typer.Option(help="Monte-Carlo draws k; an error bar needs at least 2.")] = 3,
    steps: Steps = 10,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit = None,
    antithetic: Antithetic = False,
    figure: Annotated[
        str | None, typer.Option(help="Write a heat map with its tree to a .png, .svg, .pdf or .html file.")
    ] = None,
    plane: Annotated[
        str | None, typer.Option("--map", help="Write the texts as points of a plane to a .png, .svg or .pdf file.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Kept = None,
    workers: Count = None,
    ray: Cluster = None,
    compiled: Compiled = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the distances as comma-separated values.")] = False,
) -> None:
    """Compare all texts with all: distances, errors, and which of them stand together."""
    from conjure.render import MAP_ENDINGS, check_path

    if as_json and as_csv:
        raise InputError("both --json and --csv are given; allowed is one of them")
    if bool(texts) == (file is not None):
        raise InputError("give texts, or a file of texts by --file" + (", not both" if texts else ""))
    from conjure.checks import check_texts, read_groups

    groups = [list(texts or ())] if file is None else read_groups(file)
    all_texts = check_texts(text for group in groups for text in group)
    _check(all_texts, samples, seed, antithetic, None, divergence, weighting, unit)
    if figure is not None:
        check_path(figure)
    if plane is not None:
        check_path(plane, MAP_ENDINGS)
    sampler = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "unit": unit}
    process = _load(model, store, workers, ray, device=device, dtype=dtype, compile=compiled, **sampler)
    from conjure.matrices import matrix

    with _Cuts(), _Bar() as progress:
        found = matrix(process, all_texts, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
                       antithetic=antithetic, progress=progress)  # fmt: skip
    apart = found.separation(groups) if len(groups) > 1 else None
    if figure is not None:
        found.save(figure)
    if plane is not None:
        found.save_map(plane, groups)
    if as_json:
        told = found.to_dict()
        if apart is not None:
            ci95 = None if math.isnan(apart.ci95[0]) else apart.ci95
            told["separation"] = {"silhouette": apart.silhouette, "ci95": ci95, "of": apart.of}
        print(json.dumps(told, default=str, allow_nan=False))
        return
    if as_csv:
        print(found.to_csv(), end="")
        return
    out = Console(highlight=False, emoji=False)
    _print_matrix(out, found)
    drawn = f"{counted(samples, 'sample')} of {counted(steps, 'step')}"
    note = f"{found.divergence}, {found.unit}; {drawn}, model {escape(model)}; the tree: at what mean distance texts join"
    out.print(f"[dim]{note}[/]", soft_wrap=True)
    if apart is not None:
        out.print(f"the {len(groups)} groups stand apart by a mean silhouette of {apart}", soft_wrap=True)
    for written in (figure, plane):
        if written is not None:
            out.print(f"wrote {escape(written)}", soft_wrap=True)


@app.command()
def nearest(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text whose neighbours are looked for.", show_default=False)],
    among: Annotated[str, typer.Option(help="A file with a text a line: the candidates.", show_default=False)],
    top: Annotated[int, typer.Option(help="How many of the nearest are to be found.")] = 1,
    model: Model = "default",
    samples: Annotated[int, typer.Option(help="Monte-Carlo draws that a candidate gets at most.")] = 32,
    confidence: Annotated[float, typer.Option(help="How sure it is to be that none of the nearest is given up.")] = 0.95,
    steps: Steps = 10,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit = None,
    antithetic: Antithetic = False,
    device: Device = None,
    dtype: Dtype = None,
    store: Kept = None,
    workers: Count = None,
    ray: Cluster = None,
    compiled: Compiled = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Rank candidates by their distance to a text; those that cannot win are given up early."""
    from conjure.checks import check_ranking, read_groups

    candidates = [one for group in read_groups(among) for one in group]
    check_ranking(candidates, top, confidence)
    _check((text, *candidates), samples, seed, antithetic, None, divergence, weighting, unit)
    sampler = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "unit": unit}
    process = _load(model, store, workers, ray, device=device, dtype=dtype, compile=compiled, **sampler)
    from conjure.neighbours import nearest

    with _Cuts(), _Bar() as progress:
        found = nearest(process, text, candidates, top=top, samples=samples, confidence=confidence, seed=seed,
                        divergence=divergence, weighting=weighting, antithetic=antithetic, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(found.to_dict(), default=str, allow_nan=False))
        return
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for head in ("", "distance", "95 %", "samples"):
        table.add_column(head, justify="left" if not head else "right", overflow="fold")
    for one in found.ranked:
        cells = (rounded(one.distance, one.stderr), between(one.ci95, one.stderr), str(one.samples))
        table.add_row(escape(one.text), *cells, style="dim" if one.out else "")
    out = Console(highlight=False, emoji=False)
    out.print(table)
    sure = f"sure at {confidence:.0%}" if found.settled else f"not yet sure at {confidence:.0%}: more --samples would tell"
    out.print(
        f"[dim]{found.divergence}, {found.unit}; the {'nearest is' if top == 1 else f'{top} nearest are'} {sure}; "
        f"{found.sources} of {found.most_sources} trajectories walked[/]",
        soft_wrap=True,
    )


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="default, a folder in diffusers' format, or a Hub name (owner/name@revision).")],
    steps: Steps = 4,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    height: Annotated[int | None, typer.Option(help="Pixels; the model's own if not given.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; the model's own if not given.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that a model keeps what Conjure asks of it: the engine against the stock pipeline, one text at a time.

    Exits with 0 if all holds, and with 1 if not.
    """
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "height": height, "width": width}
    process = _load(model, device=device, dtype=dtype, **options)
    from dataclasses import asdict

    from conjure.contract import CHECKS, check_model
    from conjure.process import short
    from conjure.units import output_of

    out = Console(soft_wrap=True, highlight=False, emoji=False, quiet=as_json)
    own, used = (short(type(one).__name__) for one in (process.pipeline.scheduler, process.scheduler))
    sampler = used if used == own else f"{used} (its own is {own})"
    out.print(f"[bold]{escape(model)}[/]: {type(process.pipeline).__name__}, {sampler}, predicts {output_of(process.scheduler)}")
    findings = []
    for finding in check_model(process):
        findings.append(finding)
        mark = "[green]holds[/]" if finding.passed else "[red]FAILS[/]"
        out.print(f"  {mark}  {finding.name:<{max(map(len, CHECKS))}}  [dim]{escape(finding.detail)}[/]")
    passed = all(finding.passed for finding in findings)
    if as_json:
        record = {"model": model, "passed": passed, "checks": [asdict(one) for one in findings], "process": process.settings()}
        print(json.dumps(record, default=str))
    if not passed:
        raise typer.Exit(1)


@app.command()
def bench(
    tasks: Tasks = None,
    data: Data = None,
    limit: Limit = None,
    model: Model = "default",
    samples: Draws = 1,
    steps: Steps = 10,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit = None,
    antithetic: Antithetic = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Another measure of the same pairs, such as encoder or sentence:MODEL; may be given again.", show_default=False
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures a text, for baselines of pictures.")] = 16,
    out: Folder = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Kept = None,
    workers: Count = None,
    ray: Cluster = None,
    compiled: Compiled = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Measure how well a model agrees with people on sets of judged pairs. Stop it at any time; the same command goes on."""
    from conjure.benchmarks import read_tasks

    _check((), samples, seed, antithetic, None, divergence, weighting, unit)
    wanted = read_tasks(tasks, data, limit)
    sampler = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "unit": unit}
    process = _load(model, store, workers, ray, device=device, dtype=dtype, compile=compiled, **sampler)
    from conjure.baselines import baselines
    from conjure.evaluation import evaluate
    from conjure.report import markdown

    others = baselines(baseline or (), process, samples=samples, seed=seed, pictures=pictures)
    folder = out or f"bench-{process.identity()[:12]}"
    with _Cuts(), _Bar() as progress:
        evaluation = evaluate(
            process, wanted, samples=samples, seed=seed, divergence=divergence, weighting=weighting, antithetic=antithetic,
            baselines=others, out=folder, progress=progress, started=lambda plan: errors.print(escape(plan)),
        )  # fmt: skip
    errors.print(f"kept in {escape(folder)}; report.html there shows the pairs that the model gets wrong as well")
    _tell(evaluation.summary(), markdown(evaluation, pairs=False), as_json, evaluation.broken)


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run of conjure bench.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another one.", show_default=False)],
    pictures: Annotated[int, typer.Option(min=0, help="Draw the texts of so many pairs a task, with both models.")] = 0,
    out: Annotated[str | None, typer.Option(help="Write it as a .html or .md file.")] = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Hold two runs against each other: which model agrees better with people, is that sure, and which pairs moved most?"""
    if out is not None and not out.endswith((".html", ".md")):
        raise InputError(f"out is {out!r}; allowed are names that end with .html or .md")
    if pictures and (out is None or not out.endswith(".html")):
        raise InputError("pictures need a page to stand in; give --out FILE.html as well")
    from pathlib import Path

    from conjure.comparison import diff, pictures_of
    from conjure.evaluation import write_file

    comparison = diff(first, second)
    if pictures:
        with errors.status("drawing"):
            _quiet()
            drawn = pictures_of(comparison, pictures, device)
    document = comparison.document(drawn if pictures else None)
    if out is not None:
        write_file(Path(out), (document.page() if out.endswith(".html") else document.markdown()).encode())
        errors.print(f"wrote {escape(out)}")
    _tell(comparison.summary(), document.markdown(), as_json)


@app.command()
def ablate(
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="What to vary, as steps=5,10,20, guidance=1,3, scheduler=lms,ddim, size=512,768, model=A,B, or prior, "
            "samples, weighting, which one run gives; may be given again.",
            show_default="prior, weighting",
        ),
    ] = None,
    tasks: Tasks = None,
    data: Data = None,
    limit: Limit = None,
    model: Model = "default",
    samples: Draws = 1,
    steps: Steps = 10,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    unit: Unit = None,
    out: Folder = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Kept = None,
    workers: Count = None,
    ray: Cluster = None,
    compiled: Compiled = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Vary one setting at a time: what does the agreement with people depend on? The same command goes on when stopped."""
    from conjure.benchmarks import read_tasks
    from conjure.checks import check_axes

    axes: dict[str, list[str]] = {}
    for axis, _, values in (one.partition("=") for one in over or USUAL):
        axes.setdefault(axis, []).extend(value.strip() for value in values.split(",") if value.strip())
    check_axes(axes)
    _check((), samples, seed, False, None, "jeffreys", "uniform", unit)
    wanted = read_tasks(tasks, data, limit)
    sampler = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "unit": unit}
    process = _load(model, store, workers, ray, device=device, dtype=dtype, compile=compiled, **sampler)
    from conjure.ablation import ablate

    folder = out or f"ablate-{process.identity()[:12]}"
    with _Cuts(), _Bar() as progress:
        ablation = ablate(
            process, wanted, axes, samples=samples, seed=seed, out=folder, progress=progress,
            started=lambda plan: errors.print(escape(plan)),
        )  # fmt: skip
    errors.print(f"kept in {escape(folder)}, with a figure for each")
    _tell(ablation.summary(), ablation.document().markdown(), as_json, ablation.broken)


@app.command("app")
def web_app(
    models: Annotated[str, typer.Option(help="Models that visitors may choose, parted by commas.")] = "default",
    runs: Annotated[str | None, typer.Option(help="A folder whose subfolders are runs of conjure bench, to look at.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The first free one from 7860 on if not given.")] = None,
    user: Annotated[
        str | None,
        typer.Option(help="A name that visitors need; the password is read from CONJURE_PASSWORD.", show_default=False),
    ] = None,
    length: Annotated[int, typer.Option(min=1, help="Characters that a text may have.")] = 300,
    texts: Annotated[int, typer.Option(min=2, help="Texts that a matrix may have.")] = 16,
    samples: Annotated[int, typer.Option(min=1, help="Samples k that may be asked for.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps T that may be asked for.")] = 50,
    waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait; further ones are refused.")] = 32,
    jobs: Annotated[int, typer.Option(min=1, help="Requests that compute at the same time.")] = 1,
    device: Device = None,
    store: Kept = None,
) -> None:
    """Serve the web app: compare two texts, a matrix of many, finished runs."""
    import os
    from pathlib import Path

    password = os.environ.get("CONJURE_PASSWORD")
    if bool(user) != bool(password) or user == "":
        raise InputError(f"the user is {user!r} and CONJURE_PASSWORD is {'set' if password else 'not set'}; give both or neither")
    if runs is not None and not os.path.isdir(runs):
        raise InputError(f"runs is {runs!r}, which is no folder; give one whose subfolders are runs of conjure bench")
    with errors.status("starting"):
        from conjure.app import Limits, Service, serve

        _quiet()
        limits = Limits(length, texts, samples, steps, waiting, jobs)
        names = [name.strip() for name in models.split(",") if name.strip()]
        service = Service(names, Path(runs) if runs else None, limits, device, _opened(store))
        service.process(names[0] if names else models, steps=1)  # a name that cannot be loaded is found here
    serve(service, host=host, port=port, user=(user, str(password)) if user else None)


stores = typer.Typer(help="Look after a file of results, which --store names, or the folder of a run of conjure bench.")
app.add_typer(stores, name="store")
StoreFile = Annotated[str, typer.Argument(metavar="STORE", help="The file, or the folder of a run.", show_default=False)]


@stores.command()
def look(store: StoreFile, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """What is in it: each process, or baseline, and how much of it."""
    from dataclasses import asdict

    from conjure.upkeep import held, opened

    found = held(opened(store))
    if as_json:
        print(json.dumps([asdict(one) for one in found], default=str))
        return
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for head in ("identity", "what", "trajectories", "judged", "pairs", "MB"):
        table.add_column(head, justify="left" if head in ("identity", "what") else "right", overflow="fold")
    for one in found:
        shown = [("", one.settings.get("model") or one.settings.get("name")), ("T ", one.settings.get("steps")),
                 ("guidance ", one.settings.get("guidance")), ("", one.settings.get("scheduler"))]  # fmt: skip
        what = ", ".join(f"{name}{value}" for name, value in shown if value is not None)
        counts = (one.trajectories, one.judgements, one.pairs)
        table.add_row(one.identity[:12], escape(what), *(f"{count:,}" for count in counts), f"{one.size / 1e6:.1f}")
    Console(highlight=False, emoji=False).print(table)


@stores.command()
def verify(store: StoreFile) -> None:
    """Look at every row: is it what was kept? Exits with 0 if all are, and with 1 if not."""
    from conjure.upkeep import opened, verify

    found = verify(opened(store))
    spoilt = sum(map(len, found.spoilt.values()))
    print(f"{found.rows - spoilt:,} of {found.rows:,} rows are sound")
    if not found.sound:
        for table, rows in found.spoilt.items():
            for _, *key in rows[:5]:
                print(f"spoilt in {table}: {' / '.join(map(repr, key))}")
        print("The next run that needs them computes them again; conjure store repair takes them out.")
        raise typer.Exit(1)


@stores.command()
def repair(store: StoreFile) -> None:
    """Take what is sound of a broken file into a new one in its place; the rest is computed again when it is needed."""
    from conjure.upkeep import repair

    saved, old = repair(store)
    print(f"{saved:,} rows are sound and kept; the old file is {old}")


@stores.command()
def prune(
    store: StoreFile,
    identities: Annotated[
        list[str], typer.Argument(metavar="IDENTITY...", help="As conjure store look tells them.", show_default=False)
    ],
) -> None:
    """Delete what is kept of some processes or baselines."""
    from conjure.upkeep import opened, prune

    print(f"{prune(opened(store), identities) / 1e6:.1f} MB less")


@stores.command()
def export(
    store: StoreFile,
    out: Annotated[str, typer.Argument(metavar="FILE", help="A .parquet file.", show_default=False)],
) -> None:
    """Write every judgement, with what it was measured on, to a Parquet file."""
    from conjure.upkeep import export, opened

    if not out.endswith(".parquet"):
        raise InputError(f"out is {out!r}; allowed are names that end with .parquet")
    print(f"{export(opened(store), out):,} rows")


def _print_matrix(out: Console, found: Matrix) -> None:
    """Distances with their errors, like texts next to each other, and below them the tree that the texts make.

    Columns are numbered, so that no text is broken; those that the terminal has no room for follow in blocks of their own.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.tree import Tree

    names = {i: f"{place} {found.texts[i]}" for place, i in enumerate(found.order, 1)}
    widest = min(max(map(cell_len, names.values())), out.width // 3)
    gap = 2
    taken = max(len(found.cell(i, j)) for i in names for j in names) + gap
    fitting = max(1, (out.width - widest) // taken)
    for start in range(0, len(names), fitting):
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
        table.add_column("", no_wrap=True, max_width=widest)
        for place in range(start, min(start + fitting, len(names))):
            table.add_column(str(place + 1), justify="right", no_wrap=True)
        for i, name in names.items():
            table.add_row(escape(name), *(found.cell(i, j) for j in found.order[start : start + fitting]))
        out.print(table)
        out.print()
    nodes = [Tree(escape(names[i])) for i in range(len(names))]
    for one, other, height, _ in found.linkage:
        joined = Tree(f"[dim]{rounded(height, found.stderr.max())}[/]")
        joined.children += nodes[int(one)], nodes[int(other)]
        nodes.append(joined)
    out.print(nodes[-1])


USUAL = ("prior", "weighting")  # what costs no more than the run itself


def _tell(summary: dict[str, Any], text: str, as_json: bool, broken: Sequence[str] = ()) -> None:
    """Print a result. broken: texts for which there is none, of which the exit code tells as well."""
    if as_json:
        print(json.dumps(summary, default=str, allow_nan=False))
    else:
        from rich.markdown import Markdown

        Console(emoji=False).print(Markdown(plain(text)))
    if broken:
        from conjure.similarity import told_broken

        errors.print(f"[yellow]warning:[/] {escape(told_broken(broken))}; the rest is told")
        raise typer.Exit(1)


class _Cuts:
    """While it lasts, texts that do not count whole are collected, to be told in one line in the end; that workers do not come
    is told at once."""

    def __enter__(self) -> None:
        self._told: list[str] = []
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", TextCutWarning)  # once a text
        warnings.simplefilter("always", NoWorkersWarning)
        warnings.showwarning = self._take

    def _take(self, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if issubclass(category, NoWorkersWarning):
            _show(message)
        else:
            self._told.append(" ".join(str(message).split()))

    def __exit__(self, *problem: Any) -> None:
        self._caught.__exit__(*problem)
        if self._told:
            _show(f"{len(self._told)} texts do not count whole, the first: {self._told[0]}")


def _check(
    texts: Sequence[str], samples: int, seed: int, antithetic: bool, precision: float | None,
    divergence: str, weighting: str, unit: str | None, reduction: str = "sum",
) -> None:  # fmt: skip
    """Tell a slip at once, and not when the model is loaded."""
    from conjure.checks import check
    from conjure.divergence import Measure
    from conjure.estimate import Noise

    check(texts, samples, Noise(seed, antithetic), Measure(divergence, weighting, unit or "output", reduction), precision)


def _load(model: str, store: str | None = None, workers: int | None = None, ray: str | None = None, **settings: Any) -> Process:
    with errors.status("loading the model"):
        # Torch and diffusers make a million objects that stay to the end: to look through them for garbage, while they are
        # imported and once more at exit, would take a quarter of a short command's time.
        gc.disable()
        from conjure import load

        gc.freeze()
        gc.enable()
        _quiet()
        many = None
        if workers is not None or ray is not None:
            from conjure.workers import Workers

            many = Workers(workers, ray, {name: settings[name] for name in ("device", "compile") if settings.get(name)})
            settings |= {"device": "cpu", "compile": False}  # here it only tells who it is, and takes no room from a worker
        kept = _opened(store)
        return load(model, **settings).set(store=kept, workers=many)


def _opened(store: str | None) -> Store | None:
    """The store that --store names, if it is given."""
    from conjure.store import Store

    return None if store is None else Store(store)


INTERRUPTED = 130  # what typer makes of Ctrl-C


class _Bar:
    """A progress bar over denoising steps on standard error, with the time left; silent where nobody looks."""

    def __enter__(self) -> Progress:
        from rich import progress

        columns = (progress.TextColumn("denoising"), progress.BarColumn(), progress.TimeRemainingColumn())
        self._rich = progress.Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
        self._rich.start()
        task = self._rich.add_task("denoising", total=None)
        return lambda done, total: self._rich.update(task, completed=done, total=total)

    def __exit__(self, *problem: object) -> None:
        self._rich.stop()


def _quiet() -> None:
    """Keep the libraries' chatter off the terminal to the end of the command; what matters to a user is said by us."""
    from conjure.quiet import hush

    hush()
    warnings.simplefilter("ignore")
    warnings.showwarning = _show


def _show(message: Warning | str, *_: object, **__: object) -> None:
    errors.print(f"[yellow]warning:[/] {escape(' '.join(str(message).split()))}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a text still gets the answer
    try:
        code = app(arguments, standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        _refuse(f"{error.format_message()} (see conjure --help)")
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        errors.print("stopped")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> None:
    errors.print(f"[red]error:[/] {escape(' '.join(message.split()))}")
    sys.exit(2)

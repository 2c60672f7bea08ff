"""The command `check`: whether a model works with the engine."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from conjure.cli.console import EXIT_FAILURE, escape, output_console, print_json
from conjure.cli.options import AsJson
from conjure.cli.process import ProcessOptions, with_process_options


@with_process_options("model", "unit", "store", "workers", "ray", "compile", steps=4)
def check(
    model: Annotated[
        str, typer.Argument(help="Model: default, a folder in diffusers format, or a Hub name (owner/name@revision).")
    ],
    *,
    process_options: ProcessOptions,
    as_json: AsJson = False,
) -> None:
    """Check that a model works with Conjure: compare the engine with the original pipeline, which runs one text at a time.

    Exit with 0 if all checks pass, and with 1 if one fails.
    """
    process = replace(process_options, model=model).load()
    from conjure.diffusion.noise_levels import prediction_type
    from conjure.diffusion.schedulers import scheduler_alias
    from conjure.pipeline_checks import CHECKS, check_model

    console = output_console(soft_wrap=True, quiet=as_json)
    default_scheduler = scheduler_alias(type(process.pipeline.scheduler).__name__)
    used_scheduler = scheduler_alias(type(process.scheduler).__name__)
    note = "" if used_scheduler == default_scheduler else f" (the model's own: {default_scheduler})"
    pipeline = type(process.pipeline).__name__
    console.print(f"[bold]{escape(model)}[/]: {pipeline}, {used_scheduler}{note}, predicts {prediction_type(process.scheduler)}")
    findings = []
    name_width = max(map(len, CHECKS))
    for finding in check_model(process):
        findings.append(finding)
        verdict = "[green]pass[/]" if finding.passed else "[red]FAIL[/]"
        console.print(f"  {verdict}  {finding.name:<{name_width}}  [dim]{escape(finding.detail)}[/]")
    passed = all(finding.passed for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        print_json({"model": model, "passed": passed, "checks": checks, "process": process.settings()}, allow_nan=True)
    if not passed:
        raise typer.Exit(EXIT_FAILURE)

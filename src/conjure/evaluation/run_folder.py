"""The folder of a run: `run.json` names its process, `store.sqlite` holds stored results, the other files hold the evaluation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.loading import load
from conjure.diffusion.media import MEDIA_SETTINGS
from conjure.diffusion.placement import choose_device
from conjure.diffusion.process import Process
from conjure.diffusion.schedulers import scheduler_from_config
from conjure.diffusion.sources import pinned_name
from conjure.engine.store import Store
from conjure.errors import InputError, OutputError
from conjure.evaluation.hub_export import hub_files
from conjure.evaluation.legacy_keys import upgrade_process, upgrade_summary
from conjure.evaluation.outlier_images import OutlierImages
from conjure.evaluation.report import markdown, settings_line
from conjure.evaluation.report_page import html_page
from conjure.evaluation.results import Evaluation
from conjure.evaluation.run_schema import TEXT, TaskTable, check_object, check_summary, distances_hash, read_table
from conjure.evaluation.task_tables import write_task_tables
from conjure.io.files import NO_SUCH_FOLDER, import_pyarrow, read_json, write_output

STORE_NAME = "store.sqlite"


def open_run_folder(folder: Path, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Make the folder of a run, or check that an existing one contains a run of the same process.

    The files of an earlier evaluation in the folder are overwritten by the next one.

    Args:
        folder: The folder.
        fingerprint: Fingerprint of the process.
        settings: Settings of the process, as `Process.settings` returns them.

    Raises:
        InputError: If the folder cannot be used, or contains a run of another process.
    """
    path = folder / "run.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = None if not path.exists() else upgrade_process(read_json(path, "its run.json"))
        if found is not None:
            check_object(found, {"fingerprint": TEXT}, "its run.json")
    except OSError as error:
        cls = InputError if isinstance(error, NO_SUCH_FOLDER) else OutputError
        reason = error.strerror or error
        raise cls(f"the folder {str(folder)!r} cannot be used: {reason}; name another by --out") from error
    except InputError as error:
        raise InputError(f"the folder {str(folder)!r} cannot be used: {error}; name another by --out") from error
    run = json.loads(json.dumps({"fingerprint": fingerprint, **settings}, default=str))
    if found is None:
        write_output(path, (json.dumps(run, indent=1) + "\n").encode())
        return
    if found["fingerprint"] != fingerprint or found.get("default_unit") != run["default_unit"]:
        found = LoadOptions().settings() | found  # runs of earlier versions lack them
        changed = [
            f"{key} {found.get(key)!r} instead of {value!r}"
            for key, value in run.items()
            if key != "fingerprint" and found.get(key) != value
        ]
        differences = "; ".join(changed or ["other weights or another precision"])[:300]
        raise InputError(f"the folder {str(folder)!r} contains a run with {differences}; name another by --out")


@contextlib.contextmanager
def process_with_store(process: Process, path: Path | None) -> Iterator[Process]:
    """Context manager with `process`, whose results are stored in a file.

    Args:
        process: The process; one with a store is returned as it is.
        path: The file; None adds no store.

    Raises:
        InputError: If the store cannot be used.
    """
    if path is None or process.store is not None:
        yield process
        return
    store = Store(path)
    try:
        yield replace(process, store=store)
    finally:
        store.close()


def write_run_folder(folder: Path, evaluation: Evaluation, images: OutlierImages) -> None:
    """Write the files of an evaluation: tables of each task, `summary.json`, the report, and the files for the Hub.

    Args:
        folder: The folder.
        evaluation: The results.
        images: Images of the pairs that differ most from the ratings, for the report.

    Raises:
        InputError: If a file cannot be written.
    """
    for name, result in evaluation.tasks.items():
        write_task_tables(folder, name, result)
    summary = evaluation.summary()
    for name, result in evaluation.tasks.items():
        summary["tasks"][name]["distances_sha256"] = distances_hash(result.distances)
    files = {
        "summary.json": json.dumps(summary, indent=1, default=str) + "\n",
        "report.md": markdown(evaluation),
        "report.html": html_page(evaluation, images),
    }
    files |= {f"hub/{path}": text for path, text in hub_files(evaluation, settings_line(evaluation)).items()}
    for name, text in files.items():
        write_output(folder / name, text.encode())
    for path in (folder / "hub").rglob("*.yaml"):
        if str(path.relative_to(folder)) not in files:  # written by an earlier evaluation
            path.unlink()


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        summary: The content of its `summary.json`, with the keys of this version.
        tables: The distances of each task.
    """

    folder: Path
    summary: dict[str, Any]
    tables: dict[str, TaskTable]


def load_run(folder: str | Path) -> Run:
    """Load a run that `conjure bench` or `conjure.evaluate` has written.

    Raises:
        InputError: If the folder contains no finished run.
    """
    import_pyarrow()  # reports a missing package before anything else
    folder = Path(folder)
    try:
        summary = upgrade_summary(read_json(folder / "summary.json", "summary.json", allow_nan=True))
        check_summary(summary)
        tables = {
            name: read_table(folder / f"{name}.parquet", task, summary["samples"]) for name, task in summary["tasks"].items()
        }
    except (OSError, InputError) as error:
        raise InputError(f"{str(folder)!r} contains no finished run ({error}); give a folder that conjure bench wrote") from error
    return Run(folder, summary, tables)


def process_from_settings(settings: Mapping[str, Any], fingerprint: str, device: str | None = None) -> Process:
    """Load the process of a run again.

    Args:
        settings: What `Process.settings` returned for it.
        fingerprint: Its fingerprint.
        device: Device of the process; None for the best one.

    Raises:
        InputError: If the model cannot be loaded, or the process has another fingerprint now.
    """
    name = pinned_name(settings["model"], settings["revision"])
    device = choose_device(device)
    options = LoadOptions.from_settings(settings)
    if torch.device(device).type == "cpu":  # all weights are there
        options = replace(options, offload=None)
    own = load(
        name,
        steps=settings["steps"],
        guidance=settings["guidance"],
        scheduler="own",
        height=settings["height"],
        width=settings["width"],
        **{name: settings[name] for name in MEDIA_SETTINGS if name in settings},
        unit=settings["default_unit"],
        device=device,
        dtype=settings["dtype"],
        **options.arguments(),
    )
    process = replace(
        own,
        scheduler=scheduler_from_config(own.pipeline.scheduler, settings["scheduler"], settings["scheduler_config"]),
        pipeline_kwargs=settings["pipeline_kwargs"],
        batch_prompts=settings["batch_prompts"],
    )
    if process.fingerprint() != fingerprint:
        raise InputError(f"the model {name!r} is not the one of the run, because its fingerprint has changed; run it again")
    return process

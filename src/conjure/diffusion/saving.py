"""Saving of a process: a folder with the pipeline and the settings, which loads as the same process."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conjure.diffusion.fingerprint import pipeline_fingerprint
from conjure.diffusion.model_settings import DTYPES, FILE_NAME
from conjure.diffusion.pipeline_files import load_pipeline, torch_dtype
from conjure.errors import InputError
from conjure.io.logging import silenced


def save_process(pipeline: Any, scheduler: Any, settings: Mapping[str, Any], folder: str | os.PathLike[str]) -> None:
    """Write a process to a folder that `conjure.load` loads as the same process. See `Process.save`.

    Args:
        pipeline: The pipeline.
        scheduler: The scheduler of the process.
        settings: `Process.settings()`.
        folder: A new folder.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{str(folder)!r} exists; give a new folder")
    saved_settings = model_settings(scheduler, settings)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is complete, so that no other folder has this name
        parent_mode = folder.parent.stat().st_mode
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error}; give another folder") from error
    try:
        with silenced():
            pipeline.save_pretrained(str(temporary), safe_serialization=True)
            (temporary / FILE_NAME).write_text(json.dumps(saved_settings, indent=2) + "\n")
            saved = load_pipeline(temporary, str(folder), torch_dtype(saved_settings["dtype"]))
        if pipeline_fingerprint(saved) != pipeline_fingerprint(pipeline):
            raise InputError(
                f"{type(pipeline).__name__} has changes that save_pretrained does not write, such as adapters, hooks or "
                "quantised weights; fuse or remove them, then save"
            )
        temporary.chmod(parent_mode)
        temporary.replace(folder)
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error}; give another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def model_settings(scheduler: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a process as the content of `conjure.json`.

    Args:
        scheduler: The scheduler of the process.
        settings: `Process.settings()`.

    Raises:
        InputError: If a setting cannot be written as JSON, or the dtype cannot be loaded.
    """
    config = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    if settings["dtype"] not in DTYPES:
        raise InputError(f"the dtype is {settings['dtype']}; must be one of {', '.join(DTYPES)} for a saved process")
    names = ("steps", "guidance", "height", "width", "batch_prompts", "dtype")
    saved = {name: settings[name] for name in names} | {
        "unit": settings["default_unit"],
        "call": settings["pipeline_kwargs"],
        "scheduler": type(scheduler).__name__,
        "scheduler_config": config,
    }
    try:
        return json.loads(json.dumps(saved, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a setting of this process cannot be written as JSON: {error}; leave it out of pipeline_kwargs"
        ) from error

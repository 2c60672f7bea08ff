"""Saving of a process: a folder with the pipeline and the settings, which loads as the same process."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conjure.diffusion.adapter_files import PEFT_CONFIG
from conjure.diffusion.fingerprint import pipeline_fingerprint
from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.media import MEDIA_SETTINGS
from conjure.diffusion.model_settings import ADAPTERS, DTYPES, FILE_NAME
from conjure.diffusion.modifications import Modifications, find_modifications, modify
from conjure.diffusion.pipeline_files import torch_dtype
from conjure.diffusion.schedulers import plain_config
from conjure.diffusion.sources import load_source, pinned_name
from conjure.errors import InputError
from conjure.io.logging import silenced


def save_process(
    pipeline: Any, scheduler: Any, settings: Mapping[str, Any], options: LoadOptions, folder: str | os.PathLike[str]
) -> None:
    """Write a process to a folder that `conjure.load` loads as the same process. See `Process.save`.

    Args:
        pipeline: The pipeline.
        scheduler: The scheduler of the process.
        settings: `Process.settings()`.
        options: How the model was loaded.
        folder: A new folder.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{str(folder)!r} exists; give a new folder")
    saved_settings = model_settings(scheduler, settings)
    modifications = find_modifications(options)
    original = pipeline
    if options.lora or options.textual_inversion or options.quantize or options.offload:
        name = pinned_name(settings["model"], settings["revision"])
        original = load_source(name, torch_dtype(settings["dtype"]), options.variant).pipeline
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is complete, so that no other folder has this name
        parent_mode = folder.parent.stat().st_mode
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error}; give another folder") from error
    try:
        saved_settings |= _copy_adapters(modifications, temporary)
        with silenced():
            original.save_pretrained(str(temporary), safe_serialization=True)
        del original
        (temporary / FILE_NAME).write_text(json.dumps(saved_settings, indent=2) + "\n")
        saved = load_source(str(temporary), None, None)
        stored = LoadOptions(None, saved.lora, saved.textual_inversion, options.quantize)
        modify(saved.pipeline, find_modifications(stored), str(folder))
        if pipeline_fingerprint(saved.pipeline) != pipeline_fingerprint(pipeline):
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


def _copy_adapters(modifications: Modifications, folder: Path) -> dict[str, Any]:
    """Copy the files of LoRAs and textual inversions into a folder, and return the settings that name them."""
    options, number = modifications.options, 0

    def copy(path: Path) -> str:
        nonlocal number
        target = folder / ADAPTERS / str(number)
        target.mkdir(parents=True)
        shutil.copyfile(path, target / path.name)
        if (path.parent / PEFT_CONFIG).exists():
            shutil.copyfile(path.parent / PEFT_CONFIG, target / PEFT_CONFIG)
        number += 1
        return f"{ADAPTERS}/{target.name}/{path.name}"

    loras = [
        {"file": copy(path), "weight": lora.weight, "sha256": lora.sha256}
        for lora, path in zip(options.lora, modifications.lora_files, strict=True)
    ]
    inversions = [
        {"file": copy(path), "sha256": inversion.sha256}
        for inversion, path in zip(options.textual_inversion, modifications.inversion_files, strict=True)
    ]
    settings = {"lora": loras, "textual_inversion": inversions, "quantize": options.quantize}
    return {name: value for name, value in settings.items() if value}


def model_settings(scheduler: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a process as the content of `conjure.json`.

    Args:
        scheduler: The scheduler of the process.
        settings: `Process.settings()`.

    Raises:
        InputError: If a setting cannot be written as JSON, or the dtype cannot be loaded.
    """
    if settings["dtype"] not in DTYPES:
        raise InputError(f"the dtype is {settings['dtype']}; must be one of {', '.join(DTYPES)} for a saved process")
    names = ("steps", "guidance", "height", "width", "batch_prompts", "dtype")
    saved = {name: settings[name] for name in names} | {
        "unit": settings["default_unit"],
        "call": settings["pipeline_kwargs"],
        **{name: settings[name] for name in MEDIA_SETTINGS if name in settings},
        "scheduler": type(scheduler).__name__,
        "scheduler_config": plain_config(scheduler),
    }
    try:
        return json.loads(json.dumps(saved, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a setting of this process cannot be written as JSON: {error}; leave it out of pipeline_kwargs"
        ) from error

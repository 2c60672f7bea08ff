"""Loading of a process: the default model, a folder in the format of diffusers, or a model on the Hugging Face Hub.

Weights are read from safetensors only, since other checkpoints can execute code. Code in a model's repository is not executed.
"""

from __future__ import annotations

import inspect
import os
import re
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline, ModularPipeline

from conjure.diffusion.hub import download_pipeline
from conjure.diffusion.model_folder import one_line, read_index
from conjure.diffusion.model_settings import CONFIG_KEY, read_settings, settings_of_pipeline, stored_scheduler
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.pipeline_files import load_pipeline, torch_dtype
from conjure.diffusion.process import Process
from conjure.diffusion.schedulers import is_few_step_scheduler, make_scheduler
from conjure.diffusion.single_file import load_single_file
from conjure.errors import FewStepModelWarning, InputError
from conjure.io.logging import silenced
from conjure.models import default_model

DEFAULT_STEPS = 10
FEW_STEP_NAMES = re.compile(r"turbo|lightning|lcm|hyper-?sd|distill", re.IGNORECASE)


def load(
    model: str | Path | DiffusionPipeline | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    unit: Unit | None = None,
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
) -> Process:
    """Load a text-to-image diffusion model as a process.

    Args:
        model: `default` or None for the model in the package; a folder in the format of diffusers; a name on the Hub, optionally
            with `@revision`; a single `.safetensors` checkpoint; or a loaded pipeline. A loaded pipeline keeps its changes, such
            as fused adapters, and stays on its device unless `device` is given.
        steps: The number of denoising steps T; None for the model's stored number, or 10 if it has none. The other settings
            follow the same rule: None is the stored setting of a folder that `Process.save` wrote, or else the value below.
        guidance: The classifier-free guidance scale; None for the model's default (7.5 for Stable Diffusion, as in the paper).
        scheduler: A name such as `ddim`; `own` for the model's scheduler; None for LMS, as in the paper, if LMS supports the
            model, else `own`. See `schedulers.make_scheduler`.
        height: Height in pixels, None for the model's default.
        width: Width in pixels, None for the model's default.
        unit: The default unit of the uniform weighting, one of `noise_levels.UNITS`; None for the model's default, or `output`
            (as in the paper) if it has none.
        device: `cpu`, `cuda` or `mps`; None for the best available device.
        dtype: `float32` (None), `float16` or `bfloat16`. Differences and sums are always computed in float32.
        variant: The variant of the weight files, such as `fp16` for `model.fp16.safetensors`; None for the default files, or
            the only variant.
        compile: Whether to compile the denoiser with `torch.compile`, which is worthwhile for long runs.
        channels_last: Whether to store the denoiser's weights in the memory format `channels_last`, in which GPUs compute
            convolutions faster.

    Returns:
        The process.

    Raises:
        InputError: If the model cannot be loaded or a setting cannot be used.
    """
    _check_device(device)
    weights_dtype = None if dtype is None else torch_dtype(dtype)
    if isinstance(model, ModularPipeline):
        raise InputError("a Modular pipeline is loaded from a folder: write it with save_pretrained, and give the folder")
    if isinstance(model, DiffusionPipeline):
        if variant is not None:
            raise InputError("variant selects files of weights, and a loaded pipeline has none; leave it out")
        pipeline, name, revision = model, type(model).__name__, None
        defaults = settings_of_pipeline(pipeline)
    else:
        name = "default" if model is None else str(model)
        pipeline, defaults, revision = _load(name, weights_dtype, variant)
    try:
        if not isinstance(model, DiffusionPipeline):
            pipeline.to(device or _best_device())
        elif device or dtype:
            pipeline.to(device or pipeline.device, weights_dtype or pipeline.dtype)
        _optimize_denoiser(pipeline, compile, channels_last)
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"model {name!r} cannot be loaded: {one_line(error)}") from error
    if getattr(pipeline, "scheduler", None) is None:
        raise InputError(f"model {name!r} has no scheduler, which every process needs; give a complete folder")
    parameters, given_guidance = inspect.signature(pipeline).parameters, guidance
    if "guidance_scale" in parameters:
        candidates = (guidance, defaults.get("guidance"), parameters["guidance_scale"].default)
        guidance = next((candidate for candidate in candidates if candidate is not None), None)
    elif guidance is not None:
        raise InputError(f"model {name!r} ({type(pipeline).__name__}) takes no guidance; leave it out")
    is_default_guidance = given_guidance is None and "guidance" not in defaults
    if is_default_guidance and scheduler is None and guidance is not None and guidance > 1:
        _warn_of_few_step_model(pipeline, name, guidance)
    stored = stored_scheduler(defaults, name) if scheduler is None else None
    if height is None and width is None:
        height, width = defaults.get("height"), defaults.get("width")
    return Process(
        pipeline=pipeline,
        scheduler=make_scheduler(pipeline.scheduler, scheduler) if stored is None else stored,
        steps=defaults.get("steps", DEFAULT_STEPS) if steps is None else steps,
        guidance=guidance,
        height=height,
        width=width,
        default_unit=cast(Unit, defaults.get("unit", "output") if unit is None else unit),
        pipeline_kwargs=dict(defaults.get("call", {})),
        model=name,
        revision=revision,
        batch_prompts=defaults.get("batch_prompts"),
    )


def _warn_of_few_step_model(pipeline: Any, name: str, guidance: float) -> None:
    """Warn if a model seems to be distilled to few steps, but its default guidance is that of models that are not."""
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    config = getattr(denoiser, "config", {})
    if config.get("time_cond_proj_dim") or config.get("guidance_embeds"):
        return  # the guidance is an input of the network
    origins = [Path(name).name, *(str(part.get("_name_or_path", "")) for part in (pipeline.config, config))]
    if is_few_step_scheduler(pipeline.scheduler) or any(FEW_STEP_NAMES.search(Path(origin).name) for origin in origins):
        warnings.warn(
            f"model {name!r} seems to be distilled to few steps, but its default guidance is {guidance:g}; see its model card, "
            "and give for example --steps 4 --guidance 0 --scheduler own",
            FewStepModelWarning,
            stacklevel=3,
        )


def _load(name: str, dtype: torch.dtype | None, variant: str | None) -> tuple[Any, dict[str, Any], str | None]:
    """Return the pipeline of the model `name`, its stored settings, and its revision if it comes from the Hub."""
    if os.path.isfile(name):
        with silenced():
            pipeline = load_single_file(Path(name), name, dtype or torch.float32)
        return pipeline, {}, None
    with silenced():
        folder, revision = _resolve(name, variant)
        read_index(folder, name)  # refuses other folders
        settings = read_settings(folder, name)
        weights_dtype = dtype or torch_dtype(settings.get("dtype", "float32"))
        pipeline = load_pipeline(folder, name, weights_dtype, variant)
    settings = settings or settings_of_pipeline(pipeline)
    if settings:
        pipeline.register_to_config(**{CONFIG_KEY: settings})  # save_pretrained of the pipeline keeps them
    return pipeline, settings, revision


def _resolve(name: str, variant: str | None) -> tuple[Path, str | None]:
    """Return the folder of the model `name`, and its revision if it comes from the Hub."""
    if name == "default":
        return default_model.FOLDER, None
    if os.path.isdir(name):  # not pathlib's, which raises for a name that is too long
        return Path(name), None
    repository = name.partition("@")[0]
    owner_and_name = repository.split("/")
    if name.startswith((".", "/", "~")) or len(owner_and_name) != 2 or not all(owner_and_name) or os.path.exists(name):
        raise InputError(
            f"model {name!r} is neither a folder nor a Hub name; must be default, a folder with a model_index.json, a "
            ".safetensors file, owner/name or owner/name@revision"
        )
    return download_pipeline(name, variant)


def _optimize_denoiser(pipeline: Any, compile: bool, channels_last: bool) -> None:
    for part in (pipeline.components.get(name) for name in ("unet", "transformer")):
        if part is None:
            continue
        if channels_last:
            part.to(memory_format=torch.channels_last)
        if compile and getattr(part, "_repeated_blocks", None):
            part.compile_repeated_blocks(dynamic=True)  # compiles minutes faster than the whole network, and runs as fast
        elif compile:
            part.forward = torch.compile(part.forward, dynamic=True)


def _check_device(device: str | None) -> None:
    """Check that a device is available, before anything is loaded."""
    if device is None:
        return
    try:
        device_type = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; must be cpu, cuda or mps") from error
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device_type, True):
        raise InputError(
            f"the device is {device!r}, but PyTorch finds no {device_type.upper()} device on this machine; give cpu, or leave it "
            "out for the best one available"
        )


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"

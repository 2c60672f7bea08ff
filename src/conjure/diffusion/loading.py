"""Loading of a process: the default model, a folder in the format of diffusers, or a model on the Hugging Face Hub.

Weights are read from safetensors only, since other checkpoints can execute code. Code in a model's repository is not executed.
"""

from __future__ import annotations

import inspect
import os
import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline, ModularPipeline

from conjure.diffusion.model_folder import (
    UNUSED_COMPONENTS,
    check_components,
    one_line,
    read_default_settings,
    read_index,
)
from conjure.diffusion.modular import modular_pipeline
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.diffusion.schedulers import is_few_step_scheduler, make_scheduler
from conjure.errors import FewStepModelWarning, InputError
from conjure.io.logging import silenced
from conjure.models import default_model

FEW_STEP_NAMES = re.compile(r"turbo|lightning|lcm|hyper-?sd|distill", re.IGNORECASE)


def load(
    model: str | Path | DiffusionPipeline | None = None,
    *,
    steps: int = 10,
    guidance: float | None = None,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    unit: Unit | None = None,
    device: str | None = None,
    dtype: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
) -> Process:
    """Load a text-to-image diffusion model as a process.

    Args:
        model: `default` or None for the model in the package; a folder in the format of diffusers; a name on the Hub, optionally
            with `@revision`; or a loaded pipeline. A loaded pipeline keeps its changes, such as fused adapters, and stays on its
            device unless `device` is given.
        steps: The number of denoising steps T.
        guidance: The classifier-free guidance scale; None for the model's default (7.5 for Stable Diffusion, as in the paper).
        scheduler: A name such as `ddim`; `own` for the model's scheduler; None for LMS, as in the paper, if LMS supports the
            model, else `own`. See `schedulers.make_scheduler`.
        height: Height in pixels, None for the model's default.
        width: Width in pixels, None for the model's default.
        unit: The default unit of the uniform weighting, one of `noise_levels.UNITS`; None for the model's default, or `output`
            (as in the paper) if it has none.
        device: `cpu`, `cuda` or `mps`; None for the best available device.
        dtype: `float32` (None), `float16` or `bfloat16`. Differences and sums are always computed in float32.
        compile: Whether to compile the denoiser with `torch.compile`, which is worthwhile for long runs.
        channels_last: Whether to store the denoiser's weights in the memory format `channels_last`, in which GPUs compute
            convolutions faster.

    Returns:
        The process.

    Raises:
        InputError: If the model cannot be loaded or a setting cannot be used.
    """
    _check_device(device)
    defaults: dict[str, Any] = {}
    if isinstance(model, ModularPipeline):
        raise InputError("a Modular pipeline is loaded from a folder: write it with save_pretrained, and give the folder")
    if isinstance(model, DiffusionPipeline):
        pipeline, name, revision = model, type(model).__name__, None
    else:
        name, torch_dtype = "default" if model is None else str(model), _torch_dtype(dtype)
        folder, revision = _resolve(name)
        with silenced():
            pipeline, defaults = _read(folder, name, torch_dtype)
    try:
        if not isinstance(model, DiffusionPipeline):
            pipeline.to(device or _best_device())
        elif device or dtype:
            pipeline.to(device or pipeline.device, _torch_dtype(dtype) if dtype else pipeline.dtype)
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
    return Process(
        pipeline=pipeline,
        scheduler=make_scheduler(pipeline.scheduler, scheduler),
        steps=steps,
        guidance=guidance,
        height=height,
        width=width,
        default_unit=cast(Unit, defaults.get("unit", "output") if unit is None else unit),
        pipeline_kwargs=defaults.get("call", {}),
        model=name,
        revision=revision,
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


def _read(folder: Path, name: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """Load the pipeline in `folder`. Return it with the model's default settings."""
    components: dict[str, Any] = {}
    if name == "default":
        components = {"text_encoder": default_model.text_encoder(), "tokenizer": default_model.tokenizer()}
    index = read_index(folder, name)
    check_components(folder, name, {part: declared for part, declared in index.items() if part not in components})
    if ["conjure.sentence_encoder", "SentenceEncoder"] in index.values():
        import_module("conjure.sentence_encoder")  # diffusers accepts components of imported modules only
    # Components that a folder declares as empty must be passed as None; images are not filtered
    components |= {part: None for part, declared in index.items() if declared == [None, None] or part in UNUSED_COMPONENTS}
    if "requires_safety_checker" in index:
        components["requires_safety_checker"] = False
    try:
        if (folder / "model_index.json").exists():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, **components
            )
        else:
            pipeline = modular_pipeline(folder, name, dtype)
        for part in components.values():
            if isinstance(part, torch.nn.Module):
                part.to(dtype)
        default_model.optimize_cross_attention(pipeline)
    except InputError:
        raise
    except Exception as error:  # diffusers, transformers, tokenizers and safetensors each raise their own types
        raise InputError(f"model {name!r} cannot be loaded: {one_line(error)}") from error
    return pipeline, read_default_settings(folder, name)


def _resolve(name: str) -> tuple[Path, str | None]:
    """Return the folder of the model `name`, and its revision if it comes from the Hub."""
    if name == "default":
        return default_model.FOLDER, None
    if os.path.isdir(name):  # not pathlib's, which raises for a name that is too long
        return Path(name), None
    repository, _, revision = name.partition("@")
    owner_and_name = repository.split("/")
    if name.startswith((".", "/", "~")) or len(owner_and_name) != 2 or not all(owner_and_name) or os.path.exists(name):
        raise InputError(
            f"model {name!r} is neither a folder nor a Hub name; must be default, a folder with a model_index.json, "
            "owner/name or owner/name@revision"
        )
    try:
        # This class method downloads only what the pipeline needs, and works from the cache offline
        folder = Path(DiffusionPipeline.download(repository, revision=revision or None, use_safetensors=True))
    except Exception as error:  # the Hub client, its transport and diffusers each raise their own types
        raise InputError(
            f"model {name!r} cannot be downloaded from the Hugging Face Hub: {one_line(error)}; check the name, the revision, "
            "your access and the connection, or give a local folder"
        ) from error
    return folder, folder.name  # the cache names a snapshot by its commit


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


def _torch_dtype(dtype: str | None) -> torch.dtype:
    dtypes = {None: torch.float32, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if not isinstance(dtype, str | None) or dtype not in dtypes:
        raise InputError(f"unknown dtype {dtype!r}; must be float32, float16 or bfloat16")
    return dtypes[dtype]


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

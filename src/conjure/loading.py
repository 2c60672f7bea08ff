"""From a name to a process: the default model, a folder in diffusers' format, or a name on the Hugging Face Hub.

Weights come from safetensors alone, since reading any other checkpoint runs code of its author, and no code of a model's
repository is ever run.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, ModularPipeline

from conjure import default_model
from conjure.errors import InputError
from conjure.modular import MODULAR_INDEX, modular_pipeline
from conjure.process import Process, scheduler_for
from conjure.quiet import hushed

# What a pipeline's call must take, and what shows that it starts from something other than a text.
NEEDED = ("prompt", "num_inference_steps", "generator", "output_type")
FOREIGN = ("strength", "mask_image", "control_image", "num_frames", "audio_length_in_s", "audio_end_in_s")

LIBRARIES = ("diffusers", "transformers", "sentence_transformers", "conjure.sentence_encoder")  # beside diffusers' pipelines
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")


def load(
    model: str | Path | DiffusionPipeline | None = None,
    *,
    steps: int = 10,
    guidance: float | None = None,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    unit: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    compile: bool = False,
    channels_last: bool = False,
) -> Process:
    """The process of a text-to-image diffusion model.

    model: `default` or None for the model in the package; a folder in diffusers' format; a Hub name, with `@revision` if wanted;
    or a pipeline that is loaded already, with whatever was fused into it, which stays where it is.
    steps: denoising steps T (the paper's 10). guidance: None for the model's own default (7.5 for Stable Diffusion, as in
    the paper). scheduler: None for the paper's LMS where the model is a noise model, `own`, or a name (`process.scheduler_for`).
    height, width: pixels, None for the model's own. unit: of the uniform weighting, of `units.UNITS`; None for the model's own
    wish, or `output`, as in the paper. device: None for the best there is. dtype: `float32` (None), `float16` or `bfloat16`;
    differences and sums are float32 in any case. compile: the denoiser by `torch.compile`, for long runs. channels_last: the
    denoiser's weights in that memory format, which suits convolutions on GPUs.

    Errors: `InputError`, one line, for everything that keeps the model from being loaded or the settings from being used.
    """
    _check_device(device)
    own: dict[str, Any] = {}
    if isinstance(model, ModularPipeline):
        raise InputError("a Modular pipeline is loaded from a folder: write it with save_pretrained, and give the folder")
    if isinstance(model, DiffusionPipeline):
        pipeline, name, revision = model, type(model).__name__, None
    else:
        name, wanted = "default" if model is None else str(model), _dtype(dtype)
        folder, revision = _found(name)
        with hushed():
            pipeline, own = _read(folder, name, wanted)
    try:
        if not isinstance(model, DiffusionPipeline):
            pipeline.to(device or _best_device())
        elif device or dtype:
            pipeline.to(device or pipeline.device, _dtype(dtype) if dtype else pipeline.dtype)
        _tune(pipeline, compile, channels_last)
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"model {name!r} cannot be loaded: {_line(error)}") from error
    if getattr(pipeline, "scheduler", None) is None:
        raise InputError(f"model {name!r} has no scheduler, without which there is no process; give a complete folder")
    parameters = inspect.signature(pipeline).parameters
    if "guidance_scale" in parameters:
        wishes = (guidance, own.get("guidance"), parameters["guidance_scale"].default)
        guidance = next((wish for wish in wishes if wish is not None), None)
    elif guidance is not None:
        raise InputError(f"model {name!r} ({type(pipeline).__name__}) takes no guidance; leave it out")
    return Process(
        pipeline=pipeline,
        scheduler=scheduler_for(pipeline.scheduler, scheduler),
        steps=steps,
        guidance=guidance,
        height=height,
        width=width,
        unit=own.get("unit", "output") if unit is None else unit,
        call=own.get("call", {}),
        model=name,
        revision=revision,
    )


def _read(folder: Path, name: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The pipeline called `name` that lies in `folder`, and the settings that it asks for."""
    given: dict[str, Any] = {}
    if name == "default":
        given = {"text_encoder": default_model.text_encoder(), "tokenizer": default_model.tokenizer()}
    index = _index(folder, name)
    _check_parts(folder, name, {part: what for part, what in index.items() if part not in given})
    # parts that a folder declares empty must be said to be empty again, and pictures are judged by nobody but the user
    given |= {part: None for part, what in index.items() if what == [None, None] or part in ("safety_checker", "watermarker")}
    if "requires_safety_checker" in index:
        given["requires_safety_checker"] = False
    try:
        if (folder / "model_index.json").exists():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, **given
            )
        else:
            pipeline = modular_pipeline(folder, name, dtype)
        for part in given.values():
            if isinstance(part, torch.nn.Module):
                part.to(dtype)
        default_model.prepare(pipeline)
    except InputError:
        raise
    except Exception as error:  # diffusers, transformers, tokenizers and safetensors each raise their own kinds
        raise InputError(f"model {name!r} cannot be loaded: {_line(error)}") from error
    return pipeline, _own_settings(folder, name)


def _found(name: str) -> tuple[Path, str | None]:
    """The folder that `name` stands for, and the revision where it comes from the Hub."""
    if name == "default":
        return default_model.FOLDER, None
    if os.path.isdir(name):  # not of pathlib, which raises for a name that is too long
        return Path(name), None
    repository, _, revision = name.partition("@")
    owner_and_name = repository.split("/")
    if name.startswith((".", "/", "~")) or len(owner_and_name) != 2 or not all(owner_and_name) or os.path.exists(name):
        raise InputError(
            f"model {name!r} is neither a folder nor a Hub name; allowed are default, a folder with a model_index.json, "
            "and owner/name or owner/name@revision"
        )
    try:
        # the class method of diffusers fetches what the pipeline needs and nothing else, and works from the cache offline
        folder = Path(DiffusionPipeline.download(repository, revision=revision or None, use_safetensors=True))
    except Exception as error:  # the Hub client, its transport and diffusers each raise their own kinds
        raise InputError(
            f"model {name!r} cannot be fetched from the Hugging Face Hub: {_line(error)}; check the name, the revision, "
            "your access and the connection, or give a local folder"
        ) from error
    return folder, folder.name  # the cache names a snapshot by its commit


def _index(folder: Path, name: str) -> dict[str, Any]:
    """The parts that `model_index.json` declares, once it is known to be a text-to-image pipeline of diffusers."""
    path = folder / "model_index.json"
    if not path.exists() and (folder / MODULAR_INDEX).exists():
        path = folder / MODULAR_INDEX
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            f"model {name!r} has no model_index.json; give a folder that a pipeline's save_pretrained wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {_line(error)}") from error
    named = index.get("_class_name") if isinstance(index, dict) else None
    known = getattr(diffusers, named, None) if isinstance(named, str) else None
    if not (isinstance(known, type) and issubclass(known, ModularPipeline if path.name == MODULAR_INDEX else DiffusionPipeline)):
        raise InputError(f"model {name!r} is of the class {named!r}, which is no pipeline of diffusers {diffusers.__version__}")
    if path.name == MODULAR_INDEX:  # what it takes is known when it is there
        return {part: what[:2] if isinstance(what, list) else what for part, what in index.items() if not part.startswith("_")}
    parameters = inspect.signature(known.__call__).parameters
    if any(wanted not in parameters for wanted in NEEDED) or any(foreign in parameters for foreign in FOREIGN):
        raise InputError(f"model {name!r} ({named}) is not a text-to-image pipeline; Conjure compares what texts conjure")
    return {part: what for part, what in index.items() if not part.startswith("_")}


def _check_parts(folder: Path, name: str, index: dict[str, Any]) -> None:
    """Every declared part is there, of a known library, and none has its weights in pickles alone."""
    for part, what in index.items():
        if isinstance(what, list) and len(what) != 2:
            raise InputError(f"model {name!r} declares its part {part!r} as {what!r}; allowed is a library and a class")
        if not isinstance(what, list) or what[0] is None or part in ("safety_checker", "watermarker"):
            continue
        if what[0] not in LIBRARIES and not hasattr(
            diffusers.pipelines, str(what[0])
        ):  # diffusers would import whatever is named
            raise InputError(f"model {name!r} takes its part {part!r} from {what[0]!r}; allowed are {', '.join(LIBRARIES)}")
        if not (folder / part).is_dir():
            raise InputError(f"model {name!r} lacks its part {part!r} ({what[1]}); the folder is incomplete, copy it again")
        names = {file.name for file in (folder / part).iterdir()}
        endings = {Path(one).suffix for one in names}
        if not names:
            raise InputError(f"model {name!r} has an empty part {part!r} ({what[1]}); the folder is incomplete, copy it again")
        if ".safetensors" not in endings and not endings.isdisjoint(PICKLES):
            raise InputError(
                f"model {name!r} keeps its {part!r} in a pickled checkpoint, which can run code; only safetensors are read: "
                "convert it with pipeline.save_pretrained(folder, safe_serialization=True)"
            )
        if "model_index.json" in names:  # its own parts would be read by rules of its own
            raise InputError(f"model {name!r} has a whole pipeline as its part {part!r}; give the folder of a single one")
        for shards in (folder / part).glob("*.safetensors.index.json"):
            _check_shards(shards, name)


def _check_shards(path: Path, name: str) -> None:
    """An index of safetensors names nothing but safetensors: a pickle that it names would be read as a pickle."""
    try:
        shards = set(json.loads(path.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {_line(error)}") from error
    if others := sorted(str(one) for one in shards if not str(one).endswith(".safetensors")):
        raise InputError(f"model {name!r} names {others[0]!r} in its {path.name}; only safetensors are read")


def _own_settings(folder: Path, name: str) -> dict[str, Any]:
    """What a model asks to be run with: `guidance`, `unit` and further `call` arguments in `conjure.json`, if it has one."""
    path = folder / "conjure.json"
    if not path.exists():
        return {}
    try:
        own = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"model {name!r} has a conjure.json that cannot be read: {_line(error)}") from error
    if not isinstance(own, dict) or set(own) - {"guidance", "unit", "call"}:
        raise InputError(f"conjure.json of model {name!r} must be an object with guidance, unit and call and nothing else")
    call = own.get("call", {})
    if not isinstance(call, dict) or {*NEEDED, "negative_prompt"} & set(call):
        raise InputError(f"call in conjure.json of model {name!r} is {call!r}; allowed is an object of further arguments")
    return own


def _tune(pipeline: Any, compile: bool, channels_last: bool) -> None:
    for part in (pipeline.components.get(name) for name in ("unet", "transformer")):
        if part is None:
            continue
        if channels_last:
            part.to(memory_format=torch.channels_last)
        if compile and getattr(part, "_repeated_blocks", None):
            part.compile_repeated_blocks(dynamic=True)  # minutes less than the whole, for the same speed after it
        elif compile:
            part.forward = torch.compile(part.forward, dynamic=True)


def _dtype(dtype: str | None) -> torch.dtype:
    kinds = {None: torch.float32, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if not isinstance(dtype, str | None) or dtype not in kinds:
        raise InputError(f"unknown dtype {dtype!r}; allowed are float32, float16 and bfloat16")
    return kinds[dtype]


def _check_device(device: str | None) -> None:
    """Refuse a device that is not there, before anything is read. Errors: `InputError`."""
    if device is None:
        return
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; allowed are cpu, cuda and mps") from error
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        raise InputError(
            f"the device is {device!r}, but PyTorch finds no {kind.upper()} device on this machine; give cpu, or leave it out "
            "for the best there is"
        )


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _line(error: BaseException) -> str:
    """The first sentence or so of an error of somebody else's."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."

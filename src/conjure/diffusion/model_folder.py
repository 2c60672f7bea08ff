"""Validation of a model folder before it is loaded: a known pipeline, complete components, weights in safetensors only."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline, ModularPipeline

from conjure.diffusion.modular import MODULAR_INDEX
from conjure.errors import InputError

# Parameters that the call of a pipeline must have, and parameters of pipelines for other inputs (images, masks) or other outputs
# (video, audio)
REQUIRED_PARAMETERS = ("prompt", "num_inference_steps", "generator", "output_type")
NON_TEXT_PARAMETERS = ("strength", "mask_image", "control_image", "num_frames", "audio_length_in_s", "audio_end_in_s")

LIBRARIES = ("diffusers", "transformers", "sentence_transformers", "conjure.sentence_encoder")  # besides diffusers' pipelines
UNSAFE_EXTENSIONS = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
UNUSED_COMPONENTS = ("safety_checker", "watermarker")


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """Return the components that `model_index.json` declares.

    Args:
        folder: The folder of the model.
        name: The name of the model, for messages.

    Raises:
        InputError: If the file is missing or unreadable, or does not declare a text-to-image pipeline of diffusers.
    """
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
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {one_line(error)}") from error
    is_modular = path.name == MODULAR_INDEX
    class_name = index.get("_class_name") if isinstance(index, dict) else None
    cls = getattr(diffusers, class_name, None) if isinstance(class_name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, ModularPipeline if is_modular else DiffusionPipeline)):
        raise InputError(
            f"model {name!r} has the class {class_name!r}, which is not a pipeline of diffusers {diffusers.__version__}"
        )
    if is_modular:  # its inputs are checked after it is loaded
        return {
            part: value[:2] if isinstance(value, list) else value for part, value in index.items() if not part.startswith("_")
        }
    parameters = inspect.signature(cls.__call__).parameters
    if any(required not in parameters for required in REQUIRED_PARAMETERS) or any(
        other in parameters for other in NON_TEXT_PARAMETERS
    ):
        raise InputError(f"model {name!r} ({class_name}) is not a text-to-image pipeline; Conjure needs one")
    return {part: value for part, value in index.items() if not part.startswith("_")}


def check_components(folder: Path, name: str, index: dict[str, Any]) -> None:
    """Check that every declared component exists, is of a known library, and has weights in safetensors.

    Args:
        folder: The folder of the model.
        name: The name of the model, for messages.
        index: The declared components, as `read_index` returns them.

    Raises:
        InputError: If a component is missing, is of another library, or has pickled weights only.
    """
    for part, declared in index.items():
        if isinstance(declared, list) and len(declared) != 2:
            raise InputError(f"model {name!r} declares its component {part!r} as {declared!r}; must be a library and a class")
        if not isinstance(declared, list) or declared[0] is None or part in UNUSED_COMPONENTS:
            continue
        library, cls = declared
        if library not in LIBRARIES and not hasattr(diffusers.pipelines, str(library)):  # diffusers would import any module
            raise InputError(
                f"model {name!r} takes its component {part!r} from {library!r}; must be one of {', '.join(LIBRARIES)}"
            )
        if not (folder / part).is_dir():
            raise InputError(f"model {name!r} lacks its component {part!r} ({cls}); the folder is incomplete, copy it again")
        names = {file.name for file in (folder / part).iterdir()}
        extensions = {Path(file_name).suffix for file_name in names}
        if not names:
            raise InputError(f"model {name!r} has an empty component {part!r} ({cls}); the folder is incomplete, copy it again")
        if ".safetensors" not in extensions and not extensions.isdisjoint(UNSAFE_EXTENSIONS):
            raise InputError(
                f"model {name!r} has its {part!r} in a pickled checkpoint, which can run code; only safetensors are read: "
                "convert it with pipeline.save_pretrained(folder, safe_serialization=True)"
            )
        if "model_index.json" in names:  # diffusers would load it by other rules
            raise InputError(f"model {name!r} has a complete pipeline as its component {part!r}; give the folder of a single one")
        for shard_index in (folder / part).glob("*.safetensors.index.json"):
            _check_shards(shard_index, name)


def _check_shards(path: Path, name: str) -> None:
    """Check that an index of shards names safetensors only, since a pickled file that it names would be unpickled."""
    try:
        shards = set(json.loads(path.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {one_line(error)}") from error
    if unsafe := sorted(str(shard) for shard in shards if not str(shard).endswith(".safetensors")):
        raise InputError(f"model {name!r} names {unsafe[0]!r} in its {path.name}; only safetensors are read")


def read_default_settings(folder: Path, name: str) -> dict[str, Any]:
    """Return the default settings of a model from its file `conjure.json`.

    Args:
        folder: The folder of the model.
        name: The name of the model, for messages.

    Returns:
        The settings `guidance`, `unit` and `call` (further arguments of the pipeline's call). Empty without the file.

    Raises:
        InputError: If the file is unreadable or has other entries.
    """
    path = folder / "conjure.json"
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"model {name!r} has a conjure.json that cannot be read: {one_line(error)}") from error
    if not isinstance(settings, dict) or set(settings) - {"guidance", "unit", "call"}:
        raise InputError(f"conjure.json of model {name!r} must be an object with no other keys than guidance, unit and call")
    call = settings.get("call", {})
    if not isinstance(call, dict) or {*REQUIRED_PARAMETERS, "negative_prompt"} & set(call):
        raise InputError(f"call in conjure.json of model {name!r} is {call!r}; must be an object of further arguments")
    return settings


def one_line(error: BaseException) -> str:
    """Return the message of another library's error in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."

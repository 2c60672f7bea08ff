"""Validation of a model folder before it is loaded: a known pipeline, complete components, weights in safetensors only."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline, ModularPipeline

from conjure.diffusion.hub import UNUSED_COMPONENTS
from conjure.diffusion.media import media_kind
from conjure.diffusion.modular import MODULAR_INDEX
from conjure.diffusion.readable_files import UNSAFE_EXTENSIONS, check_regular
from conjure.errors import InputError
from conjure.io.text import one_line

# Parameters that the call of a pipeline must have, and parameters of pipelines for other inputs: images and masks; and for
# pipelines of videos and sounds, where no image is optional, images, videos and sounds
REQUIRED_PARAMETERS = ("prompt", "num_inference_steps", "generator", "output_type")
NON_TEXT_PARAMETERS = ("strength", "mask_image", "control_image")
NON_TEXT_MEDIA_PARAMETERS = (
    "image",
    "video",
    "conditions",
    "reference_conditions",
    "conditioning_frames",
    "control_video",
    "controls",
)

# Pipelines that generate videos or sounds from texts, with the reason why they cannot be used; by the beginning of their names
UNUSABLE_PIPELINES = {
    "MusicLDM": "it does not run with transformers 5, whose CLAP text encoder returns another type",
    "LTX2": "it denoises a video and its sound with two schedulers, and Conjure measures at the steps of one",
    "TextToVideoZero": "it denoises its frames in several passes, so that it has no single trajectory",
}

LIBRARIES = ("diffusers", "transformers", "sentence_transformers", "conjure.sentence_encoder")  # besides diffusers' pipelines


def index_path(folder: Path) -> Path:
    """Return the file in which a model declares its components."""
    path = folder / "model_index.json"
    return folder / MODULAR_INDEX if not path.exists() and (folder / MODULAR_INDEX).exists() else path


def read_index(folder: Path, name: str) -> dict[str, Any]:
    """Return the components that `model_index.json` declares.

    Args:
        folder: The folder of the model.
        name: The name of the model, for messages.

    Raises:
        InputError: If the file is missing or unreadable, or does not declare a pipeline of diffusers that generates
            images, videos or sounds from texts.
    """
    path = index_path(folder)
    check_regular(path, name)
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            f"model {name!r} has no model_index.json; give a folder that a pipeline's save_pretrained wrote"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
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
    others = NON_TEXT_PARAMETERS + (() if media_kind(parameters) == "image" else NON_TEXT_MEDIA_PARAMETERS)
    if any(required not in parameters for required in REQUIRED_PARAMETERS) or any(other in parameters for other in others):
        raise InputError(
            f"model {name!r} ({class_name}) is not a text-to-image, text-to-video or text-to-audio pipeline; Conjure needs one"
        )
    for prefix, reason in UNUSABLE_PIPELINES.items():
        if cls.__name__.startswith(prefix):
            raise InputError(f"model {name!r} ({class_name}) cannot be used: {reason}; choose another model")
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
    check_libraries(index, name)
    for part, declared in index.items():
        if not isinstance(declared, list) or declared[0] is None or part in UNUSED_COMPONENTS:
            continue
        cls = declared[1]
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
        if "adapter_config.json" in names:  # transformers would load the base model that it names
            raise InputError(f"model {name!r} has an adapter as its {part!r}; merge it into its base model, and save that")
        if "model_index.json" in names:  # diffusers would load it by other rules
            raise InputError(f"model {name!r} has a complete pipeline as its component {part!r}; give the folder of a single one")
        for shard_index in (folder / part).glob("*.safetensors.index*.json"):
            _check_shards(shard_index, name)


def check_libraries(index: dict[str, Any], name: str) -> None:
    """Check that every declared component is of a known library.

    Args:
        index: The declared components, as `read_index` returns them.
        name: The name of the model, for messages.

    Raises:
        InputError: If a component is of another library.
    """
    for part, declared in index.items():
        if isinstance(declared, list) and len(declared) != 2:
            raise InputError(f"model {name!r} declares its component {part!r} as {declared!r}; must be a library and a class")
        if not isinstance(declared, list) or declared[0] is None or part in UNUSED_COMPONENTS:
            continue
        library = declared[0]
        if library not in LIBRARIES and not hasattr(diffusers.pipelines, str(library)):  # diffusers would import any module
            raise InputError(
                f"model {name!r} takes its component {part!r} from {library!r}; must be one of {', '.join(LIBRARIES)}"
            )


def _check_shards(path: Path, name: str) -> None:
    """Check that an index of shards names safetensors only, since a pickled file that it names would be unpickled."""
    try:
        shards = set(json.loads(path.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {one_line(error)}") from error
    if unsafe := sorted(str(shard) for shard in shards if not str(shard).endswith(".safetensors")):
        raise InputError(f"model {name!r} names {unsafe[0]!r} in its {path.name}; only safetensors are read")

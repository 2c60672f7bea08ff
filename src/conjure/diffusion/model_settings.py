"""The settings that belong to a model: `conjure.json` in its folder, or `_conjure` in the configuration of its pipeline.

The entry in the configuration makes the settings survive `save_pretrained`, which writes only what a pipeline has.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import diffusers
from diffusers import SchedulerMixin

from conjure.diffusion.model_folder import REQUIRED_PARAMETERS, index_path
from conjure.diffusion.noise_levels import UNITS
from conjure.diffusion.quantization import SUPPORTED
from conjure.diffusion.schedulers import config_from_plain
from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer
from conjure.io.text import one_line
from conjure.models import default_model

FILE_NAME = "conjure.json"
CONFIG_KEY = "_conjure"  # keys that begin with an underscore are no part of the fingerprint
DTYPES = ("float32", "float16", "bfloat16")
ADAPTER_SETTINGS = ("lora", "textual_inversion", "quantize")  # which only `Process.save` can write
ADAPTERS = "adapters"  # the folder of LoRAs and textual inversions within the folder of a saved process
ADAPTER_FILE = re.compile(rf"{ADAPTERS}/\d+/[^/\\]+\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_pixels(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _is_guidance(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value) and value >= 0)


def _is_positive(value: Any) -> bool:
    return is_finite_number(value) and value > 0


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and not set(REQUIRED_PARAMETERS) & set(value)


def _are_adapters(value: Any, keys: set[str]) -> bool:
    return isinstance(value, list) and all(
        isinstance(adapter, dict)
        and set(adapter) == keys
        and ADAPTER_FILE.fullmatch(str(adapter["file"])) is not None
        and SHA256.fullmatch(str(adapter["sha256"])) is not None
        and is_finite_number(adapter.get("weight", 0))
        for adapter in value
    )


def _are_loras(value: Any) -> bool:
    return _are_adapters(value, {"file", "weight", "sha256"})


def _are_inversions(value: Any) -> bool:
    return _are_adapters(value, {"file", "sha256"})


# Name, test and description of each setting
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "guidance": (_is_guidance, "a finite number >= 0, or null"),
    "unit": (lambda value: value in UNITS, f"one of {', '.join(UNITS)}"),
    "call": (_is_call, "an object of further arguments"),
    "steps": (lambda value: type(value) is int and value >= 1, "an integer >= 1"),
    "height": (_is_pixels, "an integer >= 1, or null"),
    "width": (_is_pixels, "an integer >= 1, or null"),
    "frames": (lambda value: is_integer(value, 1), "an integer >= 1"),
    "fps": (_is_positive, "a finite number > 0"),
    "seconds": (_is_positive, "a finite number > 0"),
    "batch_prompts": (lambda value: isinstance(value, bool), "true or false"),
    "dtype": (lambda value: value in DTYPES, f"one of {', '.join(DTYPES)}"),
    "scheduler": (lambda value: isinstance(value, str), "the name of a class of diffusers"),
    "scheduler_config": (lambda value: isinstance(value, dict), "an object"),
    "lora": (_are_loras, f"a list of objects with file (in the folder {ADAPTERS}), weight and sha256"),
    "textual_inversion": (_are_inversions, f"a list of objects with file (in the folder {ADAPTERS}) and sha256"),
    "quantize": (lambda value: value in (None, *SUPPORTED), f"null or one of {', '.join(SUPPORTED)}"),
}


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """Return the settings of a model from its folder.

    Args:
        folder: The folder of the model.
        name: The name of the model, for messages.

    Returns:
        The settings, with keys of `SETTINGS`. Empty if the folder has none.

    Raises:
        InputError: If the file is unreadable, or has other entries or values.
    """
    path = folder / FILE_NAME
    try:
        if path.exists():
            return check_settings_of_model(json.loads(path.read_text()), name)
        return check_settings_of_model(json.loads(index_path(folder).read_text()).get(CONFIG_KEY, {}), name)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"model {name!r} has a {path.name} that cannot be read: {one_line(error)}") from error


def check_settings_of_model(settings: Any, name: str) -> dict[str, Any]:
    """Return `settings` if they are valid.

    Args:
        settings: The settings of a model, read from a file.
        name: The name of the model, for messages.

    Raises:
        InputError: If an entry is unknown or has an invalid value.
    """
    if not isinstance(settings, dict) or set(settings) - set(SETTINGS):
        raise InputError(f"{FILE_NAME} of model {name!r} must be an object with no other keys than {', '.join(SETTINGS)}")
    for key, value in settings.items():
        is_valid, description = SETTINGS[key]
        if not is_valid(value):
            raise InputError(f"{key} in {FILE_NAME} of model {name!r} is {str(value)[:200]!r}; must be {description}")
    if ("scheduler" in settings) != ("scheduler_config" in settings):
        raise InputError(f"{FILE_NAME} of model {name!r} must have both scheduler and scheduler_config, or neither")
    return settings


def settings_of_pipeline(pipeline: Any) -> dict[str, Any]:
    """Return the settings of a loaded pipeline: its own, or those of the default model if it is one.

    A pipeline with the default model's text encoder is recognised by the class of this encoder: pipelines that other code loads
    and saves lose the entry in their configuration.
    """
    settings = pipeline.config.get(CONFIG_KEY)
    if settings is None and default_model.has_sentence_encoder(pipeline):
        settings = read_settings(default_model.FOLDER, "default")
    return settings or {}


def stored_scheduler(settings: dict[str, Any], name: str) -> Any | None:
    """Return the scheduler that the settings of a model describe, or None.

    Args:
        settings: The settings of a model.
        name: The name of the model, for messages.

    Raises:
        InputError: If the class is not a scheduler of diffusers, or does not have this configuration.
    """
    if "scheduler" not in settings:
        return None
    cls = getattr(diffusers, settings["scheduler"], None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise InputError(
            f"{FILE_NAME} of model {name!r} has the scheduler {settings['scheduler']!r}, which is not part of diffusers "
            f"{diffusers.__version__}"
        )
    try:
        return cast(Any, cls).from_config(config_from_plain(settings["scheduler_config"]))
    except Exception as error:  # each scheduler raises its own types
        raise InputError(
            f"{FILE_NAME} of model {name!r} has a scheduler_config that cannot be used: {one_line(error)}"
        ) from error

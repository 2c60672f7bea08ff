"""The settings of a process: their ranges, and the names under which `Process.set` accepts them."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from difflib import get_close_matches
from numbers import Integral
from os import PathLike
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from conjure.deprecation import warn_renamed
from conjure.diffusion.media import MEDIA_ARGUMENTS
from conjure.diffusion.noise_levels import UNITS
from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer

SETTINGS = (
    "steps",
    "guidance",
    "height",
    "width",
    "frames",
    "fps",
    "seconds",
    "default_unit",
    "pipeline_kwargs",
    "batch_prompts",
    "batch_size",
    "store",
    "workers",
)
# Arguments of pipelines with one text per row, beside `prompt`
PROMPTS = ("prompt_2", "prompt_3", "prompt_4", "negative_prompt", "negative_prompt_2", "negative_prompt_3", "negative_prompt_4")
RESERVED_KWARGS = ("prompt", "num_inference_steps", "generator", "output_type", "latents", "return_dict", "guidance_scale",
                   "height", "width", *MEDIA_ARGUMENTS)  # fmt: skip
NUMBERS_PER_PROMPT = ("num_images_per_prompt", "num_images", "num_videos_per_prompt", "num_waveforms_per_prompt")
RENAMED_SETTINGS = {"unit": "default_unit", "call": "pipeline_kwargs", "rows": "batch_size", "alone": "batch_prompts"}


def check_settings(
    steps: int,
    trained_steps: int,
    guidance: float | None,
    batch_size: int | None,
    default_unit: str,
    height: int | None,
    width: int | None,
) -> None:
    """Check the values of settings.

    Args:
        steps: The number of denoising steps, at most `trained_steps`.
        trained_steps: The number of timesteps that the model was trained with.
        guidance: The guidance scale, or None.
        batch_size: The number of rows in one call of the denoiser, or None.
        default_unit: The unit of the uniform weighting.
        height: Height in pixels, or None.
        width: Width in pixels, or None.

    Raises:
        InputError: If a value is out of range.
    """
    if not is_integer(steps, 1, trained_steps):
        raise InputError(f"steps is {steps!r}; must be an integer from 1 to {trained_steps}")
    if guidance is not None and not (is_finite_number(guidance) and guidance >= 0):
        raise InputError(f"guidance is {guidance!r}; must be a finite number >= 0 (1 is no guidance)")
    if batch_size is not None and not is_integer(batch_size, 1):
        raise InputError(f"batch_size is {batch_size!r}; must be an integer >= 1")
    if default_unit not in UNITS:
        raise InputError(f"unknown unit {default_unit!r}; must be one of {', '.join(UNITS)}")
    if (height is None) != (width is None):  # some pipelines would ignore a single one
        raise InputError(f"height is {height!r} and width is {width!r}; give both or neither")
    for name, pixels in (("height", height), ("width", width)):
        if pixels is not None and not is_integer(pixels, 1):
            raise InputError(f"{name} is {pixels!r}; must be an integer >= 1, in pixels")


def is_training(network: torch.nn.Module) -> bool:
    """Return whether predictions of a network vary: it is in training mode, or one of its layers that then vary is.

    Other layers may be in training mode, such as those of adapters.
    """
    return network.training or any(
        layer.training and (isinstance(layer, _BatchNorm) or (isinstance(layer, _DropoutNd) and layer.p > 0))
        for layer in network.modules()
    )


def per_row_kwargs(kwargs: dict[str, Any], num_rows: int) -> dict[str, Any]:
    """Return further arguments of a pipeline, where those that follow the batch have one value per row.

    Args:
        kwargs: `Process.pipeline_kwargs`.
        num_rows: The number of rows.
    """
    rows = {}
    for name, value in kwargs.items():
        if name in PROMPTS and value is not None:
            rows[name] = [value if isinstance(value, str) else value[0]] * num_rows
    return kwargs | rows


def check_pipeline_kwargs(kwargs: dict[str, Any], parameters: Collection[str]) -> None:
    """Check that further arguments of a pipeline exist, and are the same for all rows.

    Args:
        kwargs: `Process.pipeline_kwargs`.
        parameters: The names of the parameters of the pipeline's call. Pipelines ignore other arguments.

    Raises:
        InputError: If an argument is unknown, is set by Conjure, or cannot be repeated for every row.
    """
    for name, value in kwargs.items():
        if name not in parameters:
            close = get_close_matches(name, parameters, 1)
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise InputError(f"pipeline_kwargs has {name!r}, which the pipeline does not take; {hint}")
        if name in RESERVED_KWARGS or (name.endswith(("_embeds", "_embeds_2", "_embeds_mask")) and value is not None):
            raise InputError(f"pipeline_kwargs has {name!r}, which Conjure sets for every row; leave it out")
        if name in NUMBERS_PER_PROMPT and value != 1:
            raise InputError(f"{name} is {value!r} in pipeline_kwargs; must be 1, since each row has one image, video or sound")
        is_single = isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], str)
        if name in PROMPTS and value is not None and not (isinstance(value, str) or is_single):
            raise InputError(f"{name} is {value!r} in pipeline_kwargs; must be a text or a list of one text, for all rows")


def check_negative_prompt(negative_prompt: Any) -> None:
    """Check a negative prompt, before a model is loaded.

    Raises:
        InputError: If it is not a text.
    """
    if negative_prompt is None:
        return
    if not isinstance(negative_prompt, str):
        raise InputError(f"negative_prompt is {negative_prompt!r}; must be a text")
    try:
        negative_prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the negative prompt {ascii(negative_prompt)[:80]} contains a lone surrogate; leave it out") from error


def with_negative_prompt(
    kwargs: dict[str, Any], negative_prompt: str | None, pipeline: Any, guidance: float | None
) -> dict[str, Any]:
    """Return `Process.pipeline_kwargs` with a negative prompt.

    Args:
        kwargs: The other arguments, which may have another negative prompt.
        negative_prompt: The text; None for no change, empty for none.
        pipeline: The pipeline.
        guidance: The guidance scale, None if the pipeline has none.

    Raises:
        InputError: If the pipeline takes no negative prompt, or does not use it with this guidance.
    """
    if negative_prompt is None:
        return kwargs
    kwargs = {name: value for name, value in kwargs.items() if name != "negative_prompt"}
    if not negative_prompt:
        return kwargs
    parameters, cls = inspect.signature(pipeline).parameters, type(pipeline).__name__
    if "negative_prompt" not in parameters:
        raise InputError(f"{cls} takes no negative prompt; leave it out")
    name, scale = "guidance", guidance
    if "true_cfg_scale" in parameters:  # the guidance of these pipelines is an input of the network
        name, scale = "true_cfg_scale", kwargs.get("true_cfg_scale", parameters["true_cfg_scale"].default)
    if scale is not None and scale <= 1:
        raise InputError(f"{cls} ignores a negative prompt with {name} {scale:g}; leave it out, or set {name} above 1")
    return kwargs | {"negative_prompt": negative_prompt}


def with_current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were passed to `Process.set`, with old names replaced.

    Args:
        settings: Settings by name.

    Raises:
        InputError: If a name is unknown, or a store or workers are given by a path or a number.
        TypeError: If a setting is given under its old and its new name.
    """
    current = {name: value for name, value in settings.items() if name not in RENAMED_SETTINGS}
    for old in settings.keys() & RENAMED_SETTINGS.keys():
        new, value = RENAMED_SETTINGS[old], settings[old]
        if new in settings:
            raise TypeError(f"set() got both {old!r} and {new!r}; give {new!r} alone")
        warn_renamed(f"the setting {old!r}", f"{new!r} (its opposite)" if old == "alone" else repr(new), stacklevel=3)
        current[new] = not value if old == "alone" and value is not None else value
    for name in current:
        if name not in SETTINGS:
            raise InputError(f"unknown setting {name!r}; must be scheduler or one of {', '.join(SETTINGS)}")
    for name, cls in (("store", "Store"), ("workers", "Workers")):
        value = current.get(name)
        if isinstance(value, (str, PathLike, Integral)):
            raise InputError(f"{name} is {value!r}; give conjure.{cls}({value!r})")
    return current

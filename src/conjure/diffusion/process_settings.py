"""The settings of a process: their ranges, and the names under which `Process.set` accepts them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from conjure.deprecation import warn_renamed
from conjure.diffusion.media import MEDIA_SETTINGS
from conjure.diffusion.noise_levels import UNITS
from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer

SETTINGS = (
    "steps",
    "guidance",
    "height",
    "width",
    *MEDIA_SETTINGS,
    "default_unit",
    "pipeline_kwargs",
    "batch_prompts",
    "batch_size",
    "store",
    "workers",
)
RENAMED_SETTINGS = {"unit": "default_unit", "call": "pipeline_kwargs", "rows": "batch_size", "alone": "batch_prompts"}

# Pipelines whose result for a text depends on the other texts of its batch: they pad to the longest text and the padding
# influences the result (CogView4, Kandinsky 3 and 5, AudioLDM 2), or they treat all texts in another way if one of them contains
# quotes (Hunyuan-Image) or the last one is empty (Mochi). `conjure check` detects the former.
PIPELINES_WITHOUT_PROMPT_BATCHING = (
    "CogView4Pipeline", "Kandinsky3Pipeline", "Kandinsky5T2IPipeline", "Kandinsky5T2VPipeline", "HunyuanImagePipeline",
    "MochiPipeline", "AudioLDM2Pipeline",
)  # fmt: skip


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


def check_networks(pipeline: Any) -> None:
    """Check that the predictions of the networks of a pipeline do not vary.

    Raises:
        InputError: If a network is in training mode.
    """
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module) and is_training(module):
            raise InputError(f"the component {name!r} is in training mode, where predictions vary; call its eval()")


def check_guidance_setting(guidance: float | None, pipeline: Any, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Check whether a pipeline takes a new guidance scale.

    Args:
        guidance: The scale, or None.
        pipeline: The pipeline.
        parameters: The parameters of its call, by name.

    Raises:
        InputError: If the pipeline takes no guidance, or needs one.
    """
    parameter = parameters.get("guidance_scale")
    if guidance is not None and parameter is None:
        raise InputError(f"{type(pipeline).__name__} takes no guidance; leave it out")
    if guidance is None and parameter is not None and parameter.default is not None:
        raise InputError("guidance is None; must be a finite number >= 0 (1 is no guidance)")


def is_independent_of_batch(pipeline: Any) -> bool:
    """Return whether different texts may share a batch: whether no text changes the result of another one."""
    return {cls.__name__ for cls in type(pipeline).__mro__}.isdisjoint(PIPELINES_WITHOUT_PROMPT_BATCHING)


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
        warn_renamed(f"the setting {old!r}", f"{new!r} (its opposite)" if old == "alone" else repr(new))
        current[new] = not value if old == "alone" and value is not None else value
    for name in current:
        if name not in SETTINGS:
            raise InputError(f"unknown setting {name!r}; must be scheduler or one of {', '.join(SETTINGS)}")
    for name, cls in (("store", "Store"), ("workers", "Workers")):
        value = current.get(name)
        if isinstance(value, (str, PathLike, Integral)):
            raise InputError(f"{name} is {value!r}; give conjure.{cls}({value!r})")
    return current

"""The arguments of a pipeline's call: those of the settings of a process, and further ones for all rows."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch

from conjure.diffusion.media import MEDIA_ARGUMENTS
from conjure.errors import InputError

# Arguments of pipelines with one text per row, beside `prompt`
PROMPTS = ("prompt_2", "prompt_3", "prompt_4", "negative_prompt", "negative_prompt_2", "negative_prompt_3", "negative_prompt_4")
RESERVED_KWARGS = ("prompt", "num_inference_steps", "generator", "output_type", "latents", "return_dict", "guidance_scale",
                   "height", "width", *MEDIA_ARGUMENTS)  # fmt: skip
NUMBERS_PER_PROMPT = ("num_images_per_prompt", "num_images", "num_videos_per_prompt", "num_waveforms_per_prompt")

# Settings with which a stock pipeline does not change texts and sizes: texts are compared exactly as they were passed
DISABLED_PROMPT_PREPROCESSING = {"clean_caption": False, "use_resolution_binning": False}


def call_kwargs(
    texts: Sequence[str],
    seeds: Sequence[int],
    output_type: str,
    settings: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a pipeline's call.

    Without a negative prompt among `kwargs`, guidance leads away from what the pipeline uses when it gets only a prompt: for most
    pipelines the embedding of an empty text, for others, such as Stable Diffusion XL, zeros. Pipelines with `true_cfg_scale`,
    which have no guidance then, get an empty text.

    Args:
        texts: One text per row.
        seeds: One seed per row.
        output_type: The output type.
        settings: The settings of a process as arguments of the call. Those that are None are left out.
        parameters: The parameters of the call, by name.
        kwargs: `Process.pipeline_kwargs`.
    """
    arguments: dict[str, Any] = {
        "prompt": list(texts),
        "generator": [torch.Generator("cpu").manual_seed(abs(seed)) for seed in seeds],
        "output_type": output_type,
    }
    if "negative_prompt" in parameters:
        default = "" if "true_cfg_scale" in parameters else parameters["negative_prompt"].default
        if isinstance(default, str):
            arguments["negative_prompt"] = [default] * len(texts)  # a list, since some pipelines broadcast a string incorrectly
    arguments |= {name: value for name, value in settings.items() if value is not None}
    arguments |= {name: value for name, value in DISABLED_PROMPT_PREPROCESSING.items() if name in parameters}
    return arguments | per_row_kwargs(kwargs, len(texts))


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
    name, scale, remedy = "guidance", guidance, "set guidance above 1"
    if "true_cfg_scale" in parameters:  # the guidance of these pipelines is an input of the network
        name, scale = "true_cfg_scale", kwargs.get("true_cfg_scale", parameters["true_cfg_scale"].default)
        remedy = "give true_cfg_scale above 1 and negative_prompt in Python: process.set(pipeline_kwargs={...})"
    if scale is not None and scale <= 1:
        raise InputError(f"{cls} ignores a negative prompt with {name} {scale:g}; leave it out, or {remedy}")
    return kwargs | {"negative_prompt": negative_prompt}

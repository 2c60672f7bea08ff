"""Loading of a process: the default model, a folder in the format of diffusers, or a model on the Hugging Face Hub.

Weights are read from safetensors only, since other checkpoints can execute code. Code in a model's repository is not executed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from diffusers import DiffusionPipeline, ModularPipeline

from conjure.diffusion.compilation import denoisers, optimize_denoiser
from conjure.diffusion.load_options import LoadOptions, Lora, parse_inversions, parse_loras
from conjure.diffusion.media import MEDIA_SETTINGS, MediaSettings
from conjure.diffusion.model_settings import settings_of_pipeline, stored_scheduler
from conjure.diffusion.modifications import find_modifications, modify
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.pipeline_files import torch_dtype
from conjure.diffusion.pipeline_kwargs import check_negative_prompt, with_negative_prompt
from conjure.diffusion.placement import check_offload, choose_device, place
from conjure.diffusion.process import Process
from conjure.diffusion.schedulers import is_few_step_scheduler, make_scheduler
from conjure.diffusion.sources import load_source
from conjure.errors import FewStepModelWarning, InputError
from conjure.io.text import one_line
from conjure.user_warnings import warn_user

DEFAULT_STEPS = 10
FEW_STEP_NAMES = re.compile(r"turbo|lightning|lcm|hyper-?sd|distill", re.IGNORECASE)


def load(
    model: str | Path | DiffusionPipeline | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    fps: float | None = None,
    seconds: float | None = None,
    unit: Unit | None = None,
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    lora: str | Path | Lora | Sequence[Any] | None = None,
    textual_inversion: str | Path | Sequence[Any] | None = None,
    quantize: str | None = None,
    offload: str | None = None,
    compile: bool | None = None,
    channels_last: bool = False,
) -> Process:
    """Load a text-to-image, text-to-video or text-to-audio diffusion model as a process.

    Args:
        model: `default` or None for the model in the package; a folder in the format of diffusers; a name on the Hub, optionally
            with `@revision`; a single `.safetensors` checkpoint; or a loaded pipeline. A loaded pipeline keeps its changes, such
            as adapters, and stays on its device unless `device` is given.
        steps: The number of denoising steps T; None for the model's stored number, or 10 if it has none. The other settings
            follow the same rule: None is the stored setting of a folder that `Process.save` wrote, or else the value below.
        guidance: The classifier-free guidance scale; None for the model's default (7.5 for Stable Diffusion, as in the paper).
        scheduler: A name such as `ddim`; `own` for the model's scheduler; None for LMS, as in the paper, if LMS supports the
            model, else `own`. See `schedulers.make_scheduler`.
        negative_prompt: The text that guidance leads away from, for all texts; None or an empty text for none. It becomes a part
            of `pipeline_kwargs`.
        height: Height in pixels, None for the model's default.
        width: Width in pixels, None for the model's default.
        frames: Number of frames of a video, None for the model's default.
        fps: Frames per second, for models that take a frame rate as input; None for the model's default.
        seconds: Length of a sound, None for the model's default.
        unit: The default unit of the uniform weighting, one of `noise_levels.UNITS`; None for the model's default, or `output`
            (as in the paper) if it has none.
        device: `cpu`, `cuda` or `mps`; None for the best available device.
        dtype: `float32` (None), `float16` or `bfloat16`. Differences and sums are always computed in float32.
        variant: The variant of the weight files, such as `fp16` for `model.fp16.safetensors`; None for the default files, or
            the only variant.
        lora: One LoRA or a sequence of them: `FILE_OR_NAME[:WEIGHT]`, a path, or a pair of name and weight. A name is a
            `.safetensors` file, a folder with one, or `owner/name[/file.safetensors][@revision]` on the Hub. The weight is a
            finite number, 1 unless it is given. An empty sequence is none.
        textual_inversion: One learned embedding of a token or a sequence of them, by names as for `lora`.
        quantize: `int8` or `int4`, the type of the denoiser's weights; the computation has the type `dtype`.
        offload: `model`, `sequential` or `group`, to keep weights on the CPU while the device does not need them: whole networks,
            or single layers. It saves memory of a GPU, takes time, and changes no number.
        compile: Whether to compile the denoiser with `torch.compile`, which is worthwhile for long runs; None to compile it on
            CUDA if the forecast of a run of many pairs is longer than two minutes. Numbers then differ by rounding.
        channels_last: Whether to store the denoiser's weights in the memory format `channels_last`, in which GPUs compute
            convolutions faster.

    Returns:
        The process.

    Raises:
        InputError: If the model cannot be loaded or a setting cannot be used.
    """
    if isinstance(model, ModularPipeline):
        raise InputError("a Modular pipeline is loaded from a folder: write it with save_pretrained, and give the folder")
    chosen_device = choose_device(device)
    weights_dtype = None if dtype is None else torch_dtype(dtype)
    check_negative_prompt(negative_prompt)
    media = MediaSettings(frames, fps, seconds)
    loras, inversions = parse_loras(lora or ()), parse_inversions(textual_inversion or ())
    options = LoadOptions(variant, loras, inversions, quantize, offload)
    revision = None
    try:
        if isinstance(model, DiffusionPipeline):
            _check_options_of_pipeline(options)
            pipeline, name = model, type(model).__name__
            defaults = settings_of_pipeline(pipeline)
            if device or dtype:
                pipeline.to(device or pipeline.device, weights_dtype or pipeline.dtype)
        else:
            name = "default" if model is None else str(model)
            check_offload(offload, chosen_device)
            modifications = find_modifications(options)
            source = load_source(name, weights_dtype, variant)
            pipeline, defaults, revision = source.pipeline, source.settings, source.revision
            stored = replace(
                options,
                lora=source.lora if lora is None else loras,
                textual_inversion=source.textual_inversion if textual_inversion is None else inversions,
                quantize=defaults.get("quantize") if quantize is None else quantize,
            )
            options = modify(pipeline, modifications if stored == options else find_modifications(stored), name)
            place(pipeline, chosen_device, offload)
        is_changed = bool(options.quantize or options.offload)  # compilation of such networks must be requested
        optimize_denoiser(pipeline, bool(compile) if is_changed else compile, channels_last)
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"model {name!r} cannot be loaded: {one_line(error)}") from error
    if getattr(pipeline, "scheduler", None) is None:
        raise InputError(f"model {name!r} has no scheduler, which every process needs; give a complete folder")
    used_guidance = _choose_guidance(pipeline, name, guidance, defaults)
    is_default_guidance = guidance is None and "guidance" not in defaults
    if is_default_guidance and scheduler is None and used_guidance is not None and used_guidance > 1:
        _warn_of_few_step_model(pipeline, name, used_guidance)
    stored_or_none = stored_scheduler(defaults, name) if scheduler is None else None
    if height is None and width is None:
        height, width = defaults.get("height"), defaults.get("width")
    return Process(
        pipeline=pipeline,
        scheduler=make_scheduler(pipeline.scheduler, scheduler) if stored_or_none is None else stored_or_none,
        steps=defaults.get("steps", DEFAULT_STEPS) if steps is None else steps,
        guidance=used_guidance,
        height=height,
        width=width,
        media=MediaSettings(**({name: defaults[name] for name in MEDIA_SETTINGS if name in defaults} | media.settings())),
        default_unit=cast(Unit, defaults.get("unit", "output") if unit is None else unit),
        pipeline_kwargs=with_negative_prompt(dict(defaults.get("call", {})), negative_prompt, pipeline, used_guidance),
        model=name,
        revision=revision,
        load_options=options,
        batch_prompts=defaults.get("batch_prompts"),
    )


def _check_options_of_pipeline(options: LoadOptions) -> None:
    """Check that no option is given that changes weights while they are loaded, for a pipeline that is loaded already."""
    advice = {
        "variant": "load other weights",
        "lora": "call load_lora_weights of the pipeline",
        "textual_inversion": "call load_textual_inversion of the pipeline",
        "quantize": "quantise its denoiser",
        "offload": "call a method of the pipeline, such as enable_model_cpu_offload",
    }
    for name, value in options.arguments().items():
        if value:
            raise InputError(
                f"{name} is given with a loaded pipeline, but it applies while a model is loaded; leave it out, or give the name "
                f"of a model (for a pipeline: {advice[name]})"
            )


def _choose_guidance(pipeline: Any, name: str, guidance: float | None, defaults: Mapping[str, Any]) -> float | None:
    """Return the guidance scale: the given one, the stored one, or that of the pipeline."""
    parameters = inspect.signature(pipeline).parameters
    if "guidance_scale" in parameters:
        candidates = (guidance, defaults.get("guidance"), parameters["guidance_scale"].default)
        return next((candidate for candidate in candidates if candidate is not None), None)
    if guidance is not None:
        raise InputError(f"model {name!r} ({type(pipeline).__name__}) takes no guidance; leave it out")
    return None


def _warn_of_few_step_model(pipeline: Any, name: str, guidance: float) -> None:
    """Warn if a model seems to be distilled to few steps, but its default guidance is that of models that are not."""
    denoiser = next(iter(denoisers(pipeline).values()), None)
    config = getattr(denoiser, "config", {})
    if config.get("time_cond_proj_dim") or config.get("guidance_embeds"):
        return  # the guidance is an input of the network
    origins = [Path(name).name, *(str(part.get("_name_or_path", "")) for part in (pipeline.config, config))]
    if is_few_step_scheduler(pipeline.scheduler) or any(FEW_STEP_NAMES.search(Path(origin).name) for origin in origins):
        warn_user(
            f"model {name!r} seems to be distilled to few steps, but its default guidance is {guidance:g}; see its model card, "
            "and give for example --steps 4 --guidance 0 --scheduler own",
            FewStepModelWarning,
        )

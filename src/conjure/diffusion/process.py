"""A process: a diffusion pipeline together with every setting that influences what it generates for a text.

"Meanings arise from processes, not models": weights, sampler, steps, guidance and size together give a text its meaning. All of
them therefore belong to one object, which runs the stock pipeline, reports its settings and has a fingerprint.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from jaxtyping import Float
from torch import Tensor

from conjure.deprecation import deprecated_property, warn_renamed
from conjure.diffusion.antithetic import negate_noise
from conjure.diffusion.decoding import check_finite_images
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.fingerprint import process_fingerprint
from conjure.diffusion.interfaces import Executor, ResultCache
from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.media import (
    check_media_settings,
    frame_rate,
    generated,
    media_arguments,
    media_kind,
    media_settings,
    sample_rate,
)
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.pipeline_patching import AUTOENCODERS, patched_pipeline, warn_of_safety_checker
from conjure.diffusion.process_settings import (
    check_pipeline_kwargs,
    check_settings,
    is_training,
    per_row_kwargs,
    with_current_names,
)
from conjure.diffusion.saving import save_process
from conjure.diffusion.schedulers import make_scheduler, scheduler_alias
from conjure.errors import InputError
from conjure.plotting.media import MediaKind

# Pipelines whose result for a text depends on the other texts of its batch: they pad to the longest text and the padding
# influences the result (CogView4, Kandinsky 3, AudioLDM 2), or they treat all texts in another way if one of them contains quotes
# (Hunyuan-Image) or the last one is empty (Mochi). `conjure check` detects the former.
PIPELINES_WITHOUT_PROMPT_BATCHING = (
    "CogView4Pipeline", "Kandinsky3Pipeline", "HunyuanImagePipeline", "MochiPipeline", "AudioLDM2Pipeline",
)  # fmt: skip

MIN_STEPS = {"MochiPipeline": 2, "LTXPipeline": 2}  # their noise levels are undefined for a single step

# Settings with which a stock pipeline does not change texts and sizes: texts are compared exactly as they were passed
DISABLED_PROMPT_PREPROCESSING = {"clean_caption": False, "use_resolution_binning": False}


@dataclass(frozen=True)
class Process:
    """A pipeline with its settings. `conjure.load` creates a process; `process.set(steps=20)` returns a variant.

    Attributes:
        pipeline: Any text-to-image, text-to-video or text-to-audio pipeline of diffusers that steps through `pipeline.scheduler`.
        scheduler: The scheduler with which the pipeline runs. It is not shared with the pipeline.
        steps: The number of denoising steps T.
        guidance: The classifier-free guidance scale, None if the pipeline has none.
        height: Height of the image in pixels, None for the pipeline's default.
        width: Width of the image in pixels, None for the pipeline's default.
        frames: Number of frames of a video, None for the pipeline's default.
        fps: Frames per second, for pipelines that take a frame rate as input; None for the pipeline's default.
        seconds: Length of a sound, None for the pipeline's default.
        default_unit: The unit of the uniform weighting if a call does not specify one. One of `noise_levels.UNITS`.
        pipeline_kwargs: Further arguments for the call of the pipeline.
        model: The origin of the model. It is reported with results, and workers load the model from it.
        revision: The commit of the model on the Hub. It is reported with results, and workers load this commit.
        load_options: How the model was loaded: variant, LoRAs, textual inversions, quantisation and offloading. It is reported
            with results, and the model is loaded again in the same way.
        batch_prompts: Whether different texts may share a batch. None: False for `PIPELINES_WITHOUT_PROMPT_BATCHING`, else True.
        batch_size: The largest number of rows that the denoiser evaluates in one call, None for as many as fit. It influences
            only speed and memory use.
        store: A cache of results, so that nothing is computed twice.
        workers: An executor of the jobs; None for the current Python process. Results do not depend on it.
        lock: Held while the pipeline runs. Variants of a process share it, since they share the pipeline.
    """

    pipeline: DiffusionPipeline
    scheduler: Any
    steps: int = 10
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    default_unit: Unit = "output"
    pipeline_kwargs: dict[str, Any] = field(default_factory=dict)
    model: str = "pipeline"
    revision: str | None = None
    load_options: LoadOptions = field(default_factory=LoadOptions)
    batch_prompts: bool | None = None
    batch_size: int | None = None
    store: ResultCache | None = field(default=None, repr=False, compare=False)
    workers: Executor[Process] | None = field(default=None, repr=False, compare=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        trained_steps = self.scheduler.config.get("num_train_timesteps", 1000)
        check_settings(self.steps, trained_steps, self.guidance, self.batch_size, self.default_unit, self.height, self.width)
        parameters = self.call_parameters
        names = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
        check_pipeline_kwargs(self.pipeline_kwargs, names)
        check_media_settings(self.media_settings, self.pipeline, parameters)
        if self.batch_prompts is None:
            classes = {cls.__name__ for cls in type(self.pipeline).__mro__}
            object.__setattr__(self, "batch_prompts", classes.isdisjoint(PIPELINES_WITHOUT_PROMPT_BATCHING))
        for name, module in self.pipeline.components.items():
            if isinstance(module, torch.nn.Module) and is_training(module):
                raise InputError(f"the component {name!r} is in training mode, where predictions vary; call its eval()")

    unit = deprecated_property("unit", "default_unit")
    call = deprecated_property("call", "pipeline_kwargs")
    rows = deprecated_property("rows", "batch_size")

    @property
    def alone(self) -> bool:
        """Deprecated: the opposite of `batch_prompts`."""
        warn_renamed("Process.alone", "Process.batch_prompts (its opposite)")
        return not self.batch_prompts

    def set(self, *, scheduler: str | None = None, **settings: Any) -> Process:
        """Return a process over the same weights with other settings.

        Args:
            scheduler: The name of another scheduler, as in `conjure.load`.
            settings: Other attributes of this class: steps, guidance, height, width, frames, fps, seconds,
                default_unit, pipeline_kwargs, batch_prompts, batch_size, store or workers.

        Raises:
            InputError: If a setting is unknown or its value is out of range.
        """
        settings = with_current_names(settings)
        parameter = self.call_parameters.get("guidance_scale")
        if settings.get("guidance") is not None and parameter is None:
            raise InputError(f"{type(self.pipeline).__name__} takes no guidance; leave it out")
        if "guidance" in settings and settings["guidance"] is None and parameter is not None and parameter.default is not None:
            raise InputError("guidance is None; must be a finite number >= 0 (1 is no guidance)")
        if scheduler is not None:
            settings["scheduler"] = make_scheduler(self.pipeline.scheduler, scheduler)
        return replace(self, **settings)

    replace = set

    @property
    def device(self) -> torch.device:
        """The device that computes, also while the weights are offloaded."""
        return self.pipeline._execution_device

    @property
    def call_parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of the pipeline's call."""
        return dict(inspect.signature(self.pipeline).parameters)

    @property
    def kind(self) -> MediaKind:
        """What the pipeline generates: `image`, `video` or `audio`."""
        return media_kind(self.call_parameters)

    @property
    def media_settings(self) -> dict[str, int | float]:
        """Those of the settings `frames`, `fps` and `seconds` that are given."""
        return media_settings(self.frames, self.fps, self.seconds)

    @property
    def media_rate(self) -> float | None:
        """The frames per second of a video, the samples per second of a sound, None for images."""
        if self.kind == "video":
            return frame_rate(self.pipeline, self.call_parameters, self.fps)
        return sample_rate(self.pipeline) if self.kind == "audio" else None

    def run(
        self,
        texts: Sequence[str],
        seeds: Sequence[int],
        output_type: str = "latent",
        text_cache: TextEmbeddingCache | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the stock pipeline and return its images, videos or sounds.

        The noise of a row depends only on its seed: each row has its own random generator, which is on the CPU for every device.

        Args:
            texts: One text per row.
            seeds: One seed per row. A negative seed gives the negated noise of its absolute value.
            output_type: The output type of the pipeline's call: `latent`, `np`, `pil`, ...
            text_cache: The embeddings of texts that were encoded before. Several calls may share it.
            kwargs: Further arguments of the pipeline's call.

        Returns:
            One image, video, sound or latent per row, of the output type.

        Warns:
            TextTruncationWarning: If a text is truncated.
            SafetyCheckerWarning: Once per pipeline, if it has a safety checker, which is switched off.

        Raises:
            InputError: If images are not finite.
        """
        if output_type != "latent":
            warn_of_safety_checker(self.pipeline)
        arguments = self.call_kwargs(texts, seeds, output_type) | kwargs
        with self.patched_pipeline(text_cache or TextEmbeddingCache()) as pipeline, negate_noise(arguments["generator"], seeds):
            outputs = generated(pipeline(**arguments))
        if output_type == "np":
            check_finite_images(outputs)
        return outputs

    def call_kwargs(self, texts: Sequence[str], seeds: Sequence[int], output_type: str) -> dict[str, Any]:
        """Return the arguments of the pipeline's call. `texts`, `seeds` and `output_type` are those of `run`."""
        kwargs: dict[str, Any] = {
            "prompt": list(texts),
            "num_inference_steps": self.steps,
            "generator": [torch.Generator("cpu").manual_seed(abs(seed)) for seed in seeds],
            "output_type": output_type,
        }
        parameters = self.call_parameters
        if "negative_prompt" in parameters:
            kwargs["negative_prompt"] = [""] * len(texts)  # a list, since some pipelines broadcast a string incorrectly
        for name, value in (("guidance_scale", self.guidance), ("height", self.height), ("width", self.width)):
            if value is not None:
                kwargs[name] = value
        kwargs |= media_arguments(self.media_settings, parameters)
        disabled = {name: value for name, value in DISABLED_PROMPT_PREPROCESSING.items() if name in parameters}
        return kwargs | disabled | per_row_kwargs(self.pipeline_kwargs, len(texts))

    def patched_pipeline(self, text_cache: TextEmbeddingCache) -> contextlib.AbstractContextManager[DiffusionPipeline]:
        """Context manager with the pipeline, patched to run this process. See `pipeline_patching.patched_pipeline`."""
        return patched_pipeline(
            self.pipeline,
            self.scheduler,
            text_cache,
            self.lock,
            max_rows=self.batch_size,
            max_prompt_tokens=self._max_prompt_tokens(),
        )

    def _max_prompt_tokens(self) -> float:
        """Return how many tokens the pipeline keeps if it truncates prompts after encoding, else infinity.

        The tokens of its template are included.
        """
        template = getattr(self.pipeline, "prompt_template_encode_start_idx", None)
        limit = self.call_parameters.get("max_sequence_length")
        if template is None or limit is None:
            return math.inf
        return template + self.pipeline_kwargs.get("max_sequence_length", limit.default)

    def decode(
        self, latents: Float[Tensor, "rows *latent"], text_cache: TextEmbeddingCache | None = None
    ) -> Float[np.ndarray, "rows *media"]:
        """Decode latents to images, videos or sounds.

        The pipeline itself decodes: it runs with a scheduler whose step returns `latents`. Unpacking, scaling and the autoencoder
        therefore need no code per model family.

        Args:
            latents: Final or denoised latents.
            text_cache: See `run`.

        Returns:
            Images (height, width, 3) or videos (frames, height, width, 3) with values in 0..1; or sounds (channels, samples) with
            values in -1..1.
        """
        if all(getattr(self.pipeline, name, None) is None for name in AUTOENCODERS):
            # A pixel-space model: latents are images in -1..1
            images = latents.float().clamp(-1, 1).movedim(1, -1).cpu().numpy() / 2 + 0.5
            check_finite_images(images)
            return images.repeat(3, axis=-1) if images.shape[-1] == 1 else images[..., :3]
        scheduler = type(self.scheduler).from_config(self.scheduler.config)

        def return_latents(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
            return SchedulerOutput(latents) if return_dict else (latents, latents)

        return_latents.__signature__ = inspect.signature(scheduler.step)  # type: ignore[attr-defined]
        scheduler.step = return_latents
        rows, steps = len(latents), MIN_STEPS.get(type(self.pipeline).__name__, 1)
        decoded = np.asarray(replace(self, scheduler=scheduler, steps=steps).run([""] * rows, [0] * rows, "np", text_cache))
        return decoded.reshape(rows, -1, decoded.shape[-1]) if self.kind == "audio" else decoded

    def settings(self) -> dict[str, Any]:
        """Return all settings, with the model and its revision, as plain data for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "pipeline": type(self.pipeline).__name__,
            "scheduler": scheduler_alias(type(self.scheduler).__name__),
            "scheduler_config": {k: v for k, v in sorted(self.scheduler.config.items()) if not k.startswith("_")},
            "steps": int(self.steps),
            "guidance": None if self.guidance is None else float(self.guidance),
            "height": self.height,
            "width": self.width,
            "default_unit": self.default_unit,
            "batch_prompts": self.batch_prompts,
            "pipeline_kwargs": self.pipeline_kwargs,
            **self.media_settings,
            "dtype": str(self.pipeline.dtype).removeprefix("torch."),
            "device": str(self.workers or self.device),
            **self.load_options.settings(),
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that influences a result, which howto/store.md lists.

        Warns:
            UnknownBehaviorWarning: If something changes the modules of the pipeline that cannot be hashed.
        """
        with self.lock:  # a run replaces parts of the pipeline
            return process_fingerprint(self.settings(), self.pipeline, self.scheduler)

    def storable_fingerprint(self) -> str:
        """Return the fingerprint, to write results under it.

        Raises:
            InputError: If something changes the modules of the pipeline that cannot be hashed.
        """
        with self.lock:
            return process_fingerprint(self.settings(), self.pipeline, self.scheduler, storable=True)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the pipeline and the settings to a folder that `conjure.load` loads as the same process.

        The folder has the format of diffusers, with the settings in its file `conjure.json`, and the files of LoRAs and textual
        inversions in its folder `adapters`. It does not contain a store, workers, the batch size or offloading, which influence
        no number. It is loaded once to check that it has the same fingerprint. If the model was changed while it was loaded, such
        as by a LoRA, its own weights are read from its files again.

        Args:
            folder: A new or empty folder.

        Raises:
            InputError: If the folder cannot be written, or if it would load as another process, because the pipeline or its
                settings have changes that it cannot hold.
        """
        save_process(self.pipeline, self.scheduler, self.settings(), self.load_options, folder)

    def identity(self) -> str:
        """Deprecated name of `fingerprint`."""
        warn_renamed("Process.identity()", "Process.fingerprint()")
        return self.fingerprint()

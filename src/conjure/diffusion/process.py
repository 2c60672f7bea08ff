"""A process: a diffusion pipeline together with every setting that influences what it generates for a text.

"Meanings arise from processes, not models": weights, sampler, steps, guidance and size together give a text its meaning. All of
them therefore belong to one object, which runs the stock pipeline, reports its settings and has a fingerprint.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.antithetic import negate_noise
from conjure.diffusion.decoding import MIN_STEPS, check_finite_images, images_of_pixels, scheduler_that_returns
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.fingerprint import process_fingerprint
from conjure.diffusion.interfaces import Executor, ResultCache
from conjure.diffusion.load_options import LoadOptions, summarize_settings
from conjure.diffusion.media import MEDIA_SETTINGS, MediaSettings, generated, media_kind, media_of
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.pipeline_kwargs import call_kwargs, check_pipeline_kwargs
from conjure.diffusion.pipeline_patching import AUTOENCODERS, patched_pipeline, warn_of_safety_checker
from conjure.diffusion.process_names import DeprecatedProcessNames
from conjure.diffusion.process_settings import (
    check_guidance_setting,
    check_networks,
    check_settings,
    is_independent_of_batch,
    with_current_names,
)
from conjure.diffusion.saving import save_process
from conjure.diffusion.schedulers import make_scheduler, plain_config, replaced_methods, scheduler_alias
from conjure.diffusion.step_noise import seeded_scheduler
from conjure.diffusion.tokenizers import max_prompt_tokens, warn_of_lost_texts
from conjure.plotting.media import MediaKind


@dataclass(frozen=True)
class Process(DeprecatedProcessNames):
    """A pipeline with its settings. `conjure.load` creates a process; `process.set(steps=20)` returns a variant.

    Attributes:
        pipeline: Any text-to-image, text-to-video or text-to-audio pipeline of diffusers that steps through `pipeline.scheduler`.
        scheduler: The scheduler with which the pipeline runs. It is not shared with the pipeline.
        steps: The number of denoising steps T.
        guidance: The classifier-free guidance scale, None if the pipeline has none.
        height: Height of the image in pixels, None for the pipeline's default.
        width: Width of the image in pixels, None for the pipeline's default.
        media: The settings that only videos and sounds have: frames, fps and seconds.
        default_unit: The unit of the uniform weighting if a call does not specify one. One of `noise_levels.UNITS`.
        pipeline_kwargs: Further arguments for the call of the pipeline.
        model: The origin of the model. It is reported with results, and workers load the model from it.
        revision: The commit of the model on the Hub. It is reported with results, and workers load this commit.
        load_options: How the model was loaded: variant, LoRAs, textual inversions, quantisation and offloading. It is reported
            with results, and the model is loaded again in the same way.
        batch_prompts: Whether different texts may share a batch. None: False for
            `process_settings.PIPELINES_WITHOUT_PROMPT_BATCHING`, else True.
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
    media: MediaSettings = field(default_factory=MediaSettings)
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
        self.media.check(self.pipeline, parameters)
        if self.batch_prompts is None:
            object.__setattr__(self, "batch_prompts", is_independent_of_batch(self.pipeline))
        check_networks(self.pipeline)

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
        if "guidance" in settings:
            check_guidance_setting(settings["guidance"], self.pipeline, self.call_parameters)
        media = {name: settings.pop(name) for name in MEDIA_SETTINGS if name in settings}
        if media:
            settings["media"] = replace(self.media, **media)
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
    def media_rate(self) -> float | None:
        """The frames per second of a video, the samples per second of a sound, None for images."""
        return self.media.rate(self.pipeline, self.call_parameters)

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
        # A new scheduler would not have the replaced methods of this one
        process = self if replaced_methods(self.scheduler) else replace(self, scheduler=seeded_scheduler(self.scheduler, seeds))
        return process._call_pipeline(texts, seeds, output_type, text_cache, **kwargs)

    def _call_pipeline(
        self, texts: Sequence[str], seeds: Sequence[int], output_type: str, text_cache: TextEmbeddingCache | None, **kwargs: Any
    ) -> Any:
        """Run the pipeline with the scheduler as it is. Arguments, result, warnings and errors are those of `run`."""
        if output_type != "latent":
            warn_of_safety_checker(self.pipeline)
        arguments = self.call_kwargs(texts, seeds, output_type) | kwargs
        patched = self.patched_pipeline(text_cache or TextEmbeddingCache(), single_row=len(texts) == 1)
        with patched as pipeline, negate_noise(arguments["generator"], seeds):
            outputs = generated(pipeline(**arguments))
        if output_type == "np":
            check_finite_images(outputs)
        return outputs

    def warn_of_lost_texts(self, texts: Iterable[str]) -> None:
        """Emit the warnings about lost text that `run` would emit, for texts whose results are known. See `tokenizers`."""
        warn_of_lost_texts(self.pipeline, self.call_parameters, self.pipeline_kwargs, texts)

    def call_kwargs(self, texts: Sequence[str], seeds: Sequence[int], output_type: str) -> dict[str, Any]:
        """Return the arguments of the pipeline's call. `texts`, `seeds` and `output_type` are those of `run`."""
        parameters = self.call_parameters
        settings = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "height": self.height,
            "width": self.width,
            **self.media.arguments(parameters),
        }
        return call_kwargs(texts, seeds, output_type, settings, parameters, self.pipeline_kwargs)

    def patched_pipeline(
        self, text_cache: TextEmbeddingCache, *, single_row: bool = False
    ) -> contextlib.AbstractContextManager[DiffusionPipeline]:
        """Context manager with the pipeline, patched to run this process. See `pipeline_patching.patched_pipeline`."""
        return patched_pipeline(
            self.pipeline,
            self.scheduler,
            text_cache,
            self.lock,
            max_rows=self.batch_size,
            max_prompt_tokens=max_prompt_tokens(self.pipeline, self.call_parameters, self.pipeline_kwargs),
            single_row=single_row,
        )

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
            return images_of_pixels(latents)
        scheduler, rows = scheduler_that_returns(self.scheduler, latents), len(latents)
        steps = MIN_STEPS.get(type(self.pipeline).__name__, 1)
        constant = replace(self, scheduler=scheduler, steps=steps)
        outputs = constant._call_pipeline([""] * rows, [0] * rows, "np", text_cache)
        return np.stack([media.values for media in media_of(outputs, self.kind, self.media_rate)])

    def settings(self) -> dict[str, Any]:
        """Return all settings, with the model and its revision, as plain data for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "pipeline": type(self.pipeline).__name__,
            "scheduler": scheduler_alias(type(self.scheduler).__name__),
            "scheduler_config": plain_config(self.scheduler),
            "steps": int(self.steps),
            "guidance": None if self.guidance is None else float(self.guidance),
            "height": self.height,
            "width": self.width,
            "default_unit": self.default_unit,
            "batch_prompts": self.batch_prompts,
            "pipeline_kwargs": self.pipeline_kwargs,
            **self.media.settings(),
            "dtype": str(self.pipeline.dtype).removeprefix("torch."),
            "device": str(self.workers or self.device),
            **self.load_options.settings(),
        }

    def __str__(self) -> str:
        settings = self.settings()
        return f"{settings['pipeline']}: {summarize_settings(settings)}; {settings['dtype']} on {settings['device']}"

    __repr__ = __str__

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

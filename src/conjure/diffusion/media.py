"""What a pipeline generates: images, videos or sounds, and the settings that only videos and sounds have."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer
from conjure.plotting.media import Media, MediaKind

# For each setting the names of the argument of a pipeline's call; a pipeline has at most one of them
ARGUMENTS = {
    "frames": ("num_frames", "frames", "video_length"),
    "fps": ("frame_rate", "fps"),
    "seconds": ("audio_length_in_s", "audio_end_in_s"),
}
MEDIA_SETTINGS = tuple(ARGUMENTS)
MEDIA_ARGUMENTS = tuple(name for names in ARGUMENTS.values() for name in names)
OUTPUTS = ("images", "frames", "audios")
DESCRIPTIONS = {"frames": "number of frames", "fps": "frame rate", "seconds": "length in seconds"}

# Attributes of pipelines: how many frames of a video correspond to one of its latents
TEMPORAL_FACTORS = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")

# Autoencoders that decode two frames of latents together
FRAME_MULTIPLES = {"CogVideoX": 2}

# Frames per second of the videos that models without an argument for it were trained on
FRAME_RATES = {"CogVideoX": 8, "AnimateDiff": 8, "Wan": 16, "HunyuanVideo": 24, "Mochi": 30}
DEFAULT_FRAME_RATE = 16
COGVIDEOX_1_5_RATE = 16  # CogVideoX 1.5, whose denoiser joins latents in time: https://github.com/zai-org/CogVideo
WAN_2_2_TI2V_RATE = 24  # Wan 2.2 TI2V-5B, whose denoiser has a timestep per position: https://github.com/Wan-Video/Wan2.2
MAX_FRAME_RATE = 1000

KIND_NAMES: dict[MediaKind, str] = {"image": "image", "video": "video", "audio": "sound"}
PLURALS: dict[MediaKind, str] = {"image": "images", "video": "videos", "audio": "audio"}


def media_kind(parameters: Collection[str]) -> MediaKind:
    """Return what a pipeline generates.

    Args:
        parameters: The names of the parameters of its call.
    """
    if any(name in parameters for name in ARGUMENTS["frames"]):
        return "video"
    return "audio" if any(name in parameters for name in ARGUMENTS["seconds"]) else "image"


def media_of(outputs: Any, kind: MediaKind, rate: float | None) -> list[Media]:
    """Return decoded results as images, videos or sounds.

    Args:
        outputs: What `generated` returns for the output type `np`: one result per row. A sound of a pipeline with one channel has
            the shape (samples,).
        kind: What they are.
        rate: Frames or samples per second; None for images.
    """
    results = [np.asarray(output) for output in outputs]
    return [Media(kind, np.atleast_2d(result) if kind == "audio" else result, rate) for result in results]


def generated(output: Any) -> Any:
    """Return the images, videos or sounds of the output of a pipeline's call.

    Args:
        output: What the call of a pipeline returned.
    """
    return next(getattr(output, name) for name in OUTPUTS if hasattr(output, name))


@dataclass(frozen=True)
class MediaSettings:
    """The settings that only processes of videos and sounds have.

    Attributes:
        frames: Number of frames of a video, None for the pipeline's default.
        fps: Frames per second, for pipelines that take a frame rate as input; None for the pipeline's default.
        seconds: Length of a sound, None for the pipeline's default.

    Raises:
        InputError: If a value is out of range.
    """

    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.settings().items():
            if name == "frames" and not is_integer(value, 1):
                raise InputError(f"frames is {value!r}; must be an integer >= 1")
            if name == "fps" and is_finite_number(value) and value > MAX_FRAME_RATE:
                raise InputError(f"fps is {value:g}; must be at most {MAX_FRAME_RATE}")
            if name != "frames" and not (is_finite_number(value) and value > 0):
                raise InputError(f"{name} is {value!r}; must be a finite number > 0")

    def settings(self) -> dict[str, int | float]:
        """Return the given settings by name. Those that are None are left out, so that processes of images have none of them."""
        settings = {name: getattr(self, name) for name in ARGUMENTS}
        return {name: value for name, value in settings.items() if value is not None}

    def arguments(self, parameters: Collection[str]) -> dict[str, int | float]:
        """Return the given settings as arguments of a pipeline's call.

        Args:
            parameters: The names of the parameters of the call.
        """
        given = self.settings().items()
        return {argument: value for name, value in given for argument in ARGUMENTS[name] if argument in parameters}

    def check(self, pipeline: Any, parameters: Collection[str]) -> None:
        """Check that a pipeline has the given settings.

        Args:
            pipeline: The pipeline.
            parameters: The names of the parameters of its call.

        Raises:
            InputError: If the pipeline has no such setting, or does not generate this number of frames.
        """
        cls, kind = type(pipeline).__name__, media_kind(parameters)
        for name, value in self.settings().items():
            if not any(argument in parameters for argument in ARGUMENTS[name]):
                takes_none = f"{cls} takes no {DESCRIPTIONS[name]}, since it generates {PLURALS[kind]}"
                raise InputError(f"{name} is {value:g}, but {takes_none}; leave it out")
        multiple = next((number for prefix, number in FRAME_MULTIPLES.items() if cls.startswith(prefix)), 1)
        factor = temporal_factor(pipeline) * multiple
        if self.frames is not None and self.frames % factor != 1 % factor:
            below = max(0, self.frames - 1) // factor * factor + 1
            raise InputError(
                f"frames is {self.frames}, which {cls} does not generate; must be 1 more than a multiple "
                f"of {factor}, such as {below} or {below + factor}"
            )
        if self.seconds is not None and self.seconds * (rate := audio_rate(pipeline)) < (shortest := _min_samples(pipeline)):
            raise InputError(
                f"seconds is {self.seconds:g}, which is too short for {cls}; must be at least {shortest / rate:.2g}, the length "
                f"of {'1 sample' if shortest == 1 else f'{shortest} samples'}"
            )
        longest = max_frames(pipeline)
        if self.frames is not None and longest is not None and self.frames > longest:
            raise InputError(f"frames is {self.frames}, but the motion adapter of this model takes at most {longest}; give fewer")

    def rate(self, pipeline: Any, parameters: Mapping[str, Any]) -> float | None:
        """Return the frames per second of the videos of a pipeline, or the samples per second of its sounds; None for images.

        Args:
            pipeline: The pipeline.
            parameters: The parameters of its call, by name.
        """
        match media_kind(parameters):
            case "image":
                return None
            case "audio":
                return audio_rate(pipeline)
        default = next((parameters[name].default for name in ARGUMENTS["fps"] if name in parameters), None)
        return float(self.fps or default or _trained_frame_rate(pipeline))


def audio_rate(pipeline: Any) -> float:
    """Return the samples per second of a pipeline of sounds: those of its vocoder, or of its autoencoder without one."""
    network = getattr(pipeline, "vocoder", None) or pipeline.vae
    return float(network.config.sampling_rate)


def samples_per_latent(pipeline: Any) -> int | None:
    """Return the number of samples of a sound per time of its latents; None if the pipeline does not define it."""
    vocoder = getattr(pipeline, "vocoder", None)
    if vocoder is None:
        return getattr(pipeline.vae, "hop_length", None)
    rates, factor = getattr(vocoder.config, "upsample_rates", None), getattr(pipeline, "vae_scale_factor", None)
    return math.prod(rates) * factor if rates and factor else None


def _min_samples(pipeline: Any) -> int:
    """Return the samples of the shortest sound: pipelines without a vocoder cut a longer one, the others denoise its length."""
    return 1 if getattr(pipeline, "vocoder", None) is None else samples_per_latent(pipeline) or 1


def padding_latents(pipeline: Any, num_latents: int) -> int:
    """Return how many of the first latents of a video the pipeline drops before decoding.

    CogVideoX 1.5 denoises latents in pairs, and adds one latent where their number is odd.

    Args:
        pipeline: The pipeline.
        num_latents: The number of latents that are decoded.
    """
    return -num_latents % _temporal_patch_size(pipeline) if type(pipeline).__name__.startswith("CogVideoX") else 0


def _trained_frame_rate(pipeline: Any) -> int:
    name = type(pipeline).__name__
    if name.startswith("CogVideoX") and _temporal_patch_size(pipeline) > 1:
        return COGVIDEOX_1_5_RATE
    if name.startswith("Wan") and pipeline.config.get("expand_timesteps"):
        return WAN_2_2_TI2V_RATE
    return next((rate for prefix, rate in FRAME_RATES.items() if name.startswith(prefix)), DEFAULT_FRAME_RATE)


def _temporal_patch_size(pipeline: Any) -> int:
    """Return how many latents the denoiser of CogVideoX joins in time."""
    return pipeline.transformer.config.get("patch_size_t") or 1


def max_frames(pipeline: Any) -> int | None:
    """Return the largest number of frames that a motion adapter has positions for; None without a limit."""
    if getattr(pipeline, "free_noise_enabled", False):  # diffusers then evaluates windows of frames
        return None
    config = getattr(getattr(pipeline, "unet", None), "config", {})
    limit: int | None = config.get("motion_max_seq_length")
    return limit


def temporal_factor(pipeline: Any) -> int:
    """Return how many frames of a video correspond to one frame of its latents, 1 for pipelines without such a factor."""
    return next((int(getattr(pipeline, name)) for name in TEMPORAL_FACTORS if getattr(pipeline, name, None)), 1)

"""What a pipeline generates: images, videos or sounds, and the settings that only videos and sounds have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from conjure.errors import InputError
from conjure.io.numbers import is_finite_number, is_integer
from conjure.plotting.media import MediaKind

# For each setting the names of the argument of a pipeline's call; a pipeline has at most one of them
ARGUMENTS = {
    "frames": ("num_frames", "frames", "video_length"),
    "fps": ("frame_rate", "fps"),
    "seconds": ("audio_length_in_s", "audio_end_in_s"),
}
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


def media_kind(parameters: Collection[str]) -> MediaKind:
    """Return what a pipeline generates.

    Args:
        parameters: The names of the parameters of its call.
    """
    if any(name in parameters for name in ARGUMENTS["frames"]):
        return "video"
    return "audio" if any(name in parameters for name in ARGUMENTS["seconds"]) else "image"


def generated(output: Any) -> Any:
    """Return the images, videos or sounds of the output of a pipeline's call.

    Args:
        output: What the call of a pipeline returned.
    """
    return next(getattr(output, name) for name in OUTPUTS if hasattr(output, name))


def media_settings(frames: int | None, fps: float | None, seconds: float | None) -> dict[str, int | float]:
    """Return the given settings by name. Those that are None are left out, so that processes of images have none of them."""
    settings = {"frames": frames, "fps": fps, "seconds": seconds}
    return {name: value for name, value in settings.items() if value is not None}


def media_arguments(settings: Mapping[str, Any], parameters: Collection[str]) -> dict[str, Any]:
    """Return settings as arguments of a pipeline's call.

    Args:
        settings: What `media_settings` returns, after `check_media_settings`.
        parameters: The names of the parameters of the call.
    """
    return {argument: value for name, value in settings.items() for argument in ARGUMENTS[name] if argument in parameters}


def check_media_settings(settings: Mapping[str, Any], pipeline: Any, parameters: Collection[str]) -> None:
    """Check the settings of videos and sounds.

    Args:
        settings: What `media_settings` returns.
        pipeline: The pipeline.
        parameters: The names of the parameters of its call.

    Raises:
        InputError: If the pipeline has no such setting, or does not generate this number of frames.
    """
    check_media_values(settings)
    cls, kind = type(pipeline).__name__, media_kind(parameters)
    for name, value in settings.items():
        if not any(argument in parameters for argument in ARGUMENTS[name]):
            raise InputError(
                f"{name} is {value:g}, but {cls} takes no {DESCRIPTIONS[name]}, since it generates "
                f"{'audio' if kind == 'audio' else kind + 's'}; leave it out"
            )
    factor = temporal_factor(pipeline) * next((number for prefix, number in FRAME_MULTIPLES.items() if cls.startswith(prefix)), 1)
    if "frames" in settings and settings["frames"] % factor != 1 % factor:
        below = max(0, settings["frames"] - 1) // factor * factor + 1
        raise InputError(
            f"frames is {settings['frames']}, which {cls} does not generate; must be 1 more than a multiple "
            f"of {factor}, such as {below} or {below + factor}"
        )


def check_media_values(settings: Mapping[str, Any]) -> None:
    """Check the values of the settings of videos and sounds, before a model is loaded.

    Args:
        settings: What `media_settings` returns.

    Raises:
        InputError: If a value is out of range.
    """
    for name, value in settings.items():
        if name == "frames" and not is_integer(value, 1):
            raise InputError(f"frames is {value!r}; must be an integer >= 1")
        if name != "frames" and not (is_finite_number(value) and value > 0):
            raise InputError(f"{name} is {value!r}; must be a finite number > 0")


def temporal_factor(pipeline: Any) -> int:
    """Return how many frames of a video correspond to one frame of its latents, 1 for pipelines without such a factor."""
    return next((int(getattr(pipeline, name)) for name in TEMPORAL_FACTORS if getattr(pipeline, name, None)), 1)


def frame_rate(pipeline: Any, parameters: Mapping[str, Any], fps: float | None) -> float:
    """Return the frames per second of the videos of a pipeline.

    Args:
        pipeline: The pipeline.
        parameters: The parameters of its call, by name.
        fps: The setting, None for the default of the pipeline.
    """
    default = next((parameters[name].default for name in ARGUMENTS["fps"] if name in parameters), None)
    name = type(pipeline).__name__
    trained = next((rate for prefix, rate in FRAME_RATES.items() if name.startswith(prefix)), DEFAULT_FRAME_RATE)
    return float(fps or default or trained)


def sample_rate(pipeline: Any) -> float:
    """Return the samples per second of the sounds of a pipeline: those of its vocoder, or of its autoencoder without one."""
    network = getattr(pipeline, "vocoder", None) or pipeline.vae
    return float(network.config.sampling_rate)

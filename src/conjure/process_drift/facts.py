"""What is known of a process without its model in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjure.diffusion.fingerprint import module_fingerprint
from conjure.diffusion.interfaces import ResultCache
from conjure.diffusion.noise_levels import NoiseLevel, PredictionType, Unit, prediction_type
from conjure.diffusion.pipeline_patching import AUTOENCODERS
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import noise_seed
from conjure.diffusion.shared_trajectory import DenoisingStep, run_on_shared_trajectories
from conjure.diffusion.weights import DiskTensor, plain_tensors, read_weights
from conjure.plotting.media import MediaKind


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder with its weights on the CPU.

    Attributes:
        fingerprint: The hash of its class, configuration, weights and behaviour.
        config: Its class and its configuration.
        weights: Its tensors by name.
    """

    fingerprint: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class ProcessFacts:
    """What is known of a process without its model in memory.

    Attributes:
        settings: Its settings.
        fingerprint: Its fingerprint.
        scheduler: Its scheduler.
        steps: The number of steps T.
        default_unit: Its default unit.
        prediction_type: What its model predicts.
        batch_prompts: Whether different texts may share a batch.
        dtype: The data type of its weights.
        store: Its store, or None.
        timesteps: The T timesteps that it visits.
        noise_levels: The noise levels at these timesteps.
        kind: What it generates.
        latent_shape: The shape of one latent.
        media_size: Height, width and number of frames of what it generates; None for those that only the pipeline knows.
        autoencoder: Its autoencoder; None for a model of pixels.
    """

    settings: dict[str, Any]
    fingerprint: str
    scheduler: Any
    steps: int
    default_unit: Unit
    prediction_type: PredictionType
    batch_prompts: bool
    dtype: torch.dtype
    store: ResultCache | None
    timesteps: tuple[float, ...]
    noise_levels: tuple[NoiseLevel, ...]
    kind: MediaKind
    latent_shape: tuple[int, ...]
    media_size: tuple[int | None, ...]
    autoencoder: Autoencoder | None


def inspect_process(process: Process, text: str) -> ProcessFacts:
    """Return the facts about a process. It runs one trajectory, which visits the noise levels.

    Args:
        process: The process.
        text: The text of the trajectory.

    Raises:
        InputError: If the process cannot run, or has a store although its results cannot be stored.
    """
    fingerprint = process.fingerprint() if process.store is None else process.storable_fingerprint()
    steps: list[DenoisingStep] = []
    final = run_on_shared_trajectories(process, [text], [0], [noise_seed(0, 0)], steps.append)
    return ProcessFacts(
        settings=process.settings(),
        fingerprint=fingerprint,
        scheduler=process.scheduler,
        steps=process.steps,
        default_unit=process.default_unit,
        prediction_type=prediction_type(process.scheduler),
        batch_prompts=bool(process.batch_prompts),
        dtype=process.pipeline.dtype,
        store=process.store,
        timesteps=tuple(step.timestep for step in steps),
        noise_levels=tuple(step.noise_level for step in steps),
        kind=process.kind,
        latent_shape=tuple(final.shape[1:]),
        media_size=_media_size(process),
        autoencoder=_autoencoder(process),
    )


def _media_size(process: Process) -> tuple[int | None, ...]:
    given = {"height": process.height, "width": process.width, **process.media.arguments(process.call_parameters)}
    defaults = {name: parameter.default for name, parameter in process.call_parameters.items()}
    sizes = [defaults.get(name) if given.get(name) is None else given[name] for name in ("height", "width", "num_frames")]
    return tuple(size if isinstance(size, int) else None for size in sizes)


def same_autoencoder(a: Autoencoder | None, b: Autoencoder | None) -> bool:
    """Return whether two autoencoders are equal, up to the rounding of all weights of one of them to half precision."""
    if a is None or b is None:
        return a is b
    if a.fingerprint == b.fingerprint:
        return True
    if a.config != b.config or a.weights.keys() != b.weights.keys():
        return False
    precision = max(_precision(part.weights.values()) for part in (a, b))
    return all(_is_equal_after_rounding(a.weights[name], b.weights[name], precision) for name in a.weights)


def _precision(weights: Iterable[Tensor]) -> float:
    """Return the precision of the coarsest data type that holds all weights exactly, whatever their own type is."""
    numbers = [tensor for tensor in weights if tensor.is_floating_point()]
    exact = [
        torch.finfo(dtype).eps
        for dtype in (torch.float16, torch.bfloat16)
        if all(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor) for tensor in numbers)
    ]
    return max(exact, default=0.0)


def _is_equal_after_rounding(a: Tensor, b: Tensor, precision: float) -> bool:
    if a.shape != b.shape or not (a.is_floating_point() and b.is_floating_point()):
        return torch.equal(a, b)
    if a.dtype != b.dtype:  # some layers of a model in half precision may be in float32
        precision = max(precision, *(torch.finfo(tensor.dtype).eps for tensor in (a, b)))
    elif not precision:
        return torch.equal(a, b)
    return torch.allclose(a.float(), b.float(), rtol=precision, atol=1e-7)


def _autoencoder(process: Process) -> Autoencoder | None:
    module = next((part for name in AUTOENCODERS if (part := getattr(process.pipeline, name, None)) is not None), None)
    if module is None:
        return None
    config = {key: value for key, value in dict(module.config).items() if not key.startswith("_")}
    tensors = {
        f"{name} {part}": inner.detach().cpu()
        for name, tensor in read_weights(module).items()
        for part, inner in plain_tensors(tensor.read() if isinstance(tensor, DiskTensor) else tensor)
    }
    return Autoencoder(module_fingerprint(autoencoder=module), {"class": type(module).__name__, **config}, tensors)

"""Decoding of given latents by a stock pipeline, and images without NaN.

An autoencoder whose images are not finite decodes again in float32, and other NaN is reported.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.patching import patched_method
from conjure.errors import InputError

MIN_STEPS = {"MochiPipeline": 2, "LTXPipeline": 2}  # their noise levels are undefined for a single step


def images_of_pixels(latents: Float[Tensor, "rows channels height width"]) -> Float[np.ndarray, "rows height width 3"]:
    """Return the images of a model without an autoencoder, whose latents are images in -1..1.

    Args:
        latents: Final or denoised latents.

    Raises:
        InputError: If an image is not finite.
    """
    images = latents.float().clamp(-1, 1).movedim(1, -1).cpu().numpy() / 2 + 0.5
    check_finite_images(images)
    return images.repeat(3, axis=-1) if images.shape[-1] == 1 else images[..., :3]


def scheduler_that_returns(scheduler: Any, latents: Float[Tensor, "rows *latent"]) -> Any:
    """Return a scheduler whose step returns `latents`, so that a pipeline that runs with it decodes them.

    Args:
        scheduler: The scheduler of the process.
        latents: Final or denoised latents.
    """
    constant = type(scheduler).from_config(scheduler.config)

    def step(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        return SchedulerOutput(latents) if return_dict else (latents, latents)

    step.__signature__ = inspect.signature(constant.step)  # type: ignore[attr-defined]
    constant.step = step
    return constant


@contextlib.contextmanager
def finite_decoding(autoencoder: Any) -> Iterator[None]:
    """Context manager in which `autoencoder.decode` returns finite images, or raises an `InputError`.

    Activations of some autoencoders overflow in float16. Images that are not finite are decoded again with weights in float32.
    The weights are restored afterwards.

    Args:
        autoencoder: An autoencoder of diffusers.
    """
    decode = getattr(autoencoder, "decode", None)
    if decode is None:
        yield
        return

    @functools.wraps(decode)
    def decode_finite(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = decode(latents, *args, **kwargs)
        if _is_finite(output):
            return output
        if not latents.isfinite().all():
            raise InputError("latents are not finite, so that they have no image; use --dtype float32")
        with _float32_weights(autoencoder):
            output = decode(latents.float(), *args, **kwargs)
        if not _is_finite(output):
            raise InputError(
                f"the images of the autoencoder ({type(autoencoder).__name__}) are not finite, also in float32; use another one"
            )
        return output

    with patched_method(autoencoder, "decode", decode_finite):
        yield


def check_finite_images(images: Float[np.ndarray, "rows *media"]) -> None:
    """Check the images, videos or sounds of a pipeline, which has no autoencoder if it denoises pixels.

    Raises:
        InputError: If an image is not finite.
    """
    if not np.isfinite(images).all():
        raise InputError("images of the model are not finite, because its predictions overflow; use --dtype float32")


@contextlib.contextmanager
def _float32_weights(module: torch.nn.Module) -> Iterator[None]:
    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    originals = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, original in zip(tensors, originals, strict=True):
            tensor.data = original


def _is_finite(output: Any) -> bool:
    sample = output[0] if isinstance(output, tuple) else output.sample
    return bool(sample.isfinite().all())

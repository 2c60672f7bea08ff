"""Images without NaN: an autoencoder whose images are not finite decodes again in float32, and other NaN is reported."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from conjure.errors import InputError


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
    instance_decode = vars(autoencoder).get("decode")

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

    autoencoder.decode = decode_finite
    try:
        yield
    finally:
        if instance_decode is None:
            del autoencoder.decode
        else:
            autoencoder.decode = instance_decode


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

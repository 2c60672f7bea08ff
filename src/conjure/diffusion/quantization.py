"""Quantisation of the weights of a denoiser, by optimum-quanto or torchao."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch

from conjure.diffusion.compilation import denoisers
from conjure.errors import InputError
from conjure.io.text import one_line

TYPES = ("int8", "int4")
# The library of each quantisation; the first one that is installed is used. The 4-bit weights of torchao need a GPU from the
# beginning, and those of a fingerprint on the CPU would differ
LIBRARIES = {"quanto": "optimum.quanto", "torchao": "torchao"}
INPUTS_MULTIPLE = 16
SUPPORTED = ("int8-quanto", "int4-quanto", "int8-torchao")


def choose_quantization(quantize: Any) -> str:
    """Return a quantisation with its library.

    Args:
        quantize: `int8` or `int4`, or one of `SUPPORTED` for a certain library.

    Raises:
        InputError: If it is unknown, or needs a package that is not installed.
    """
    if quantize not in (*TYPES, *SUPPORTED):
        raise InputError(f"quantize is {quantize!r}; must be {' or '.join(TYPES)}")
    choices = [choice for choice in SUPPORTED if choice == quantize or choice.startswith(f"{quantize}-")]
    for choice in choices:
        if _is_installed(LIBRARIES[choice.partition("-")[2]]):
            return choice
    package = "torchao" if quantize == "int8-torchao" else "optimum-quanto"
    fix = "pip install torchao" if package == "torchao" else "pip install 'conjure[adapters]'"
    raise InputError(f"the quantisation {quantize} needs the package {package}; install it with: {fix}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the parent package
        return False


def quantize_denoiser(pipeline: Any, quantization: str, model: str) -> None:
    """Quantise the weights of the denoiser of a pipeline, on the CPU, so that they are the same for every device.

    Activations, text encoders and the autoencoder stay as they are, and so do linear layers whose number of inputs is not a
    multiple of `INPUTS_MULTIPLE`.

    Args:
        pipeline: The pipeline.
        quantization: One of `SUPPORTED`.
        model: The name of the model, for messages.

    Raises:
        InputError: If there is no denoiser, or the library cannot quantise it.
    """
    denoiser = next(iter(denoisers(pipeline).values()), None)
    if not isinstance(denoiser, torch.nn.Module):
        raise InputError(f"model {model!r} ({type(pipeline).__name__}) has no denoiser that can be quantised; leave quantize out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries warn of deprecated functions of torch
            if quantization == "int8-torchao":
                from torchao.quantization import Int8WeightOnlyConfig, quantize_

                quantize_(denoiser, Int8WeightOnlyConfig())
            else:
                from optimum import quanto

                # The kernel of torch for these layers on the CPU, in bfloat16, crashes for other numbers of inputs
                unsupported = [
                    path
                    for path, layer in denoiser.named_modules()
                    if isinstance(layer, torch.nn.Linear) and layer.in_features % INPUTS_MULTIPLE
                ]
                weights = quanto.qint8 if quantization == "int8-quanto" else quanto.qint4
                quanto.quantize(denoiser, weights=weights, exclude=unsupported)
                quanto.freeze(denoiser)
    except Exception as error:  # the libraries raise several types
        raise InputError(f"model {model!r} cannot be quantised to {quantization}: {one_line(error)}") from error
    denoiser.eval().requires_grad_(False)  # new layers are in training mode

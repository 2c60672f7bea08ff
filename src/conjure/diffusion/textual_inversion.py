"""Textual inversions in a pipeline: learned embeddings of new tokens, from safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from conjure.errors import InputError
from conjure.io.text import one_line

# Keys that name no token: the file of another program is then named after its token. The text encoder that a key is for
KEYS_WITHOUT_TOKEN = {"emb_params": None, "clip_l": "", "clip_g": "_2"}


def load_textual_inversion(pipeline: Any, file: Path, name: str, model: str) -> str:
    """Load a textual inversion into the tokenizers and text encoders of a pipeline.

    Args:
        pipeline: The pipeline, before its weights are offloaded.
        file: A file in the format of diffusers (one tensor, named like its token), or of other programs (`emb_params`; `clip_l`
            and `clip_g`), where the token is the name of the file without its extension.
        name: The name of the textual inversion, for messages.
        model: The name of the model, for messages.

    Returns:
        The token that stands for it in texts.

    Raises:
        InputError: If the file is not a textual inversion, or not for this model.
    """
    if not hasattr(pipeline, "load_textual_inversion"):
        raise InputError(f"model {model!r} ({type(pipeline).__name__}) takes no textual inversion; leave it out")
    try:
        tensors = load_file(file)
    except Exception as error:  # safetensors raises its own type
        raise InputError(f"the textual inversion {name!r} cannot be read: {one_line(error)}") from error
    is_for_two_encoders = set(tensors) == {"clip_l", "clip_g"}
    if not (len(tensors) == 1 or is_for_two_encoders) or any(not 1 <= tensor.ndim <= 2 for tensor in tensors.values()):
        raise InputError(
            f"the textual inversion {name!r} must have one embedding, or clip_l and clip_g; it has {', '.join(list(tensors)[:5])}"
        )
    token = next((key for key in tensors if key not in KEYS_WITHOUT_TOKEN), file.stem)
    for key, embedding in tensors.items():
        tokenizer, encoder = _encoder(pipeline, KEYS_WITHOUT_TOKEN.get(key), embedding, name, model)
        try:
            pipeline.load_textual_inversion({token: embedding}, text_encoder=encoder, tokenizer=tokenizer)
        except Exception as error:  # diffusers raises several types
            raise InputError(
                f"the textual inversion {name!r} cannot be used with the model {model!r}: {one_line(error)}"
            ) from error
    return token


def _encoder(pipeline: Any, suffix: str | None, embedding: torch.Tensor, name: str, model: str) -> tuple[Any, Any]:
    """Return the tokenizer and the text encoder for an embedding: those with `suffix`, or the first ones of the same width."""
    widths: dict[int, tuple[Any, Any] | None] = {}
    for candidate in ("", "_2") if suffix is None else (suffix,):
        tokenizer, encoder = (getattr(pipeline, f"{part}{candidate}", None) for part in ("tokenizer", "text_encoder"))
        if tokenizer is None or encoder is None:
            continue
        width = encoder.get_input_embeddings().weight.shape[-1]
        widths[width] = None
        if width == embedding.shape[-1]:
            return tokenizer, encoder
    expected = " or ".join(map(str, widths)) or "none"
    raise InputError(
        f"the textual inversion {name!r} is for another model: its embedding has {embedding.shape[-1]} dimensions, and the model "
        f"{model!r} needs {expected}"
    )

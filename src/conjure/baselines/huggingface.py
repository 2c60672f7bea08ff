"""What all baselines that load models of Hugging Face share: names of models, errors of loading, pooling of hidden states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped

from conjure.errors import InputError
from conjure.io.logging import silenced

# transformers asks at the terminal whether to run code of a repository, unless the answer is given here
NO_REMOTE_CODE = {"trust_remote_code": False}


def resolve_model(model: str) -> tuple[str, str | None]:
    """Return the folder or the Hub name of a model, and its revision.

    Args:
        model: A folder, a Hub name with an optional `@revision`, or `minilm` for the text encoder of the default model.
    """
    if model == "minilm":
        from conjure.models.default_model import encoder_folder

        return str(encoder_folder()), None
    name, _, revision = model.partition("@")
    return name, revision or None


@contextlib.contextmanager
def load_errors(model: str) -> Iterator[None]:
    """Context manager that reports any failure to load `model` in one line, and silences all other output of the loading.

    Raises:
        InputError: For any exception inside the context.
    """
    try:
        with silenced():
            yield
    except Exception as error:  # transformers, safetensors and the Hub client each raise exceptions of different classes
        message = " ".join(str(error).split())[:200]
        raise InputError(
            f"the model {model!r} cannot be loaded: {message}; give a folder with safetensors, or a Hub name"
        ) from error


def pool(output: Any, mask: Shaped[torch.Tensor, "rows tokens"] | None) -> Float[torch.Tensor, "rows *dimensions"]:
    """Return one vector per text from the output of a text encoder.

    Args:
        output: What the encoder returned: a tensor of hidden states (rows, tokens, dimensions), or a tuple or `ModelOutput` that
            begins with it. A projected or pooled vector in it is preferred to the mean of the hidden states.
        mask: 1 for each token that the mean includes, 0 for the others. None includes all tokens.

    Returns:
        Vectors of shape (rows, dimensions); some vision models add dimensions of size 1.
    """
    for name in ("text_embeds", "pooler_output"):
        if isinstance(getattr(output, name, None), torch.Tensor):
            return getattr(output, name)
    states = output[0] if isinstance(output, tuple | list) or hasattr(output, "keys") else output
    weights = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
    weights = weights.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1)

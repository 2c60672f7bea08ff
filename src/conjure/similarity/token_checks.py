"""Warnings about texts that the tokenizers of a model cannot tell from the empty text, or from each other."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from conjure.diffusion.process import Process
from conjure.diffusion.tokenizers import cut_text, is_tokenizer, token_ids
from conjure.errors import IndistinctTextWarning
from conjure.io.text import shorten
from conjure.user_warnings import warn_user

Tokens = tuple[tuple[int, ...], ...]


def warn_of_indistinct_texts(process: Process, pairs: Iterable[tuple[str, str]]) -> None:
    """Warn of texts without a token, and of pairs of different texts with the same tokens. Each text is tokenized once.

    A pipeline with several tokenizers loses a text, or the difference of two texts, only if all of its tokenizers do. Pipelines
    without a tokenizer are not checked.

    Args:
        process: The process.
        pairs: The pairs of texts that are compared.

    Warns:
        IndistinctTextWarning: For each such text and each such pair.
    """
    pipeline = process.pipeline
    tokenizers = [part for part in pipeline.components.values() if is_tokenizer(part)]
    if not tokenizers:
        return
    preprocess = getattr(pipeline, "_text_preprocessing", None)  # in some families, it changes upper to lower case
    pairs = list(dict.fromkeys(pairs))
    tokens: dict[str, Tokens] = {}
    for text in dict.fromkeys(text for pair in pairs for text in pair):
        prompt = text if preprocess is None else preprocess(text, clean_caption=False)[0]
        tokens[text] = tuple(_tokens(tokenizer, prompt) for tokenizer in tokenizers)
        if not any(tokens[text]):
            warn_user(
                f"the tokenizer of this model has no token for the text {shorten(text)!a}, which is therefore measured as "
                "the empty text; rephrase it",
                IndistinctTextWarning,
            )
    for first, second in pairs:
        if first != second and tokens[first] == tokens[second] and any(tokens[first]):
            show = ascii if _looks_like(first) == _looks_like(second) else repr
            warn_user(
                f"the texts {show(shorten(first))} and {show(shorten(second))} have the same tokens in this model, so their "
                "distance is 0; rephrase one of them",
                IndistinctTextWarning,
            )


def _tokens(tokenizer: Any, prompt: str) -> tuple[int, ...]:
    return tuple(token_ids(tokenizer, cut_text(tokenizer, prompt, tokenizer.model_max_length)))


def _looks_like(text: str) -> str:
    return unicodedata.normalize("NFC", text)

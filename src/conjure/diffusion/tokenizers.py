"""Tokenizers of a pipeline: a wrapper with warnings about lost text and a cut of very long texts, and the tokens of a text."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from conjure.errors import InputError, TextTruncationWarning
from conjure.io.formatting import pluralize
from conjure.user_warnings import warn_user

MIN_CUT = 20_000  # characters; no shorter text is cut
CHARACTERS_PER_TOKEN = 100
MAX_LIMIT = 10**5  # tokens; tokenizers without a limit have a very large one
SHOWN_TOKENS = 200  # tokens beyond the limit, of which the warning shows the beginning
MIN_VOCABULARY = 2  # ordinary tokens; some tokenizers have one without a vocabulary, for the space
_LONG_RUN = re.compile(rf"\S{{{MIN_CUT},}}|\s{{{MIN_CUT},}}")  # most tokenizers have one token for such a word, or none


def is_tokenizer(component: Any) -> bool:
    """Return whether a component of a pipeline is a tokenizer."""
    return hasattr(component, "decode") and hasattr(component, "model_max_length")


def check_vocabulary(tokenizer: Any, model: str) -> None:
    """Check that a tokenizer of transformers has a limit and a vocabulary. Without, it maps every word to the unknown token.

    Args:
        tokenizer: The tokenizer. Components of other classes are not checked.
        model: The name of the model, for messages.

    Raises:
        InputError: If the tokenizer has no tokens but special ones, or its limit is no number of tokens.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    limit = tokenizer.model_max_length
    if not isinstance(limit, (int, float)) or isinstance(limit, bool) or not limit >= 1:
        raise InputError(
            f"model {model!r}: model_max_length of its {type(tokenizer).__name__} is {limit!r}; must be a number of tokens >= 1"
        )
    ordinary = set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()) - set(tokenizer.all_special_tokens)
    if len(ordinary) < MIN_VOCABULARY:
        raise InputError(
            f"model {model!r}: its {type(tokenizer).__name__} has no vocabulary, so all texts would have the same tokens; "
            "copy it again with its tokenizer.json, or the files of its vocabulary"
        )


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text without special tokens, and without truncation."""
    return list(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def cut_text(tokenizer: Any, text: str, limit: float) -> str:
    """Return a part of a very long text that has the same first tokens, or the text itself.

    Tokens depend on the text around them, and a cut can change those before it. A beginning of the text is therefore used only if
    twice as many characters have the same first tokens: `limit`, and those that a warning shows. If no short beginning has that
    many tokens, as for a single word of a million letters, the complete text is tokenized once, to check what is cut.

    Args:
        tokenizer: The tokenizer.
        text: Any text.
        limit: The number of tokens that are kept.
    """
    if limit > MAX_LIMIT or getattr(tokenizer, "truncation_side", "right") != "right":
        return text
    num_tokens = int(limit) + SHOWN_TOKENS
    length = max(MIN_CUT, CHARACTERS_PER_TOKEN * int(limit))
    if length >= len(text):
        return text

    def first_tokens(part: str) -> list[int]:
        return token_ids(tokenizer, part)[:num_tokens]

    tokens = first_tokens(text[: 2 * length])
    if len(tokens) == num_tokens and first_tokens(text[:length]) == tokens:
        return text[:length]
    tokens = first_tokens(text)
    if len(tokens) < num_tokens:
        shorter = _LONG_RUN.sub(lambda run: run[0][:MIN_CUT], text)
        return shorter if first_tokens(shorter) == tokens else text
    while length < len(text) and first_tokens(text[:length]) != tokens:
        length *= 2
    return text[:length]


def max_prompt_tokens(pipeline: Any, parameters: Mapping[str, inspect.Parameter], kwargs: Mapping[str, Any]) -> float:
    """Return how many tokens a pipeline keeps if it truncates prompts after encoding, else infinity.

    The tokens of its template are included.

    Args:
        pipeline: The pipeline.
        parameters: The parameters of its call, by name.
        kwargs: Further arguments of the call.
    """
    template = getattr(pipeline, "prompt_template_encode_start_idx", None)
    limit = parameters.get("max_sequence_length")
    if template is None or limit is None:
        return math.inf
    return template + kwargs.get("max_sequence_length", limit.default)


def warn_of_lost_texts(
    pipeline: Any, parameters: Mapping[str, inspect.Parameter], kwargs: Mapping[str, Any], texts: Iterable[str]
) -> None:
    """Emit the warnings about lost text that a run of the pipeline would emit, without the run.

    Tokens of a template are not counted, and neither is a limit that only the pipeline knows. A text slightly above such a limit
    has no warning.

    Args:
        pipeline: The pipeline.
        parameters: The parameters of its call, by name.
        kwargs: Further arguments of the call.
        texts: The texts.
    """
    kept = max_prompt_tokens(pipeline, parameters, kwargs)
    parameter = parameters.get("max_sequence_length")
    limit = kwargs.get("max_sequence_length", parameter.default if parameter else None) or math.inf
    tokenizers = [TruncationWarningTokenizer(part, kept) for part in pipeline.components.values() if is_tokenizer(part)]
    for text in texts:
        for tokenizer in tokenizers:
            tokenizer.warn_of_lost_text(text, min(limit, tokenizer.model_max_length))


class TruncationWarningTokenizer:
    """A wrapper of a tokenizer that emits a `TextTruncationWarning` if part of a text is lost.

    Very long texts are cut before they are tokenized. All attributes are those of the wrapped tokenizer.

    Args:
        tokenizer: The tokenizer of a pipeline.
        max_prompt_tokens: The number of prompt tokens that the pipeline keeps after encoding; infinity if it does not truncate
            them.
    """

    def __init__(self, tokenizer: Any, max_prompt_tokens: float) -> None:
        vars(self).update(_tokenizer=tokenizer, _max_prompt_tokens=max_prompt_tokens, _cuts={})

    @property  # type: ignore[misc]  # pipelines with several tokenizers distinguish them by their classes
    def __class__(self) -> Any:
        return type(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._tokenizer, name, value)  # some pipelines set the padding side

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
        max_length = options.get("max_length") or self._tokenizer.model_max_length
        is_truncated = bool(options.get("truncation"))
        if is_truncated:
            for single in dict.fromkeys([text] if isinstance(text, str) else text):
                if isinstance(single, str):
                    self.warn_of_lost_text(single, max_length)
        # Pipelines also tokenize without truncation, with the padding "longest", to log what they truncated before
        if is_truncated or options.get("padding") == "longest":
            text = self._cuts.get(text, text) if isinstance(text, str) else self._cut_all(text)
        return self._tokenizer(text, *args, **options)

    def tokenize(self, text: str, *args: Any, **options: Any) -> list[str]:
        """Return the tokens of `text` as strings. Pipelines search them for tokens of textual inversion."""
        return self._tokenizer.tokenize(self._cut(text, self._tokenizer.model_max_length), *args, **options)

    def _cut(self, text: str, limit: float) -> str:
        if len(text) <= MIN_CUT:
            return text
        if text not in self._cuts:
            self._cuts[text] = cut_text(self._tokenizer, text, limit)
        return self._cuts[text]

    def _cut_all(self, texts: Sequence[Any]) -> list[Any]:
        return [self._cuts.get(single, single) if isinstance(single, str) else single for single in texts]

    def warn_of_lost_text(self, text: str, max_length: float) -> None:
        """Emit a `TextTruncationWarning` if symbols of a text are unknown, or if it is truncated to `max_length` tokens."""
        beginning, limit = self._cut(text, max_length), min(max_length, self._max_prompt_tokens)
        tokens = self._tokenizer(beginning, truncation=False, verbose=False).input_ids
        at_least = "more than " if beginning != text and len(tokens) > limit else ""
        special = [getattr(self._tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "sep", "cls", "pad")]
        unknown = self._tokenizer.unk_token_id
        if unknown is not None and unknown not in special and unknown in tokens:
            warn_user(
                f"text {text[:40]!r} has {at_least}{pluralize(tokens.count(unknown), 'symbol')} that the text encoder of this "
                "model maps to the unknown token; rephrase it",
                TextTruncationWarning,
            )
        if len(tokens) > limit:
            lost = self._tokenizer.decode(tokens[int(limit) - 1 :][:SHOWN_TOKENS], skip_special_tokens=True)
            warn_user(
                f"text of {at_least}{pluralize(len(tokens), 'token')}, but the text encoder of this model takes {limit}: "
                f"{lost[:80]!r}{'...' if len(lost) > 80 else ''} is truncated; shorten the text",
                TextTruncationWarning,
            )

"""A tokenizer that emits warnings about texts that are truncated or contain unknown symbols."""

from __future__ import annotations

import warnings
from typing import Any

from conjure.errors import TextTruncationWarning


class TruncationWarningTokenizer:
    """A wrapper of a tokenizer that emits a `TextTruncationWarning` if part of a text is lost.

    All attributes are those of the wrapped tokenizer.

    Args:
        tokenizer: The tokenizer of a pipeline.
        max_prompt_tokens: The number of prompt tokens that the pipeline keeps after encoding; infinity if it does not truncate
            them.
    """

    def __init__(self, tokenizer: Any, max_prompt_tokens: float) -> None:
        vars(self).update(_tokenizer=tokenizer, _max_prompt_tokens=max_prompt_tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._tokenizer, name, value)  # some pipelines set the padding side

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
        limit = min(options.get("max_length") or self._tokenizer.model_max_length, self._max_prompt_tokens)
        if options.get("truncation"):
            texts = [text] if isinstance(text, str) else text
            for single in dict.fromkeys(single for single in texts if isinstance(single, str)):
                self._warn_of_lost_text(single, limit)
        return self._tokenizer(text, *args, **options)

    def _warn_of_lost_text(self, text: str, limit: float) -> None:
        tokens = self._tokenizer(text, truncation=False, verbose=False).input_ids
        special = [getattr(self._tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "sep", "cls", "pad")]
        unknown = self._tokenizer.unk_token_id
        if unknown is not None and unknown not in special and unknown in tokens:
            warnings.warn(
                f"text {text[:40]!r} has {tokens.count(unknown)} symbols that the text encoder of this model maps to the unknown "
                "token; rephrase them",
                TextTruncationWarning,
                stacklevel=3,
            )
        if len(tokens) > limit:
            lost = self._tokenizer.decode(tokens[int(limit) - 1 :], skip_special_tokens=True)
            warnings.warn(
                f"text of {len(tokens)} tokens, but the text encoder of this model takes {limit}: "
                f"{lost[:80]!r}{'...' if len(lost) > 80 else ''} is truncated; shorten the text",
                TextTruncationWarning,
                stacklevel=3,
            )

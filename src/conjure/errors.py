"""Errors and warnings for users. A message states in one line the invalid value, the allowed values and how to fix it."""

from __future__ import annotations

from typing import Any

from conjure.deprecation import warn_renamed


class InputError(ValueError):
    """Invalid input: a text, a setting, a model or a path. The command line prints the message and exits with code 2."""


class OutputError(InputError):
    """An output cannot be written, as on a full disk or in a read-only folder. The command line exits with code 1.

    Attributes:
        result: What was computed but cannot be written, such as an `Evaluation`; None if there is no such result.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class TextTruncationWarning(UserWarning):
    """A text is longer than the text encoder accepts, or has symbols that the encoder maps to its unknown token."""


class SafetyCheckerWarning(UserWarning):
    """The safety checker of a pipeline is switched off while images are decoded, since it would replace them by black images."""


class FewStepModelWarning(UserWarning):
    """A model seems to be distilled to few steps, for which the default number of steps or guidance is unsuitable."""


class UnknownBehaviorWarning(UserWarning):
    """Something changes the forward pass of a model and cannot be hashed, so its results cannot be stored."""


class IndistinctTextWarning(TextTruncationWarning):
    """The tokenizer yields no token for a text, or the same tokens for two different texts."""


class QuotedFieldsWarning(UserWarning):
    """Texts of a file begin and end with a quotation mark, which may be meant as quoting and is measured as part of the text."""


class ReadOnlyStoreWarning(UserWarning):
    """A store cannot be written, so that new results are not kept."""


class NoWorkersWarning(UserWarning):
    """No worker is available: all are still starting, or the cluster has no free resources for them."""


def __getattr__(name: str) -> Any:
    if name == "TextCutWarning":
        warn_renamed("conjure.errors.TextCutWarning", "conjure.errors.TextTruncationWarning")
        return TextTruncationWarning
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A text is never truncated without a warning, and symbols that the tokenizer does not know are reported."""

from __future__ import annotations

import logging

import pytest

import conjure

A, B = "snow leopard", "bengal tiger"
LONG_TEXT = "a very long story " * 40


def test_a_truncated_text_is_reported(default_process, tiny_sd):
    with pytest.warns(conjure.TextTruncationWarning, match="text encoder of this model takes 64: .*is truncated"):
        conjure.distance(default_process, A, LONG_TEXT, samples=1)
    with pytest.warns(conjure.TextTruncationWarning, match="text encoder of this model takes 77"):
        conjure.distance(conjure.load(tiny_sd, steps=2), A, LONG_TEXT, samples=1)
    conjure.distance(default_process, A, "word " * 62, samples=1)  # 64 tokens with start and end: just fits, without a warning


@pytest.mark.filterwarnings("ignore::conjure.TextTruncationWarning")
def test_a_truncated_text_is_reported_once(default_process, monkeypatch):
    """The log of diffusers would repeat it, with the padding of all other texts of the batch. Other users still see that log."""
    logged: list[str] = []
    logger = logging.getLogger(type(default_process.pipeline).__module__)
    monkeypatch.setattr(logger, "handle", lambda record: logged.append(record.getMessage()) if logger.filter(record) else None)
    monkeypatch.setattr(logger, "level", logging.WARNING)
    conjure.distance(default_process.set(steps=1), A, LONG_TEXT, samples=1)
    assert logged == []
    options = {"do_classifier_free_guidance": False, "max_sequence_length": 64, "clean_caption": False}
    default_process.pipeline.encode_prompt(LONG_TEXT, **options)
    assert [line.partition(" because")[0] for line in logged] == ["The following part of your input was truncated"]


def test_unknown_symbols_are_reported(default_process):
    """Two emoji have the same tokens for a tokenizer that knows neither. Their distance of 0 must not pass without a warning."""
    with (
        pytest.warns(conjure.IndistinctTextWarning, match="have the same tokens"),
        pytest.warns(conjure.TextTruncationWarning, match="1 symbol that the text encoder of this model maps to the unknown"),
    ):
        assert conjure.distance(default_process, "🐱", "✈️", samples=1).distance == 0

"""A very long text is cut before it is tokenized, and its tokens and its warning are the same as without the cut."""

from __future__ import annotations

import warnings

import pytest

import conjure
from character_tokenizer import clip_tokenizer
from conjure.diffusion import tokenizers
from conjure.diffusion.tokenizers import MIN_CUT, TruncationWarningTokenizer, cut_text

LONG_TEXTS = {
    "words": "a very long story " * 4_000,
    "word": "x" * 60_000,
    "word and end": "x" * 60_000 + " dog",
    "spaces": " " * 60_000 + "dog",
    "lines": "word\n" * 12_000,
    "ideographs": "日本" * 30_000,
    "no tokens": "\u200b" * 60_000 + "dog",
    "punctuation": "x" * 30_000 + ".dog." + "x" * 30_000,
}


@pytest.fixture(scope="module", params=["wordpiece", "characters"])
def tokenizer(request, default_process, tmp_path_factory):
    if request.param == "wordpiece":
        return default_process.pipeline.tokenizer
    return clip_tokenizer(tmp_path_factory.mktemp("clip") / "tokenizer")


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_tokens_and_warnings_are_those_of_the_complete_text(tokenizer, name, monkeypatch):
    text = LONG_TEXTS[name]

    def run():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", conjure.TextTruncationWarning)
            wrapper = TruncationWarningTokenizer(tokenizer, 64)
            tokens = wrapper([text, "dog", text], padding="max_length", max_length=77, truncation=True).input_ids
            longest = wrapper([text, "dog"], padding="longest", verbose=False).input_ids
        return tokens, longest[0][:200], [str(warning.message).partition(": ")[2] for warning in caught]

    cut = run()
    monkeypatch.setattr(tokenizers, "MIN_CUT", 10**9)
    assert cut == run()


def test_most_long_texts_are_cut(default_process):
    tokenizer = default_process.pipeline.tokenizer
    lengths = {name: len(cut_text(tokenizer, text, 77)) for name, text in LONG_TEXTS.items()}
    for name in ("words", "word", "lines", "ideographs"):
        assert lengths[name] == MIN_CUT
    assert lengths["word and end"] == MIN_CUT + len(" dog")
    for name in ("no tokens", "punctuation"):
        assert lengths[name] == len(LONG_TEXTS[name])


def test_no_call_tokenizes_the_complete_text(tiny_sd, monkeypatch):
    """The text of a million characters is seen by no call of the tokenizer: neither by calls of the pipeline nor of Conjure."""
    process = conjure.load(tiny_sd, steps=1)
    tokenizer, lengths = process.pipeline.tokenizer, list[int]()
    original = type(tokenizer)._encode_plus

    def recording(self, text, *args, **kwargs):
        lengths.extend(map(len, [text] if isinstance(text, str) else text))
        return original(self, text, *args, **kwargs)

    monkeypatch.setattr(type(tokenizer), "_encode_plus", recording)
    with pytest.warns(conjure.TextTruncationWarning, match="text of more than .* tokens, but the text encoder"):
        conjure.distance(process, "a very long story " * 55_556, "dog", samples=1)
    assert max(lengths) <= 2 * MIN_CUT


def test_long_limits_and_truncation_on_the_left_are_not_cut(default_process, tmp_path):
    text = LONG_TEXTS["words"]
    assert cut_text(default_process.pipeline.tokenizer, text, 10**30) == text
    left = clip_tokenizer(tmp_path / "left")
    left.truncation_side = "left"
    assert cut_text(left, text, 77) == text

"""Texts that the tokenizers cannot tell from the empty text, or from each other, are measured with a warning."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

import conjure
from conjure import IndistinctTextWarning
from conjure.evaluation.datasets import from_dataframe
from conjure.similarity.token_checks import warn_of_indistinct_texts
from tiny_media_pipelines import VIDEO_FAMILIES

NO_TOKEN = "the tokenizer of this model has no token for the text "
SAME = "have the same tokens in this model, so their distance is 0"


@pytest.fixture(scope="module")
def process(default_process):
    return default_process.set(steps=1)


@pytest.mark.parametrize("text", ["\u0301", "\ufe0f", "\u200b\u200d", "\uf8ff"])
def test_texts_without_tokens(process, text):
    with pytest.warns(IndistinctTextWarning, match=NO_TOKEN):
        assert conjure.distance(process, text, "dog", samples=1).distance > 0


@pytest.mark.filterwarnings("ignore::conjure.TextTruncationWarning")
@pytest.mark.parametrize("text", ["\U0001fae8", "\U0001f6dc", "\uf8ff"])
def test_characters_that_python_does_not_know_are_measured(process, text):
    assert conjure.distance(process, text, "dog", samples=1).distance > 0


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("Snow leopard", "snow leopard", "'Snow leopard' and 'snow leopard'"),
        ("café", "cafe\u0301", r"'caf\\xe9' and 'cafe\\u0301'"),
        ("ab", "a\u200bb", r"'ab' and 'a\\u200bb'"),
        ("snow  leopard", "snow leopard", "'snow  leopard' and 'snow leopard'"),
        ("x" * 10**5 + " dog", "\u200b" + "x" * 10**5 + " dog", "x …' and"),
    ],
)
def test_different_texts_with_the_same_tokens(process, first, second, shown):
    with pytest.warns(IndistinctTextWarning, match=f"{shown}.*{SAME}"):
        warn_of_indistinct_texts(process, [(first, second)])


def test_equal_and_different_texts_are_not_reported(process):
    warn_of_indistinct_texts(process, [("dog", "dog"), ("dog", "cat"), ("snow leopard", "leopard snow")])


@pytest.mark.parametrize(
    "call",
    [
        lambda process: conjure.distance(process, "Dog", "dog", samples=1),
        lambda process: conjure.distance(process, "Dog", "dog", target_relative_error=0.5),
        lambda process: conjure.distances(process, [("Dog", "dog")], samples=1),
        lambda process: conjure.matrix(process, ["Dog", "dog", "cat"], samples=1),
        lambda process: conjure.nearest(process, "Dog", ["dog", "cat"], samples=1),
        lambda process: conjure.explain(process, "Dog", "dog", samples=1),
        lambda process: conjure.attribute(process, "Dog", "dog", samples=1),
        lambda process: conjure.attribute(process, "a cat", "bird", replacements={"cat": "Cat"}, samples=1),
        lambda process: conjure.evaluate(process, [pairs()], samples=1),
    ],
    ids=["distance", "target", "distances", "matrix", "nearest", "explain", "attribute", "replacement", "evaluate"],
)
def test_every_request_is_checked(process, call):
    with pytest.warns(IndistinctTextWarning, match=SAME):
        call(process)


def pairs():
    rows = [("Dog", "dog", 5.0), ("cat", "bird", 1.0), ("a house", "the sea", 0.0)]
    records = [dict(zip(("text1", "text2", "score"), row, strict=True)) for row in rows]
    return from_dataframe(SimpleNamespace(to_dict=lambda orient: records))


class CharacterTokenizer:
    """A tokenizer with one token for each character."""

    model_max_length = 77

    def decode(self, tokens):
        return "".join(map(chr, tokens))

    def __call__(self, text, **options):
        return SimpleNamespace(input_ids=[ord(character) for character in text])


def process_with(*tokenizers, **methods):
    components = {f"tokenizer_{number}": tokenizer for number, tokenizer in enumerate(tokenizers)}
    return SimpleNamespace(pipeline=SimpleNamespace(components=components, **methods))


def test_several_tokenizers_must_agree(process):
    uncased = process.pipeline.tokenizer
    warn_of_indistinct_texts(process_with(uncased, CharacterTokenizer()), [("Dog", "dog"), ("\u0301", "dog")])
    with pytest.warns(IndistinctTextWarning, match=SAME):
        warn_of_indistinct_texts(process_with(uncased, uncased), [("Dog", "dog")])


def test_lower_case_of_a_pipeline_is_noticed():
    """Some pipelines change texts to lower case before they tokenize them."""
    warn_of_indistinct_texts(process_with(CharacterTokenizer()), [("Dog", "dog")])
    lower = process_with(CharacterTokenizer(), _text_preprocessing=lambda text, clean_caption: [text.lower().strip()])
    with pytest.warns(IndistinctTextWarning, match=SAME):
        warn_of_indistinct_texts(lower, [("Dog", "dog")])


def test_commands_print_the_warning(conjure_command, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Dog\ndog\n\u0301\n".encode())))
    code, _, err = conjure_command("matrix", "--file", "-", "--steps", 1, "--samples", 1)
    assert code == 0
    assert "2 warnings about texts without tokens or with the same tokens; the first: the tokenizer" in err.replace("\n", "")
    code, _, err = conjure_command("compare", "Dog", "dog", "--steps", 1, "--samples", 1, "--strict")
    assert code == 2
    assert "have the same tokens" in err


def test_texts_that_the_pipeline_makes_equal():
    """Wan unescapes HTML before it tokenizes a text."""
    family = VIDEO_FAMILIES["Wan 2.1"]
    process = conjure.load(family.build(), **family.settings | {"steps": 1})
    note = "the distance of the two texts is exactly 0: the pipeline passes the same tokens to the model"
    estimate = conjure.distance(process, "salt &amp; pepper", "salt & pepper", samples=1)
    assert (estimate.distance, estimate.notes[0].startswith(note)) == (0, True)
    assert not any("exactly 0" in note for note in conjure.distance(process, "salt", "pepper", samples=1).notes)
    assert not any("exactly 0" in note for note in conjure.distance(process, "salt", "salt", samples=1).notes)
    matrix = conjure.matrix(process, ["salt &amp; pepper", "salt & pepper", "salt"], samples=1)
    assert matrix.notes[0].startswith(note)

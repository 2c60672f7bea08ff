"""Attribution: the effect of a word is the difference of two distances that are computed independently of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.divergence.intervals import t_interval

A, B = "a big red apple", "a blue whale"


@pytest.fixture(scope="module")
def short_process(default_process):
    return default_process.set(steps=3)


@pytest.fixture(scope="module")
def attribution(short_process) -> conjure.Attribution:
    return conjure.attribute(short_process, A, B, replacements={"big": "small"})


def test_effect_of_a_word_is_that_of_the_text_without_it(attribution, short_process):
    """The distances of the changed texts, on the trajectories of the other text, give the same effects."""
    effects = attribution.effects
    assert [(effect.word, effect.replacement) for effect in effects if effect.text == A] == [
        ("a", ""), ("big", ""), ("big", "small"), ("red", ""), ("apple", "")]  # fmt: skip
    assert [(effect.position, effect.word) for effect in attribution.effects_of(B)] == [(0, "a"), (1, "blue"), (2, "whale")]
    baseline = conjure.distance(short_process, B, A, divergence="kl")
    assert attribution.baseline[A] == pytest.approx(baseline.distance, rel=1e-4)
    for number, changed_text in ((2, "a small red apple"), (4, "a big red")):
        changed = conjure.distance(short_process, B, changed_text, divergence="kl")
        change, stderr, _ = t_interval(np.array(changed.samples) - baseline.samples)
        assert (effects[number].change, effects[number].stderr) == pytest.approx((change, stderr), rel=1e-3)


def test_explanation_has_the_same_effects(attribution, short_process):
    explanation = conjure.explain(short_process, A, B, samples_shown=1, replacements={"big": "small"})
    assert explanation.words == attribution


def test_only_word_is_compared_with_the_empty_text(short_process):
    attribution = conjure.attribute(short_process, "whale", "apple", samples=1)
    assert [effect.word for effect in attribution.effects] == ["whale", "apple"]
    assert np.isfinite(attribution.effects[0].change)
    assert attribution.to_list()[0]["ci95"] is None


def test_unit_of_the_argument_overrides_that_of_the_process(short_process):
    noise, x0 = (conjure.attribute(short_process, "whale", "apple", samples=1, unit=unit) for unit in ("epsilon", "x0"))
    assert (noise.unit, x0.unit) == ("squared norm of noise", "squared norm of x0")
    assert noise == conjure.attribute(short_process.set(default_unit="epsilon"), "whale", "apple", samples=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replacements": {"pear": "plum"}}, "'pear'"),
        ({"replacements": {"apple": " "}}, "'apple'"),
        ({"divergence": "direct"}, "direct"),
    ],
)
def test_invalid_arguments(short_process, options, message):
    with pytest.raises(InputError, match=message):
        conjure.attribute(short_process, A, B, **options)


def test_texts_must_differ(short_process):
    with pytest.raises(InputError, match="both texts"):
        conjure.attribute(short_process, A, A)


def test_command_prints_effects_of_words(conjure_command):
    code, out, _ = conjure_command("compare", "red apple", "whale", "--steps", 2, "--replace", "red=green", "--json")
    assert code == 0
    assert [(effect["word"], effect["replacement"]) for effect in json.loads(out)["words"]] == [
        ("red", ""), ("red", "green"), ("apple", ""), ("whale", "")]  # fmt: skip
    code, out, _ = conjure_command("compare", "red apple", "whale", "--steps", 2, "--words")
    assert "without “red” in “red apple”" in out
    code, _, err = conjure_command("compare", "red apple", "whale", "--replace", "red")
    assert (code, err.count("\n")) == (2, 1)


def test_deprecated_names(attribution, short_process):
    effect = attribution.effects[2]
    for owner, old_name, new_name in (
        (attribution, "whole", "baseline"),
        (effect, "place", "position"),
        (effect, "instead", "replacement"),
        (effect, "done", "label"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old_name} was renamed"):
            assert getattr(owner, old_name) == getattr(owner, new_name)
    with pytest.warns(DeprecationWarning, match="of was renamed"):
        assert attribution.of(B) == attribution.effects_of(B)
    old_keywords: dict[str, Any] = {"instead": {"red": "green"}}
    with pytest.warns(DeprecationWarning, match="instead"):
        old = conjure.attribute(short_process, "red apple", "whale", samples=1, **old_keywords)
    new = conjure.attribute(short_process, "red apple", "whale", samples=1, replacements={"red": "green"})
    assert old.to_list() == new.to_list()

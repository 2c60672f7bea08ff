"""Explanations: where, when and which words add up to the distance they explain, and their page shows texts as texts."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import conjure
from conjure import InputError
from conjure.divergence import Contributions
from conjure.estimate import estimate, interval
from conjure.explanation import _places, unfold
from conjure.render import GAP, grid, heat, scale
from conjure.viewer import fill, page

A, B = "a big red apple", "a blue whale"
HOSTILE = "</script><script>alert('1')</script> \"quoted\" {{data}} ${1+1} \x00 \u202egnp 🐅 " + "long " * 40


@pytest.fixture(scope="module")
def short(default):
    return default.set(steps=3)


@pytest.fixture(scope="module")
def shown(short):
    return conjure.explain(short, A, B, samples=3, shown=2, words=True, instead={"big": "small"})


def test_places_add_up_to_steps(shown):
    assert len(shown.shown) == 2
    for one in shown.shown:
        for side in (one.forward, one.backward):
            assert side.places.shape == (3, 8, 8)
            np.testing.assert_allclose(side.places.sum((1, 2)), side.per_step)
    sums = [sum(side.per_step) for side in (shown.shown[0].forward, shown.shown[0].backward)]
    assert sum(sums) == pytest.approx(shown.estimate.samples[0])


def test_places_of_all_shapes_of_latents():
    """A difference at one known place is found there, whether latents are maps, have frames, or are packed."""
    maps = torch.zeros(2, 4, 3, 6)
    maps[0, 1, 2, 5] = 2.0
    maps[1, :, 0, 0] = 1.0
    expected = np.zeros((2, 3, 6))
    expected[0, 2, 5], expected[1, 0, 0] = 7.0, 3.0
    per_step = np.array([7.0, 3.0])
    for latents in (maps, maps[:, :, None], maps.flatten(2).transpose(1, 2)):
        found = _places(latents, per_step, high=0.5)
        assert found is not None
        np.testing.assert_allclose(found, expected)
    assert _places(torch.ones(2, 7, 4), per_step, high=0.5) is None  # seven places make no picture twice as wide as high
    assert _places(torch.ones(2, 7), per_step, high=1) is None
    alike = _places(torch.zeros(2, 4, 3, 3), per_step * 0, high=1)
    assert alike is not None
    assert not alike.any()


def test_ends_are_the_pictures_of_the_texts(shown, short):
    """Under the same noise, what the pipeline itself draws for either text."""
    for number, one in enumerate(shown.shown):
        seed = conjure.estimate.noise_seed(0, number)
        ends = short.run([A, B], [seed, seed], output_type="np")
        np.testing.assert_allclose(one.forward.final, ends[0], atol=2e-3)
        np.testing.assert_allclose(one.backward.final, ends[1], atol=2e-3)


def test_unfolding_ends_in_the_explanation(shown, short):
    found = list(unfold(short, A, B, samples=3, shown=2))
    last, first = found[-1], found[0]
    assert last.estimate.samples == pytest.approx(shown.estimate.samples, rel=1e-5)
    for one, other in zip(last.shown, shown.shown, strict=True):
        for part in ("noisy", "first", "second", "final", "places"):
            np.testing.assert_allclose(getattr(one.backward, part), getattr(other.backward, part), atol=2e-3)
    assert (first.backward.noisy[1:] == 1).all()
    assert (first.backward.noisy[0] != 1).any()
    assert [len(one.estimate.samples) for one in found] == [1] * 3 + [2] + [3]


def test_errors_of_steps_and_of_the_asymmetry():
    forward, backward = np.array([[1.0, 2], [2, 2], [4, 5]]), np.array([[1.0, 1], [1, 2], [2, 2]])
    found = estimate(
        Contributions(forward, backward, forward + backward), texts=("a", "b"), divergence="jeffreys", weighting="",
        unit="", antithetic=False, seed=0, timesteps=(1.0, 0.0), snr=(0.0, 1.0), process={}, identity="", version="",
    )  # fmt: skip
    assert found.per_step_ci95[1] == interval(np.array([3.0, 4, 7]))[2]
    assert found.asymmetry == pytest.approx(7 / 3)
    assert found.asymmetry_ci95 == interval(np.array([1.0, 1, 5]))[2]


def test_a_word_s_effect_is_that_of_a_text_without_it(shown, short):
    """By the distances of the very texts, along the trajectories of the other."""
    effects = shown.words.effects
    assert [(one.word, one.instead) for one in effects if one.text == A] == [
        ("a", ""), ("big", ""), ("big", "small"), ("red", ""), ("apple", "")]  # fmt: skip
    assert [one.word for one in shown.words.of(B)] == ["a", "blue", "whale"]
    whole = conjure.distance(short, B, A, divergence="kl")
    assert shown.words.whole[A] == pytest.approx(whole.distance, rel=1e-4)
    for number, changed in ((2, "a small red apple"), (4, "a big red")):
        other = conjure.distance(short, B, changed, divergence="kl")
        change, error, _ = interval(np.array(other.samples) - whole.samples)
        assert (effects[number].change, effects[number].stderr) == pytest.approx((change, error), rel=1e-3)


def test_the_only_word_is_held_against_the_empty_text(short):
    found = conjure.attribute(short, "whale", "apple", samples=1)
    assert [one.word for one in found.effects] == ["whale", "apple"]
    assert np.isfinite(found.effects[0].change)
    assert found.to_list()[0]["ci95"] is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"instead": {"pear": "plum"}}, "'pear'"),
        ({"instead": {"apple": " "}}, "place of 'apple'"),
        ({"divergence": "direct"}, "direct"),
    ],
)
def test_words_refuse(short, options, told):
    with pytest.raises(InputError, match=told):
        conjure.attribute(short, A, B, **options)


def test_words_need_two_texts(short):
    with pytest.raises(InputError, match="both texts"):
        conjure.attribute(short, A, A)
    with pytest.raises(InputError, match="shown"):
        conjure.explain(short, A, B, shown=0)


def test_command_tells_words(conjure_command):
    code, out, _ = conjure_command("compare", "red apple", "whale", "--steps", 2, "--instead", "red=green", "--json")
    assert code == 0
    assert [(one["word"], one["instead"]) for one in json.loads(out)["words"]] == [
        ("red", ""), ("red", "green"), ("apple", ""), ("whale", "")]  # fmt: skip
    code, out, _ = conjure_command("compare", "red apple", "whale", "--steps", 2, "--words")
    assert "without “red” in “red apple”" in out
    code, _, err = conjure_command("compare", "red apple", "whale", "--instead", "red")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.filterwarnings("ignore::conjure.TextCutWarning")
def test_page_is_whole_and_shows_texts_as_texts(short):
    explanation = conjure.explain(short, HOSTILE, B, samples=2, words=True)
    document = page(explanation)
    assert not re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", document)  # nothing from elsewhere
    assert document.count("<script") == document.count("</script") == 2
    data = json.loads(document.split('id="data">')[1].split("</script>")[0])
    assert data["texts"][0].startswith("</script><script>alert('1')</script> \"quoted\" {{data}} ${1+1}")
    assert "\x00" not in document
    assert "\u202e" not in document
    for side in data["shown"][0]:
        sheet, heat = (Image.open(io.BytesIO(base64.b64decode(side[name].split(",")[1]))) for name in ("sheet", "heat"))
        assert sheet.size == (4 * 64, 3 * 64)
        assert heat.size == (4 * 8, 8)
    first = Image.open(io.BytesIO(base64.b64decode(data["shown"][0][0]["sheet"].split(",")[1]))).convert("RGB")
    tile = np.asarray(first)[64:128, 64:128] / 255  # second step, noisy
    np.testing.assert_allclose(tile, explanation.forward.noisy[1].clip(0, 1), atol=0.01)


def test_maps_of_a_page_share_one_scale(shown):
    """What stands in a map is what a place adds, whichever the direction and the sample."""
    data = json.loads(page(shown).split('id="data">')[1].split("</script>")[0])
    sides = [side for one in shown.shown for side in (one.forward, one.backward)]
    most, most_of_all = scale(sides)
    assert most == max(side.places.max() for side in sides)
    for side, told in zip(sides, (told for one in data["shown"] for told in one), strict=True):
        heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["heat"].split(",")[1]))))
        shares = (heat[..., 3] / 255) ** 2  # opacity
        expected = np.concatenate([*(side.places / most), side.places.sum(0) / most_of_all], axis=1)
        np.testing.assert_allclose(shares, expected, atol=0.01)
    assert f"at most {most:.3g} at a step, and {most_of_all:.3g}" in page(shown)


def test_maps_of_a_figure_share_one_scale(shown):
    whole = heat(shown.forward.places, (8, 8), shown.forward.places.max())
    half = heat(shown.forward.places, (8, 8), 2 * shown.forward.places.max())
    assert whole.sum() > half.sum()
    above, below = grid(shown).subfigs
    *blocks, bar = above.axes
    most, most_of_all = scale((shown.forward, shown.backward))
    assert bar.get_ylim() == pytest.approx((0, most))
    for block, side in zip(blocks, (shown.forward, shown.backward), strict=True):
        tiles = np.asarray(block.images[0].get_array())
        bottom = tiles[-64 - GAP // 2 : -GAP // 2, GAP // 2 : 64 + GAP // 2]
        np.testing.assert_allclose(bottom, heat(side.places, (64, 64), most)[0], atol=1e-6)
    assert [axes.images[1].get_clim() for axes in below.axes[1:3]] == [(0, most_of_all)] * 2


def test_figure_says_what_is_of_one_sample_and_of_which_text(shown):
    above, below = grid(shown).subfigs
    assert [axes.get_title() for axes in above.axes[:2]] == [
        f"along the trajectory of “{text}”, sample 1 of 3" for text in (A, B)]  # fmt: skip
    when, _, _, words = below.axes
    assert "mean of 3 samples" in when.get_title()
    assert when.get_ylabel() == words.get_xlabel() == shown.estimate.unit
    headings = {round(text.get_position()[1]): text.get_text() for text in words.texts}
    assert headings == {0: f"in “{A}”", 6: f"in “{B}”"}
    assert words.get_yticks().tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert len(grid(replace(shown, words=None)).subfigs[1].axes) == 3


def test_template_is_filled_in_one_pass():
    parts = dict.fromkeys(("title", "number", "summary", "settings", "scale", "words", "steps", "data"), "")
    assert "{{data}} and {{title}}" in fill("explanation.html", heading="{{data}} and {{title}}", **parts)


def test_many_steps_stay_readable(default):
    """Twenty columns at most, first and last among them."""
    figure = grid(conjure.explain(default.set(steps=25), A, B, samples=1))
    ticks = figure.subfigs[0].axes[0].get_xticks()
    assert len(ticks) == 20


def test_a_wide_sheet_is_made_smaller():
    """WebP takes no picture wider than 16,383 pixels; nothing is lost after long computing."""
    from conjure.viewer import WIDEST, address, mosaic

    sheet = mosaic(np.random.default_rng(0).random((3, 120, 200, 300, 3)))
    assert sheet.shape[1] <= WIDEST
    assert address(sheet).startswith("data:image/webp")
    assert mosaic(np.ones((2, 5, 8, 8, 4))).shape == (16, 40, 4)


def test_ends_have_no_places(short):
    assert conjure.explain(short, A, B, samples=1, divergence="direct").forward.places is None

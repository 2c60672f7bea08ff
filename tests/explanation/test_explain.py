"""Explanations: heat maps, images and intermediate results are consistent with the estimate, and the page shows texts as text."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import conjure
from conjure import InputError
from conjure.app.html import trajectory_grid
from conjure.diffusion.seeding import noise_seed
from conjure.divergence.divergences import DIVERGENCES
from conjure.divergence.reference_scale import NO_SIMILARITY
from conjure.divergence.terms import distance_terms
from conjure.explanation.explain import Explanation, iter_explanations
from conjure.explanation.figure import comparison_figure
from conjure.explanation.html import explanation_page
from conjure.explanation.images import SampleImages, TrajectoryImages, difference_heatmaps
from conjure.plotting.heatmaps import LOG_RANGE, colorize_heatmap, heatmap_limits
from conjure.plotting.images import TILE_GAP

A, B = "a big red apple", "a blue whale"
HOSTILE = "</script><script>alert('1')</script> \"quoted\" {{data}} ${1+1} \x00 \u202egnp 🐅 " + "long " * 40


@pytest.fixture(scope="module")
def short_process(default_process):
    return default_process.set(steps=3)


@pytest.fixture(scope="module")
def explained(short_process) -> Explanation:
    return conjure.explain(short_process, A, B, samples=3, samples_shown=2, words=True, replacements={"big": "small"})


def all_trajectories(explanation: Explanation) -> list[TrajectoryImages]:
    return [images for sample in explanation.sample_images for images in (sample.forward, sample.backward)]


def all_heatmaps(explanation: Explanation) -> list[np.ndarray]:
    return [images.heatmaps for images in all_trajectories(explanation) if images.heatmaps is not None]


def page_of(explanation: Explanation) -> str:
    return explanation_page(explanation.estimate, explanation.sample_images, explanation.words)


def figure_of(explanation: Explanation) -> Any:
    return comparison_figure(explanation.estimate, explanation.sample_images, explanation.words)


def data_of(page: str) -> Any:
    return json.loads(page.split('id="data">')[1].split("</script>")[0])


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_heatmaps_sum_to_the_contributions_of_steps(explained):
    assert len(explained.sample_images) == 2
    for images, heatmaps in zip(all_trajectories(explained), all_heatmaps(explained), strict=True):
        assert heatmaps.shape == (3, 8, 8)
        np.testing.assert_allclose(heatmaps.sum((1, 2)), images.per_step)
    first = explained.sample_images[0]
    assert sum(first.forward.per_step) + sum(first.backward.per_step) == pytest.approx(explained.estimate.samples[0])


def test_heatmaps_of_all_layouts_of_latents():
    """A difference at one position appears there, for latents in rows and columns, with frames, and packed."""
    latents = torch.zeros(2, 4, 3, 6)
    latents[0, 1, 2, 5] = 2.0
    latents[1, :, 0, 0] = 1.0
    expected = np.zeros((2, 3, 6))
    expected[0, 2, 5], expected[1, 0, 0] = 7.0, 3.0
    per_step = np.array([7.0, 3.0])
    for layout in (latents, latents[:, :, None], latents.flatten(2).transpose(1, 2)):
        heatmaps = difference_heatmaps(layout, per_step, aspect_ratio=0.5)
        assert heatmaps is not None
        np.testing.assert_allclose(heatmaps, expected)
    # seven positions do not fill an image that is twice as wide as high
    assert difference_heatmaps(torch.ones(2, 7, 4), per_step, aspect_ratio=0.5) is None
    assert difference_heatmaps(torch.ones(2, 7), per_step, aspect_ratio=1.0) is None
    without_difference = difference_heatmaps(torch.zeros(2, 4, 3, 3), per_step * 0, aspect_ratio=1.0)
    assert without_difference is not None
    assert not without_difference.any()


def test_final_images_are_those_of_the_pipeline(explained, short_process):
    """The pipeline generates the same image for each text from the same noise."""
    for sample, images in enumerate(explained.sample_images):
        seed = noise_seed(0, sample)
        expected = short_process.run([A, B], [seed, seed], output_type="np")
        np.testing.assert_allclose(images.forward.final, expected[0], atol=2e-3)
        np.testing.assert_allclose(images.backward.final, expected[1], atol=2e-3)


def test_last_intermediate_result_is_the_explanation(explained, short_process):
    results = list(iter_explanations(short_process, A, B, samples=3, samples_shown=2))
    first, last = results[0], results[-1]
    assert last.estimate.samples == pytest.approx(explained.estimate.samples, rel=1e-5)
    assert len(last.sample_images) == len(explained.sample_images)
    for images, expected in zip(all_trajectories(last)[1::2], all_trajectories(explained)[1::2], strict=True):
        for name in ("x_t", "x0_first", "x0_second", "final", "heatmaps"):
            np.testing.assert_allclose(getattr(images, name), getattr(expected, name), atol=2e-3)
    assert (first.backward.x_t[1:] == 1).all()
    assert (first.backward.x_t[0] != 1).any()
    assert [len(result.estimate.samples) for result in results] == [1] * 3 + [2] + [3]


def test_intermediate_results_warn_of_indistinct_texts(short_process):
    with pytest.warns(conjure.IndistinctTextWarning, match="have the same tokens"):
        next(iter_explanations(short_process, "Puppy", "puppy", samples=1))


def test_more_shown_than_drawn_samples_shows_all(short_process):
    assert len(conjure.explain(short_process, A, B, samples=1, samples_shown=10**12).sample_images) == 1


def test_page_has_no_external_files_and_shows_texts_as_text(short_process):
    with pytest.warns(conjure.TextTruncationWarning):
        explanation = conjure.explain(short_process, HOSTILE, B, samples=2, words=True)
    page = page_of(explanation)
    assert not re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("<script") == page.count("</script") == 2
    data = data_of(page)
    assert data["trajectories"][0].startswith("</script><script>alert('1')</script> \"quoted\" {{data}} ${1+1}")
    assert "\x00" not in page
    assert "\u202e" not in page
    for sheets in data["sample_images"][0]:
        assert decoded(sheets["images"]).size == (4 * 64, 3 * 64)
        assert decoded(sheets["heatmaps"]).size == (4 * 8, 8)
    sheet = decoded(data["sample_images"][0][0]["images"]).convert("RGB")
    x_t_of_second_step = np.asarray(sheet)[64:128, 64:128] / 255
    np.testing.assert_allclose(x_t_of_second_step, explanation.forward.x_t[1].clip(0, 1), atol=0.01)


def test_heatmaps_of_a_page_share_one_scale(explained):
    """Equal contributions have equal opacity, for both directions and all samples."""
    page = page_of(explained)
    vmax_step, vmax_total = heatmap_limits(all_heatmaps(explained))
    assert vmax_step == max(heatmaps.max() for heatmaps in all_heatmaps(explained))
    all_sheets = [sheets for sample in data_of(page)["sample_images"] for sheets in sample]
    for heatmaps, sheets in zip(all_heatmaps(explained), all_sheets, strict=True):
        opacity = np.asarray(decoded(sheets["heatmaps"]))[..., 3] / 255
        logarithms = 1 + np.log(np.maximum(heatmaps / vmax_step, 1 / LOG_RANGE)) / np.log(LOG_RANGE)
        expected = np.concatenate([*logarithms, heatmaps.sum(0) / vmax_total], axis=1)
        np.testing.assert_allclose(opacity, expected, atol=0.01)
    assert f"starts at {vmax_step / LOG_RANGE:.3g};" in page
    assert f"is {vmax_step:.3g} at one step, and\n{vmax_total:.3g} summed" in page


def test_heatmaps_of_a_figure_share_one_scale(explained):
    image_part, chart_part = figure_of(explained).subfigs
    panels = image_part.axes
    directions = (explained.forward, explained.backward)
    vmax_step, vmax_total = heatmap_limits(images.heatmaps for images in directions)
    for panel, images in zip(panels, directions, strict=True):
        tiles = np.asarray(panel.images[0].get_array())
        first_heatmap = tiles[-64 - TILE_GAP // 2 : -TILE_GAP // 2, TILE_GAP // 2 : 64 + TILE_GAP // 2]
        np.testing.assert_allclose(first_heatmap, colorize_heatmap(images.heatmaps, (64, 64), vmax_step)[0], atol=1e-6)
        (bar,) = (axes for axes in panel.child_axes if axes.collections)
        assert bar.get_ylim() == pytest.approx((vmax_step / LOG_RANGE, vmax_step))
    opacities = [np.asarray(axes.images[1].get_array())[..., 3].max() for axes in chart_part.axes[1:3]]
    assert opacities == pytest.approx([images.heatmaps.sum(0).max() / vmax_total for images in directions], rel=1e-6)
    assert max(opacities) == 1


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_heatmaps_of_steps_with_a_scale_of_their_own(explained, tmp_path, suffix):
    explained.save(tmp_path / f"log.{suffix}")
    explained.save(tmp_path / f"step.{suffix}", heatmap_scale="step")
    assert (tmp_path / f"log.{suffix}").read_bytes() != (tmp_path / f"step.{suffix}").read_bytes()
    if suffix == "html":
        page = (tmp_path / "step.html").read_text()
        opacity = np.asarray(decoded(data_of(page)["sample_images"][0][0]["heatmaps"]))[..., 3]
        steps = np.split(opacity, len(explained.estimate.timesteps) + 1, axis=1)
        assert [step.max() for step in steps[:-1]] == [255] * (len(steps) - 1)
    with pytest.raises(InputError, match="unknown heat map scale 'root'; must be one of log, linear, step"):
        explained.save(tmp_path / f"other.{suffix}", heatmap_scale="root")
    assert not (tmp_path / f"other.{suffix}").exists()


def test_figure_names_samples_texts_and_units(explained):
    image_part, chart_part = figure_of(explained).subfigs
    titles = [axes.get_title() for axes in image_part.axes[:2]]
    assert titles == [f"trajectory of “{text}”, sample 1 of 3" for text in (A, B)]
    step_chart, _, _, word_chart = chart_part.axes
    assert "mean of 3 samples" in step_chart.get_title()
    assert step_chart.get_ylabel() == word_chart.get_xlabel() == explained.estimate.unit
    headings = {round(text.get_position()[1]): text.get_text() for text in word_chart.texts}
    assert headings == {0: f"in “{A}”", 6: f"in “{B}”"}
    assert word_chart.get_yticks().tolist() == [1, 2, 3, 4, 5, 7, 8, 9]
    assert len(figure_of(replace(explained, words=None)).subfigs[1].axes) == 3


def test_figure_of_many_steps_has_twenty_columns(explained):
    """The first and the last step are among them."""
    steps = 25
    images = explained.forward
    arrays = {name: np.resize(getattr(images, name), (steps, *getattr(images, name).shape[1:]))
              for name in ("x_t", "x0_first", "x0_second", "per_step", "heatmaps")}  # fmt: skip
    longer = replace(images, **arrays)
    timesteps = tuple(map(float, range(steps, 0, -1)))
    estimate = replace(explained.estimate, timesteps=timesteps, per_step=(1.0,) * steps, per_step_ci95=((0.5, 1.5),) * steps)
    panel: Any = comparison_figure(estimate, [SampleImages(longer, longer)], None).subfigs[0].axes[0]
    labels = [label.get_text() for label in panel.child_axes[0].get_xticklabels()]
    assert len(panel.get_xticks()) == len(labels) == 20
    assert (labels[0], labels[-1]) == ("t = 25", "t = 1")


def test_texts_are_no_templates(explained):
    text = "{{ data }} and {% include 'x' %} <b>"
    estimate = replace(explained.estimate, texts=(text, B))
    page = explanation_page(estimate, explained.sample_images, None)
    assert "<h1>“{{ data }} and {% include &#39;x&#39; %} &lt;b&gt;” and" in page


def test_the_page_explains_its_terms(explained):
    """Every term of the summary is in the glossary, and notes on few samples are not hidden within other text."""
    estimate = explained.estimate
    page = page_of(explained)
    assert NO_SIMILARITY in page
    for term in (estimate.divergence, estimate.unit, estimate.process["scheduler"], "guidance"):
        assert f"<dt>{term}</dt>" in page
    assert '<p class="note">' not in page
    single = replace(estimate, samples=estimate.samples[:1])
    note = "The error of a distance from 1 sample is unknown; use at least 3 samples."
    assert f'<p class="note">{note}</p>' in explanation_page(single, explained.sample_images[:1], None)


@pytest.mark.parametrize("unit", ["squared norm of noise", "mean square of noise", "nats", "nats per dimension"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_divergence_and_unit_is_explained(explained, divergence, unit):
    terms = distance_terms(divergence, unit, explained.estimate.process, is_calibrated=True)
    assert all(terms[term].endswith(".") for term in (divergence, unit, "similarity"))
    assert ("averaged over the elements" in terms[unit] or "averaged over their" in terms[unit]) == unit.startswith("mean")
    if not unit.startswith("nats"):
        assert ("averaged over steps" in terms[unit]) == (divergence in ("jeffreys", "kl"))
        assert ("are added" in terms[unit]) == (divergence in ("jeffreys", "initial", "final"))


@pytest.mark.parametrize(("divergence", "texts"), [("jeffreys", [A, B]), ("kl", [A]), ("direct", [A, B])])
def test_trajectories_that_do_not_count_are_not_shown(short_process, divergence, texts):
    """The divergence `kl` contains only the direction along the trajectory of the first text."""
    explanation = conjure.explain(short_process, A, B, samples=1, divergence=divergence)
    figure = figure_of(explanation)
    titles = " ".join(axes.get_title() for part in figure.subfigs for axes in part.axes)
    data = data_of(page_of(explanation))
    assert data["trajectories"] == texts
    assert [len(sample) for sample in data["sample_images"]] == [len(texts)]
    assert trajectory_grid(explanation).count("<figure") == len(texts)
    for text in (A, B):
        assert (f"trajectory of “{text}”" in titles) == (text in texts)
        assert (f"final image of\n“{text}”" in titles) == (text in texts)


def test_divergence_of_final_latents_has_no_heatmaps(short_process):
    explanation = conjure.explain(short_process, A, B, samples=1, divergence="direct")
    assert explanation.forward.heatmaps is None
    assert data_of(page_of(explanation))["sample_images"][0][0]["heatmaps"] is None


def test_files(explained, tmp_path):
    for name, start in (("e.png", b"\x89PNG"), ("e.html", b"<!doctype html>")):
        explained.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(InputError, match=r"\.gif"):
        explained.save(tmp_path / "e.gif")


def test_samples_shown_must_be_positive(short_process):
    with pytest.raises(InputError, match="samples_shown is 0; it must be an integer >= 1"):
        conjure.explain(short_process, A, B, samples_shown=0)


def test_deprecated_names(explained, short_process):
    images = explained.forward
    for owner, old_name, new_name in (
        (explained, "shown", "sample_images"),
        (images, "noisy", "x_t"),
        (images, "first", "x0_first"),
        (images, "second", "x0_second"),
        (images, "places", "heatmaps"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old_name} was renamed"):
            assert getattr(owner, old_name) is getattr(owner, new_name)
    old_keywords: dict[str, Any] = {"shown": 1, "precision": 0.99, "instead": {"red": "green"}}
    with pytest.warns(DeprecationWarning, match="argument .* was renamed") as warned:
        old = conjure.explain(short_process, A, B, samples=2, **old_keywords)
    assert sum("was renamed" in str(warning.message) for warning in warned) == 3
    new = conjure.explain(
        short_process, A, B, samples=2, samples_shown=1, target_relative_error=0.99, replacements={"red": "green"}
    )
    assert (old.estimate, old.words, len(old.sample_images)) == (new.estimate, new.words, 1)

"""The HTML report shows figures and headlines first, the images of outliers, and what is needed to cite and repeat a run."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import conjure
from conjure.diffusion.media import media_of
from conjure.diffusion.seeding import NoiseSeeds
from conjure.evaluation import outlier_images as outlier_images_module
from conjure.evaluation.datasets import read_file
from conjure.evaluation.error_analysis import main_kind, residuals
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.report_notes import methods
from conjure.evaluation.report_page import html_page
from conjure.evaluation.scatter import _label_positions, outliers, scatter_svg
from rated_pairs import RATED_PAIRS, write_pairs
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO_FAMILIES

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_file(write_pairs(tmp_path_factory.mktemp("data") / "own.tsv"))


@pytest.fixture(scope="module")
def evaluated(fast_process, pairs, tmp_path_factory):
    """An evaluation, and the report in its run folder."""
    folder = tmp_path_factory.mktemp("run")
    evaluation = evaluate(fast_process, [pairs], samples=2, out=folder)
    return evaluation, (folder / "report.html").read_text()


def test_the_order_of_the_report(evaluated):
    evaluation, page = evaluated
    headline = f"Spearman x100: {100 * evaluation.tasks['own'].agreement.spearman:.1f}"
    parts = ["Glossary", "<svg ", headline, "the text encoder alone", "Images of the", "<h2>Datasets", "Methods", "Citation"]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert ">paper<" not in page  # neither a column without values nor its explanation
    assert page.count("<circle") == len(RATED_PAIRS)
    assert "http" not in page


def test_images_are_those_of_the_first_sample(evaluated, fast_process):
    evaluation, page = evaluated
    result = evaluation.tasks["own"]
    shown = re.findall(r'<img alt="image for ([^"]*)" src="data:image/png;base64,([^"]*)"', page)
    expected = [text for index in outliers(result.pairs, result.distances) for text in result.pairs.texts[index]]
    assert [html.unescape(text) for text, _ in shown] == expected
    seed = NoiseSeeds(0, False).seed_for(0, *result.pairs.texts[0])
    for text, content in shown[:2]:
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255
        np.testing.assert_allclose(image, fast_process.run([html.unescape(text)], [seed], "np")[0].clip(0, 1), atol=0.01)


def test_a_report_is_written_even_if_images_cannot_be_decoded(fast_process, pairs, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError(f"no memory {HOSTILE}")

    monkeypatch.setattr(outlier_images_module, "decode_media", fail)
    evaluate(fast_process, [pairs], out=tmp_path / "run", floors=False)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Images could not be decoded (RuntimeError): no memory &lt;img" in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("name", "note", "shape"),
    [("LTX-Video", "middle frames of the generated videos", (64, 64, 3)), ("Stable Audio", "mel spectrograms", (64, 128, 3))],
)
def test_videos_and_sounds_are_shown_as_images(name, note, shape, tmp_path):
    family = (VIDEO_FAMILIES | AUDIO_FAMILIES)[name]
    process = conjure.load(family.save(tmp_path / "model"), steps=2, **family.settings)
    rows = [("a dog", "a cat", 5.0), ("a dog", "rain", 1.0), ("a cat", "rain", 2.0)]
    evaluate(process, [read_file(write_pairs(tmp_path / "own.tsv", rows))], samples=1, out=tmp_path / "run", floors=False)
    page = (tmp_path / "run" / "report.html").read_text()
    assert note in page
    shown = re.findall(r'<img alt="image for ([^"]*)" src="data:image/png;base64,([^"]*)"', page)
    assert {text for text, _ in shown} == {"a dog", "a cat", "rain"}
    images = {text: np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) for text, content in shown}
    assert images["rain"].shape == shape
    # That of the first sample of a pair, as `Media.picture` draws it
    text, content = shown[0]
    seed = next(NoiseSeeds(0, False).seed_for(0, text, b) for b in ("a dog", "a cat", "rain") if b != text)
    (media,) = media_of(process.run([text], [seed], "np"), process.kind, process.media_rate)
    expected = media.values[len(media.values) // 2] if process.kind == "video" else media.picture()
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))) / 255
    np.testing.assert_allclose(first, expected.clip(0, 1), atol=0.02)


def test_methods_and_citation(evaluated):
    evaluation, page = evaluated
    for part in (evaluation.fingerprint, "2 steps", "2 samples from seed 0", "own (8 pairs", evaluation.process["scheduler"],
                 "@inproceedings{liu2026conjuring,\n", "@software{conjure,\n"):  # fmt: skip
        assert part in page
    antithetic = html_page(replace(evaluation, antithetic=True))
    assert ("opposite noise" in antithetic, "opposite noise" in page) == (True, False)


def test_methods_name_the_size_and_the_length_of_videos(evaluated, tiny_video):
    text = methods(replace(evaluated[0], process=tiny_video.settings()))
    assert "with 2 steps, guidance 3, float32, 32 x 32 pixels, 9 frames, 12 frames per second, and averaged" in text


def test_texts_are_no_markup(evaluated):
    evaluation, _ = evaluated
    result = evaluation.tasks["own"]
    texts = [f"{HOSTILE} {{{{ 7 * 7 }}}} {i}" for i in range(len(result.pairs))]
    hostile = replace(result.pairs, first=texts, title=HOSTILE, subset=[HOSTILE, "b"] * (len(texts) // 2))
    page = html_page(replace(evaluation, tasks={"own": replace(result, pairs=hostile)}))
    assert "<img" not in page
    assert "{{ 7 * 7 }}" in page


def test_labelled_points_are_the_largest_residuals(evaluated):
    result = evaluated[0].tasks["own"]
    values = residuals(result.distances, result.pairs.scores)
    labels = {label: values[index] for index, label in outliers(result.pairs, result.distances).items()}
    assert labels["+1"] == values.max()
    assert labels["-1"] == values.min()
    svg = scatter_svg(result.pairs, result.distances, result.config)
    assert sorted(re.findall(r'class="label"[^>]*>([^<]*)<', svg)) == sorted(labels)
    assert svg.count("<title>") == len(result.pairs)


def test_labels_do_not_cover_each_other():
    positions = _label_positions({0: (10, 50), 1: (12, 51), 2: (12, 55), 3: (300, 50)})
    assert (positions[0], positions[3]) == (50, 50)
    assert sorted(positions[i] for i in (0, 1, 2)) == [50, 63, 76]
    assert _label_positions({0: (10, 50), 1: (25, 50)}) == {0: 63, 1: 50}  # the label of a point does not cover the other point


def test_positions_in_the_scatter_plot(evaluated):
    """They increase with the rating to the right, and with the distance to the top."""
    result = evaluated[0].tasks["own"]
    svg = scatter_svg(result.pairs, result.distances, result.config)
    points = {html.unescape(title): (float(x), float(y)) for x, y, title in
              re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="\d"><title>([^<]*)<', svg)}  # fmt: skip
    by_rating = sorted(points, key=lambda title: float(title.rpartition(" ")[2]))
    by_distance = sorted(points, key=lambda title: float(title.rpartition("distance ")[2].partition(",")[0]))
    assert [points[title][0] for title in by_rating] == sorted(x for x, _ in points.values())
    assert [points[title][1] for title in by_distance] == sorted((y for _, y in points.values()), reverse=True)


def test_main_kind(pairs):
    assert main_kind(replace(pairs, subset=["a", "b"] * 4))[:2] == ("subset", ["a", "b"])
    assert main_kind(replace(pairs, subset=[str(i) for i in range(8)], first=pairs.first))[0] == "subset"
    one_word = replace(pairs, first=["a"] * 8, second=["b"] * 8, subset=None)
    assert main_kind(one_word) == ("all pairs", ["all"], ["all"] * 8)


def test_frames_and_axes(evaluated, fast_process, pairs):
    evaluation, _ = evaluated
    result = evaluation.tasks["own"]
    frame = result.to_pandas()
    assert frame["distance"].tolist() == pytest.approx(result.distances.mean(1))
    assert {"text1", "text2", "score", "stderr", "kl", "direct"} <= set(frame)
    tasks = evaluation.to_pandas()
    assert (tasks["task"].tolist(), tasks["spearman"][0]) == (["own"], 100 * result.agreement.spearman)
    axes = result.plot()
    offsets = np.concatenate([np.asarray(collection.get_offsets()) for collection in axes.collections])
    assert sorted(offsets[:, 1]) == pytest.approx(sorted(result.distances.mean(1)))
    assert result.plot(axes) is axes
    ablation = conjure.ablate(fast_process, [pairs], {"prior": []})
    assert len(ablation.to_pandas()) == len(ablation.rows())
    assert ablation.plot("prior").get_ylabel() == "Spearman x100"
    with pytest.raises(conjure.InputError, match="axis is 'x'; must be one of prior"):
        ablation.plot("x")

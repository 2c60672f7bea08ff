"""Explanations of videos and sounds: strips of frames, spectrograms, and differences in time that add up to the estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import conjure
from conjure.explanation.explain import Explanation
from conjure.explanation.figure import comparison_figure
from conjure.explanation.html import explanation_page
from conjure.explanation.layout import LatentLayout
from conjure.plotting.media import COLUMNS, MEL_BINS
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO_FAMILIES

A, B = "a dog runs </script>", "a dog sleeps"
ALL = VIDEO_FAMILIES | AUDIO_FAMILIES
# The number of times and the shape of the heat maps
SHAPES = {
    "LTX-Video": (2, (2 * 2, 2)),
    "CogVideoX": (3, (3 * 4, 4)),
    "Stable Audio": (8, (1, 8)),
    "Wan 2.1": (2, (2 * 4, 4)),
    "HunyuanVideo": (2, (2 * 4, 4)),
    "Mochi": (2, (2 * 4, 4)),
    "AnimateDiff": (3, (3 * 4, 4)),
    "AudioLDM 2": (8, (4, 8)),
}
QUICK = ("LTX-Video", "CogVideoX", "Stable Audio")


def explain(name: str, folder) -> Explanation:
    process = conjure.load(ALL[name].save(folder / "model"), steps=2, **ALL[name].settings)
    return conjure.explain(process, A, B, samples=1)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SHAPES])
def test_differences_in_time_add_up_to_the_estimate(name, tmp_path):
    explanation = explain(name, tmp_path)
    times, shape = SHAPES[name]
    for images in (explanation.forward, explanation.backward):
        assert images.media is not None
        assert images.over_time is not None
        assert images.heatmaps is not None
        assert images.over_time.shape == (2, times)
        assert images.heatmaps.shape == (2, *shape)
        np.testing.assert_allclose(images.over_time.sum(1), images.per_step, rtol=1e-6)
        np.testing.assert_allclose(images.heatmaps.sum((1, 2)), images.per_step, rtol=1e-6)
        assert images.over_time.min() >= 0
        assert images.x_t.shape[1:] == images.final.shape
        assert 0 <= images.x_t.min() <= images.x_t.max() <= 1
        if images.media.kind == "video":
            frames = ALL[name].settings["frames"]
            assert images.media.values.shape == (frames, ALL[name].settings["height"], ALL[name].settings["width"], 3)
            assert images.final.shape[0] == shape[0] // (shape[0] // min(times, 4)) * ALL[name].settings["height"]
            assert images.longest_side(100) == 100 * min(times, 4)  # frames are squares
        else:
            assert images.media.seconds == pytest.approx(ALL[name].settings["seconds"], abs=0.01)
            assert images.final.shape == (MEL_BINS, COLUMNS, 3)
            assert images.longest_side(100) == 100
    figure = comparison_figure(explanation.estimate, explanation.sample_images, None)
    tile = 2 if name in VIDEO_FAMILIES else 1  # strips are twice as high
    assert figure.get_size_inches()[1] == pytest.approx(2.3 + 2 * (4 * tile + 0.8))
    panels = {axes.get_title() for axes in figure.axes}
    assert any(title.startswith("time: contribution of each time") for title in panels)
    kind = "video" if name in VIDEO_FAMILIES else "sound"
    labels = [" ".join(label.get_text().split()) for label in figure.subfigs[0].axes[0].get_yticklabels()]
    assert labels[:3] == [f"{kind} predicted for “{A}”", f"noisy {kind}", f"{kind} predicted for “{B}”"]
    page = explanation_page(explanation.estimate, explanation.sample_images, None)
    assert page.count("<audio controls" if name in AUDIO_FAMILIES else '<img alt="video" src="data:image/webp') == 2
    assert "contributions over time" in page
    assert A not in page
    files = explanation.save_media(tmp_path / "media")
    assert [file.name for file in files] == [
        f"{which}.{'wav' if name in AUDIO_FAMILIES else 'gif'}" for which in ("first", "second")
    ]
    assert all(file.stat().st_size > 100 for file in files)


def test_images_have_no_time(default_process, tmp_path):
    explanation = conjure.explain(default_process.set(steps=2), "a cat", "a dog", samples=1)
    assert explanation.forward.over_time is None
    figure = comparison_figure(explanation.estimate, explanation.sample_images, None)
    assert not any(axes.get_title().startswith("time") for axes in figure.axes)
    assert "<h2>End of the trajectories" not in explanation_page(explanation.estimate, explanation.sample_images, None)
    assert [file.name for file in explanation.save_media(tmp_path)] == ["first.png", "second.png"]


@pytest.mark.parametrize(
    ("layout", "shape", "place", "expected"),
    [
        (LatentLayout("video", 6), (1, 4, 6, 2, 3), (0, 1, 4, 1, 2), (4, 1, 2)),
        (LatentLayout("video", 6, True), (1, 6, 4, 2, 3), (0, 4, 1, 1, 2), (4, 1, 2)),
        (LatentLayout("video", 6, aspect_ratio=2 / 3), (1, 36, 4), (0, 4 * 6 + 5, 1), (4, 1, 2)),
        (LatentLayout("audio"), (1, 4, 6, 3), (0, 1, 4, 2), (4, 2, 0)),
        (LatentLayout("audio"), (1, 4, 6), (0, 1, 4), (4, 0, 0)),
    ],
)
def test_a_difference_at_one_position_is_found_there(layout, shape, place, expected):
    difference = torch.zeros(shape)
    difference[place] = 3.0
    contributions = layout.contributions(difference, np.array([7.0]))
    assert np.argwhere(contributions).tolist() == [[0, *expected]]
    assert contributions[0][expected] == 7.0
    (heatmap,) = layout.heatmaps(contributions)
    time, row, _ = expected
    if layout.kind == "audio":
        assert heatmap[::-1][row, time] == 7.0  # low frequencies are below
    else:  # frames 4 and 5 are the last of 4 parts: 2, 2, 1, 1
        assert heatmap[2 * 2 + row, 2] == 7.0


def test_other_layouts_have_no_positions():
    assert LatentLayout("video", 5).contributions(torch.ones(1, 36, 4), np.ones(1)) is None
    assert LatentLayout("audio").contributions(torch.ones(1, 4), np.ones(1)) is None

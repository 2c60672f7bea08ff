"""Explanations of videos and sounds: strips of frames, spectrograms, and differences in time that add up to the estimate."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from matplotlib.patches import Rectangle, StepPatch

import conjure
from conjure.explanation.explain import Explanation
from conjure.explanation.figure import comparison_figure
from conjure.explanation.html import explanation_page
from conjure.explanation.images import TrajectoryImages
from conjure.plotting.media import COLUMNS, MEL_BINS, Media
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO, VIDEO_FAMILIES, Family, cogvideox

A, B = "a dog runs </script>", "a dog sleeps"
ALL = VIDEO_FAMILIES | AUDIO_FAMILIES
# The number of times and the shape of the heat maps
SHAPES = {
    "LTX-Video": (2, (2 * 2, 2)),
    "CogVideoX": (3, (3 * 4, 4)),
    "Stable Audio": (8, (1, 7)),  # 0.32 s are 6.9 latents
    "Wan 2.1": (2, (2 * 4, 4)),
    "HunyuanVideo": (2, (2 * 4, 4)),
    "Mochi": (2, (2 * 4, 4)),
    "AnimateDiff": (3, (3 * 4, 4)),
    "AudioLDM 2": (8, (4, 8)),
}
QUICK = ("LTX-Video", "CogVideoX", "Stable Audio")


def positions(images: TrajectoryImages) -> tuple[Media, np.ndarray, np.ndarray, np.ndarray]:
    """Return the video or sound, the heat maps, and the contributions of times with the times."""
    assert images.media is not None
    assert images.heatmaps is not None
    assert images.over_time is not None
    assert images.times is not None
    return images.media, images.heatmaps, images.over_time, images.times


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
        shown = np.array([1, 1, 1, 1, 1, 1, 0.32 * 44100 / 2048 - 6, 0]) if name == "Stable Audio" else np.ones(times)
        np.testing.assert_allclose(images.heatmaps.sum((1, 2)), images.over_time @ shown, rtol=1e-6)
        assert images.are_times_inside.all() == (name != "Stable Audio")
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


def test_final_latents_have_no_contributions_of_times(tmp_path):
    family = VIDEO_FAMILIES["LTX-Video"]
    process = conjure.load(family.save(tmp_path / "model"), steps=2, **family.settings)
    explanation = conjure.explain(process, A, B, samples=1, divergence="direct")
    for images in (explanation.forward, explanation.backward):
        assert (images.heatmaps, images.over_time, images.times) == (None, None, None)
    assert "Contributions over time" not in explanation_page(explanation.estimate, explanation.sample_images, None)
    figure = comparison_figure(explanation.estimate, explanation.sample_images, None)
    assert not any(axes.get_title().startswith("time") for axes in figure.axes)


def test_a_sound_that_is_cut_is_shown_with_the_true_times(tmp_path):
    family = AUDIO_FAMILIES["Stable Audio"]
    process = conjure.load(family.save(tmp_path / "model"), steps=2, seconds=0.1)
    explanation = conjure.explain(process, A, B, samples=1)
    media, heatmaps, over_time, times = positions(explanation.forward)
    hop = 2048 / 44100
    np.testing.assert_allclose(times, hop * np.stack([np.arange(8), np.arange(8) + 1], axis=1))
    assert media.seconds == 0.1
    assert over_time.shape == (2, 8)
    np.testing.assert_allclose(over_time.sum(1), explanation.forward.per_step)
    # 0.1 s are 2.15 latents: the third is shown in part, and the others are not in the sound
    assert heatmaps.shape == (2, 1, 3)
    np.testing.assert_allclose(heatmaps.sum((1, 2)), over_time[:, :3] @ [1, 1, 4410 / 2048 - 2])
    page = explanation_page(explanation.estimate, explanation.sample_images, None)
    for start, end in ("0.000", "0.046"), ("0.046", "0.093"), ("0.093", "0.139"):
        assert f"{start} to {end}" in page
    assert "0.139 to" not in page
    assert page.count("not in the sound") == 2
    assert f"{over_time[:, 3:].sum():.3g}" in page
    figure = comparison_figure(explanation.estimate, explanation.sample_images, None)
    (chart,) = (axes for axes in figure.axes if axes.get_title().startswith("time"))
    assert chart.get_xlabel() == "seconds (gray: not in the sound)"
    curve = chart.patches[0]
    assert isinstance(curve, StepPatch)
    np.testing.assert_allclose(np.array(curve.get_data()[1]), np.arange(9) * hop)
    assert [patch.get_x() for patch in chart.patches if isinstance(patch, Rectangle)] == [0.0, 0.1]


def test_a_pair_of_latents_is_not_shown_with_the_padding(tmp_path):
    process = conjure.load(Family(partial(cogvideox, "1.5"), 226, {}).save(tmp_path / "model"), steps=2, **VIDEO | {"frames": 9})
    assert process.run([A], [0])[0].shape[0] == 4
    images = conjure.explain(process, A, B, samples=1).forward
    _, heatmaps, over_time, times = positions(images)
    np.testing.assert_allclose(times, np.array([(0, 1), (1, 5), (5, 9)]) / 16)
    assert heatmaps.shape == (2, 3 * 4, 4)
    np.testing.assert_allclose(heatmaps.sum((1, 2)), over_time.sum(1))
    assert (over_time.sum(1) < images.per_step).all()  # the rest is the contribution of the padding

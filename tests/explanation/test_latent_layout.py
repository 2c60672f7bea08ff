"""Each latent of a video or sound is shown at the frames and seconds that the decoder makes of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import conjure
from conjure.explanation.images import decode_media
from conjure.explanation.layout import LatentLayout, latent_frames
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO, VIDEO_FAMILIES, Family, cogvideox

CAUSAL = {
    "Wan 2.1": (VIDEO_FAMILIES["Wan 2.1"], VIDEO | {"frames": 9}, [range(1), range(1, 5), range(5, 9)]),
    "CogVideoX": (VIDEO_FAMILIES["CogVideoX"], VIDEO | {"frames": 9}, [range(1), range(1, 5), range(5, 9)]),
    "CogVideoX 1.5": (
        Family(partial(cogvideox, "1.5"), 226, {}),
        VIDEO | {"frames": 9},
        [range(1), range(1, 5), range(5, 9)],
    ),
    "LTX-Video": (
        VIDEO_FAMILIES["LTX-Video"],
        {"height": 64, "width": 64, "frames": 17},
        [range(1), range(1, 9), range(9, 17)],
    ),
    "HunyuanVideo": (VIDEO_FAMILIES["HunyuanVideo"], VIDEO | {"frames": 9}, [range(1), range(1, 5), range(5, 9)]),
    "Mochi": (VIDEO_FAMILIES["Mochi"], VIDEO | {"frames": 13}, [range(1), range(1, 7), range(7, 13)]),
    "AnimateDiff": (VIDEO_FAMILIES["AnimateDiff"], VIDEO | {"frames": 3}, [range(1), range(1, 2), range(2, 3)]),
}


def make_causal(autoencoder):
    """Remove what lets a frame depend on later latents: means over all frames, and the symmetric convolutions of LTX-Video."""
    for module in list(autoencoder.modules()):
        if hasattr(module, "is_causal"):
            module.is_causal = True
        for name, child in module.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "Wan 2.1" else pytest.mark.slow) for name in CAUSAL])
def test_a_latent_changes_no_frame_before_its_own(name, tmp_path):
    family, settings, expected = CAUSAL[name]
    process = conjure.load(family.save(tmp_path / "model"), steps=2, **settings)
    make_causal(process.pipeline.vae)
    latents = torch.as_tensor(process.run(["a dog"], [0])).float()
    (media,) = decode_media(process, latents)
    layout = LatentLayout.of(process, latents.shape[1:], media)
    assert list(layout.frames) == expected
    assert len(media.values) == expected[-1].stop
    np.testing.assert_allclose(
        np.array(layout.spans) * process.media_rate, np.array([(part.start, part.stop) for part in expected])
    )
    times = len(expected) + layout.padding
    axis = 1 if latents.ndim == 3 or layout.are_frames_first else 2
    for time in range(times):
        changed = latents.clone()
        changed.tensor_split(times, axis)[time].add_(1)
        difference = np.abs(decode_media(process, changed)[0].values - media.values).max((1, 2, 3))
        frames = np.flatnonzero(difference > 1e-6)
        if time < layout.padding:
            assert len(frames) == 0
        else:
            assert frames[0] == expected[time - layout.padding].start


@pytest.mark.parametrize(
    ("latents", "frames", "factor", "expected"),
    [
        (2, 9, 8, [range(1), range(1, 9)]),
        (1, 1, 4, [range(1)]),
        (2, 8, 4, [range(4), range(4, 8)]),  # not causal
        (2, 2, 1, [range(1), range(1, 2)]),
        (3, 8, 4, []),
    ],
)
def test_frames_of_latents(latents, frames, factor, expected):
    assert latent_frames(latents, frames, factor) == expected


def test_a_strip_shows_frames_of_its_heat_maps():
    layout = LatentLayout.of_frames(latent_frames(5, 17, 4), 16.0)
    assert [part.tolist() for part in layout.parts] == [[0, 1], [2], [3], [4]]
    assert layout.shown_frames == [2, 7, 11, 15]
    assert LatentLayout.of_frames(latent_frames(2, 9, 8), 24.0).shown_frames == [0, 5]
    assert LatentLayout.of_frames(latent_frames(3, 13, 6), 30.0).shown_frames == [0, 4, 10]


def test_sounds_have_the_times_of_the_vocoder(tmp_path):
    process = conjure.load(AUDIO_FAMILIES["AudioLDM 2"].save(tmp_path / "model"), steps=1, seconds=0.33)
    latents = torch.as_tensor(process.run(["rain"], [0]))
    (media,) = decode_media(process, latents)
    layout = LatentLayout.of(process, latents.shape[1:], media)
    np.testing.assert_allclose(np.array(layout.spans), np.array([(index * 0.04, (index + 1) * 0.04) for index in range(9)]))
    assert layout.length == 0.33


def test_heat_maps_of_a_sound_that_is_cut_fit_its_spectrogram():
    spans = tuple((0.05 * index - 0.02, 0.05 * index + 0.03) for index in range(8))  # the first 0.02 s are cut as well
    layout = LatentLayout("audio", spans, length=0.21)
    heatmaps = layout.heatmaps(np.eye(8)[:, :, None, None])  # one latent differs at each step
    assert heatmaps.shape == (8, 1, 5)
    centers = (np.arange(5) + 0.5) * 0.21 / 5
    np.testing.assert_allclose(heatmaps.sum((1, 2)), [0.6, 1, 1, 1, 0.6, 0, 0, 0])
    for index in range(5):
        center = (max(spans[index][0], 0) + min(spans[index][1], 0.21)) / 2
        assert heatmaps[index, 0] @ centers / heatmaps[index].sum() == pytest.approx(center, abs=0.021)
    even = layout.heatmaps(np.ones((1, 8, 1, 1)))  # what is the same at all times has the same color
    np.testing.assert_allclose(even, 0.21 / 5 / 0.05)


def test_heat_maps_of_a_whole_sound_are_those_of_its_latents():
    spans = tuple((index * 2048 / 44100, (index + 1) * 2048 / 44100) for index in range(7))
    layout = LatentLayout("audio", spans, length=7 * 2048 / 44100)
    np.testing.assert_allclose(layout.heatmaps(np.eye(7)[:, :, None, None])[:, 0], np.eye(7), atol=1e-12)


FRAMES = tuple(range(index, index + 1) for index in range(6))
SPANS = tuple((float(index), index + 1.0) for index in range(6))


@pytest.mark.parametrize(
    ("layout", "shape", "place", "expected"),
    [
        (LatentLayout("video", SPANS, FRAMES), (1, 4, 6, 2, 3), (0, 1, 4, 1, 2), (4, 1, 2)),
        (LatentLayout("video", SPANS, FRAMES, are_frames_first=True), (1, 6, 4, 2, 3), (0, 4, 1, 1, 2), (4, 1, 2)),
        (LatentLayout("video", SPANS, FRAMES, padding=1), (1, 4, 7, 2, 3), (0, 1, 5, 1, 2), (4, 1, 2)),
        (LatentLayout("video", SPANS, FRAMES, aspect_ratio=2 / 3), (1, 36, 4), (0, 4 * 6 + 5, 1), (4, 1, 2)),
        (LatentLayout("audio", SPANS, length=6.0), (1, 4, 6, 3), (0, 1, 4, 2), (4, 2, 0)),
        (LatentLayout("audio", SPANS, length=6.0), (1, 4, 6), (0, 1, 4), (4, 0, 0)),
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
        assert heatmap[::-1][row, time] == pytest.approx(7.0)  # low frequencies are below
    else:  # frames 4 and 5 are the last of 4 parts: 2, 2, 1, 1
        assert heatmap[2 * 2 + row, 2] == 7.0


def test_other_layouts_have_no_positions():
    five = LatentLayout.of_frames(FRAMES[:5], 1.0)
    assert five.contributions(torch.ones(1, 36, 4), np.ones(1)) is None
    assert five.contributions(torch.ones(1, 4, 6, 2, 3), np.ones(1)) is None
    assert LatentLayout.of_frames([], 1.0).contributions(torch.ones(1, 4, 6, 2, 3), np.ones(1)) is None
    assert LatentLayout("audio", SPANS, length=6.0).contributions(torch.ones(1, 4), np.ones(1)) is None
    assert LatentLayout("audio").contributions(torch.ones(1, 4, 6), np.ones(1)) is None

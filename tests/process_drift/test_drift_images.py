"""Images of the drift between processes of videos and of sounds."""

from __future__ import annotations

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.diffusion.seeding import noise_seed
from conjure.plotting.media import COLUMNS, MEL_BINS

TEXT = "a dog runs"
STRIP = (2 * 32, 32, 3)  # two frames of the latents, one below the other


def with_other_decoder(process: conjure.Process) -> conjure.Process:
    media = process.media
    other = conjure.load(
        process.model, steps=2, height=process.height, width=process.width, frames=media.frames, fps=media.fps,
        seconds=media.seconds,
    )  # fmt: skip
    for parameter in other.pipeline.vae.decoder.parameters():
        parameter.data *= 1.1
    return other


def test_videos_are_shown_as_strips(tiny_video, tmp_path):
    result = conjure.drift(tiny_video, tiny_video.set(guidance=2.0), [TEXT], samples=1, images=1)
    assert result.kind == "video"
    (shown,) = result.images
    assert shown.final_a.shape == shown.final_b.shape == STRIP
    assert shown.heatmap is not None
    assert shown.heatmap.sum() == pytest.approx(result.texts[0].divergence.value, rel=1e-6)
    for suffix in ("png", "html"):
        result.save(tmp_path / f"drift.{suffix}")
        assert (tmp_path / f"drift.{suffix}").stat().st_size > 1000


def test_heat_maps_of_videos_with_other_steps(tiny_video):
    result = conjure.drift(tiny_video, tiny_video.set(steps=3, guidance=2.0), [TEXT], samples=1, images=1)
    (shown,) = result.images
    assert shown.trajectories is None
    assert shown.final_a.shape == STRIP
    assert shown.heatmap is not None
    assert shown.heatmap.shape == (2, 1)  # one position in each of two frames
    assert shown.heatmap.min() >= 0


def test_videos_of_different_autoencoders_are_compared_in_all_frames(tiny_video):
    other = with_other_decoder(tiny_video)
    result = conjure.drift(tiny_video, other, [TEXT], samples=1, images=1)
    seed = noise_seed(0, 0)
    videos = [process.decode(process.run([TEXT], [seed]))[0] for process in (tiny_video, other)]
    assert videos[0].shape == (9, 32, 32, 3)
    expected = np.square(videos[0] - videos[1]).sum()
    assert result.texts[0].final.value == pytest.approx(expected, rel=1e-3)
    (shown,) = result.images
    assert shown.final_a.shape == (4 * 32, 32, 3)
    assert shown.heatmap is not None
    assert shown.heatmap.sum() == pytest.approx(expected, rel=1e-3)


def test_sounds_are_shown_as_spectrograms(tiny_sound):
    (shown,) = conjure.drift(tiny_sound, tiny_sound.set(guidance=2.0), [TEXT], samples=1, images=1).images
    assert shown.final_a.shape == (MEL_BINS, COLUMNS, 3)
    assert shown.heatmap is not None


def test_processes_of_other_media_are_refused(tiny_sound, tiny_video, default_process):
    with pytest.raises(
        InputError,
        match="process A generates videos and process B images; compare how they arrange texts .conjure drift --matrix",
    ):
        conjure.drift(tiny_video, default_process.set(steps=2), [TEXT], samples=1)
    with pytest.raises(InputError, match="at the same height, width and number of frames"):
        conjure.drift(tiny_video, tiny_video.set(frames=17), [TEXT], samples=1)
    with pytest.raises(InputError, match="two models of sounds have different autoencoders; compare models with the same one"):
        conjure.drift(tiny_sound, with_other_decoder(tiny_sound), [TEXT], samples=1)

"""Files of videos and sounds have the frames and samples that were given, and pictures show them."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conjure import InputError
from conjure.plotting.media import COLUMNS, MEL_BINS, Media, mel_spectrogram

VIDEO = Media("video", np.linspace(0, 1, 8)[:, None, None, None] * np.ones((8, 16, 24, 3)), 8.0)
TONE = Media("audio", 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)[None], 16000.0)


def frames_of(file: Image.Image) -> list[np.ndarray]:
    frames = []
    for index in range(getattr(file, "n_frames", 1)):
        file.seek(index)
        frames.append(np.asarray(file.convert("RGB"), dtype=float) / 255)
    return frames


@pytest.mark.parametrize(("suffix", "tolerance"), [("webp", 1 / 255), ("gif", 3 / 255)])
def test_animations_have_the_frames_and_the_rate(suffix, tolerance, tmp_path):
    VIDEO.save(tmp_path / f"video.{suffix}")
    with Image.open(tmp_path / f"video.{suffix}") as file:
        assert np.abs(np.stack(frames_of(file)) - VIDEO.values).max() <= tolerance
        assert file.info["duration"] in (120, 125)  # GIF has a resolution of 10 ms
        assert file.info["loop"] == 0


def durations_of(content: bytes) -> list[int]:
    """Return the duration of each frame of a file in milliseconds."""
    file: Any = Image.open(io.BytesIO(content))
    durations = []
    for index in range(file.n_frames):
        file.seek(index)
        file.load()
        durations.append(file.info["duration"])
    return durations


@pytest.mark.parametrize("rate", [8, 16, 24, 25, 30, 50])
def test_gifs_have_the_speed_of_the_video(rate):
    video = Media("video", np.zeros((9, 16, 24, 3)), float(rate))  # equal frames remain separate
    np.testing.assert_allclose(np.cumsum(durations_of(video.encode("gif"))), 1000 * (np.arange(9) + 1) / rate, atol=5)


@pytest.mark.parametrize(("suffix", "rate", "frames"), [("gif", 60, [0, 1, 2, 3, 5, 6, 7]), ("webp", 120, [0, 1, 3, 4, 6, 7])])
def test_frames_that_are_too_short_for_a_file_are_left_out(suffix, rate, frames):
    values = np.linspace(0, 1, 9)[:, None, None, None] * np.ones((9, 16, 24, 3))
    content = Media("video", values, float(rate)).encode(suffix)
    with Image.open(io.BytesIO(content)) as file:
        np.testing.assert_allclose(np.stack(frames_of(file)), values[frames], atol=3 / 255)
    assert sum(durations_of(content)) == pytest.approx(9000 / rate, abs=5)
    assert min(durations_of(content)) > 10


@pytest.mark.parametrize("samples", [800, 1151, 1279, 4410, 80000])
@pytest.mark.parametrize("quarter", range(4))
def test_spectrograms_show_each_part_of_a_sound_at_its_place(samples, quarter):
    sound = np.zeros(samples)
    place = slice(quarter * samples // 4, (quarter + 1) * samples // 4)
    sound[place] = np.random.default_rng(0).normal(size=sound[place].shape)
    columns = mel_spectrogram(sound, 16000.0).sum((0, 2))
    loudest = np.flatnonzero(columns >= np.sort(columns)[-COLUMNS // 8])
    assert loudest.mean() == pytest.approx((quarter + 0.5) * COLUMNS / 4, abs=4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg does not close all of its pipes
def test_mp4_plays(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    VIDEO.save(tmp_path / "video.mp4")
    reader = ffmpeg.read_frames(str(tmp_path / "video.mp4"))
    info = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(16, 24, 3) / 255 for frame in reader]
    assert info["fps"] == 8
    assert np.abs(np.stack(frames) - VIDEO.values).max() < 0.1


def test_mp4_without_the_encoder(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match="needs imageio-ffmpeg.*or name a .gif or .webp file"):
        VIDEO.save(tmp_path / "video.mp4")


def test_wav_has_the_samples(tmp_path):
    stereo = Media("audio", np.array([[0.0, 0.5, -0.5, 2.0], [1.0, -1.0, 0.25, 0.0]]), 8000.0)
    stereo.save(tmp_path / "sound.wav")
    with wave.open(str(tmp_path / "sound.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 8000, 2)
        samples = np.frombuffer(file.readframes(4), "<i2").reshape(4, 2).T / 32767
    np.testing.assert_allclose(samples, stereo.values.clip(-1, 1), atol=1e-4)


def test_images_are_written_as_png():
    image = Media("image", np.random.default_rng(0).random((4, 6, 3)))
    with Image.open(io.BytesIO(image.encode("png"))) as file:
        assert np.abs(frames_of(file)[0] - image.values).max() <= 0.5 / 255 + 1e-9
    assert image.seconds == 0


def test_wrong_suffix(tmp_path):
    with pytest.raises(InputError, match="a file of this audio ends with .wav"):
        TONE.save(tmp_path / "sound.mp4")


def test_pictures():
    strip = VIDEO.picture()
    assert strip.shape == (4 * 16, 24, 3)
    np.testing.assert_allclose(strip[::16, 0, 0], VIDEO.values[[1, 3, 5, 7], 0, 0, 0])
    np.testing.assert_allclose(VIDEO.picture([0, 6])[::16, 0, 0], VIDEO.values[[0, 6], 0, 0, 0])
    spectrogram = TONE.picture()
    assert spectrogram.shape == (MEL_BINS, COLUMNS, 3)
    brightest = spectrogram.sum(2)[:, COLUMNS // 2].argmax()
    # 1000 Hz are 15 of 45.2 mel (Slaney) at 8000 Hz, counted from below
    assert MEL_BINS - 1 - brightest == pytest.approx(15 / 45.2 * MEL_BINS, abs=1.5)
    assert spectrogram.sum(2)[0, COLUMNS // 2] < 0.1
    assert (VIDEO.seconds, TONE.seconds) == (1.0, 1.0)
    assert Media("audio", np.zeros((1, 100)), 16000.0).picture().shape[0] == MEL_BINS


def test_pages_show_a_reduced_video():
    large = Media("video", np.random.default_rng(0).random((3, 540, 960, 3)), 8.0)
    start, content = large.to_html().removesuffix('">').split("base64,")
    assert start == '<img alt="video" src="data:image/webp;'
    with Image.open(io.BytesIO(base64.b64decode(content))) as file:
        assert (file.size, len(frames_of(file))) == ((480, 270), 3)
    assert TONE.to_html().startswith('<audio controls src="data:audio/wav;base64,')

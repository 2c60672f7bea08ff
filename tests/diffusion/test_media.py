"""Videos and sounds: their settings are part of the process, and others are refused."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import CosineDPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

import conjure
from conjure import InputError
from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.media import MediaSettings, media_kind
from conjure.diffusion.noise_levels import NoiseLevel, noise_level, prediction_type
from conjure.diffusion.predictions import predict_x0
from conjure.engine.runner import iter_results
from conjure.evaluation.run_folder import process_from_settings
from conjure.pipeline_checks import TEXT_A, TEXT_B
from tiny_media_pipelines import VIDEO_FAMILIES


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("StableDiffusionPipeline", "image"),
        ("WanPipeline", "video"),
        ("LattePipeline", "video"),
        ("SanaVideoPipeline", "video"),
        ("AudioLDM2Pipeline", "audio"),
        ("StableAudioPipeline", "audio"),
    ],
)
def test_kinds(name, kind):
    assert media_kind(inspect.signature(getattr(diffusers, name).__call__).parameters) == kind


def test_settings_of_videos_are_part_of_the_process(tiny_video, tmp_path):
    settings = tiny_video.settings()
    assert (settings["frames"], settings["fps"]) == (9, 12)
    assert "seconds" not in settings
    kwargs = tiny_video.call_kwargs([TEXT_A], [0], "latent")
    assert (kwargs["num_frames"], kwargs["frame_rate"]) == (9, 12)
    assert (tiny_video.kind, tiny_video.media_rate, tiny_video.set(fps=None).media_rate) == ("video", 12, 25)
    others = [tiny_video.set(frames=17), tiny_video.set(fps=24), tiny_video.set(frames=None)]
    assert len({process.fingerprint() for process in (tiny_video, *others)}) == 4
    assert process_from_settings(settings, tiny_video.fingerprint(), "cpu").media.frames == 9
    tiny_video.save(tmp_path / "saved")
    assert conjure.load(tmp_path / "saved").fingerprint() == tiny_video.fingerprint()
    assert conjure.load(tmp_path / "saved", frames=17).media.frames == 17


def test_the_frame_rate_changes_what_the_model_predicts(tiny_video):
    first, second = (
        conjure.distance(process, TEXT_A, TEXT_B, samples=1).distance for process in (tiny_video, tiny_video.set(fps=24))
    )
    assert first != second


def test_length_of_sounds(tiny_sound):
    assert (tiny_sound.kind, tiny_sound.media_rate, tiny_sound.settings()["seconds"]) == ("audio", 44100, 0.2)
    assert tiny_sound.call_kwargs([TEXT_A], [0], "latent")["audio_end_in_s"] == 0.2
    assert tiny_sound.fingerprint() != tiny_sound.set(seconds=0.1).fingerprint()
    decoded = tiny_sound.decode(tiny_sound.run([TEXT_A, TEXT_B], [0, 1]))
    assert decoded.shape == (2, 2, 8820)


@pytest.mark.parametrize(
    ("upsample_rates", "shortest", "message"),
    [(None, 1 / 44100, "must be at least 2.3e-05, the length of 1 sample"), ([5, 8], 0.01, "0.01, the length of 160 samples")],
)
def test_sounds_without_samples_are_refused(upsample_rates, shortest, message):
    configs = [
        SimpleNamespace(config=SimpleNamespace(sampling_rate=rate, upsample_rates=upsample_rates)) for rate in (44100, 16000)
    ]
    pipeline = SimpleNamespace(vae=configs[0], vocoder=configs[1] if upsample_rates else None, vae_scale_factor=4)
    MediaSettings(seconds=shortest).check(pipeline, ["audio_end_in_s"])
    with pytest.raises(InputError, match=message):
        MediaSettings(seconds=shortest / 2).check(pipeline, ["audio_end_in_s"])


@pytest.mark.parametrize(
    ("name", "patch_size_t", "config", "rate"),
    [
        ("CogVideoXPipeline", None, {}, 8),
        ("CogVideoXPipeline", 2, {}, 16),  # version 1.5
        ("WanPipeline", None, {"expand_timesteps": False}, 16),
        ("WanPipeline", None, {"expand_timesteps": True}, 24),  # Wan 2.2 TI2V-5B
        ("HunyuanVideoPipeline", None, {}, 24),
        ("LattePipeline", None, {}, 16),
    ],
)
def test_frame_rates_of_models_that_take_none(name, patch_size_t, config, rate):
    transformer = SimpleNamespace(config={"patch_size_t": patch_size_t})
    pipeline: Any = type(name, (), {"transformer": transformer, "config": config})()
    assert MediaSettings().rate(pipeline, {"num_frames": None}) == rate


def test_results_of_a_network_with_weight_normalisation_can_be_stored(tiny_sound, tmp_path):
    process = tiny_sound.set(store=conjure.Store(tmp_path / "results"))
    computed = conjure.distance(process, TEXT_A, TEXT_B, samples=1)
    assert conjure.distance(process, TEXT_A, TEXT_B, samples=1).samples == computed.samples


def test_images_have_no_such_settings(default_process):
    assert not {"frames", "fps", "seconds"} & set(default_process.settings())
    assert (default_process.kind, default_process.media_rate) == ("image", None)


@pytest.mark.parametrize("settings", [{"frames": 9}, {"fps": 8}, {"seconds": 2}])
def test_images_take_no_such_settings(default_process, settings):
    with pytest.raises(
        InputError, match="takes no (number of frames|frame rate|length in seconds), .*generates images; leave it"
    ):
        default_process.set(**settings)


def test_wrong_settings_of_other_media(tiny_video, tiny_sound):
    with pytest.raises(
        InputError, match="seconds is 2, but LTXPipeline takes no length in seconds, .*generates videos; leave it"
    ):
        tiny_video.set(seconds=2)
    with pytest.raises(InputError, match="frames is 9, but StableAudioPipeline takes no number of frames, .*generates audio"):
        tiny_sound.set(frames=9)
    with pytest.raises(InputError, match="pipeline_kwargs has 'num_frames', which Conjure sets"):
        tiny_video.set(pipeline_kwargs={"num_frames": 9})


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        ("LTXPipeline", 10, "must be 1 more than a multiple of 8, such as 9 or 17"),
        ("LTXPipeline", 8, "must be 1 more than a multiple of 8, such as 1 or 9"),
        ("CogVideoXPipeline", 5, "must be 1 more than a multiple of 8, such as 1 or 9"),
        ("AnimateDiffPipeline", 0, "must be an integer >= 1"),
        ("AnimateDiffPipeline", 2.5, "must be an integer >= 1"),
    ],
)
def test_numbers_of_frames_that_are_not_generated(name, frames, message):
    factors = {"LTXPipeline": {"vae_temporal_compression_ratio": 8}, "CogVideoXPipeline": {"vae_scale_factor_temporal": 4}}
    pipeline: Any = type(name, (), factors.get(name, {}))()
    with pytest.raises(InputError, match=message):
        MediaSettings(frames).check(pipeline, ["num_frames"])
    MediaSettings(17).check(pipeline, ["num_frames"])


@pytest.mark.parametrize(
    "settings",
    [{"frames": 0}, {"fps": 0}, {"fps": float("inf")}, {"fps": 1e308}, {"fps": 1001}, {"seconds": -1}, {"seconds": "2"}],
)
def test_invalid_values_are_refused_before_the_model_is_loaded(settings):
    with pytest.raises(InputError, match=f"{next(iter(settings))} is .*; must be"):
        conjure.load("no such model", **settings)


def test_options_reach_the_process(conjure_command, tmp_path):
    folder = VIDEO_FAMILIES["LTX-Video"].save(tmp_path / "model")
    options = ("--steps", 2, "--height", 32, "--width", 32, "--fps", 12, "--samples", 1)
    code, out, _ = conjure_command("compare", "a cat", "a dog", "--model", folder, *options, "--frames", 9, "--json")
    assert code == 0
    assert '"frames": 9' in out
    code, _, message = conjure_command("compare", "a cat", "a dog", "--model", folder, *options, "--frames", 10)
    assert code == 2
    assert "frames is 10, which LTXPipeline does not generate" in message


def test_inverted_flows_imply_the_x0_of_the_scheduler():
    """Mochi counts from noise to data and predicts x0 - eps: one step from any state to sigma 1 gives x0."""
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(sigmas=[1.0, 0.7, 0.3])
    scheduler.set_begin_index(0)
    x_t, output = torch.randn(2, 1, 4, 2, 2, 2)
    for index, (t, sigma) in enumerate(zip(scheduler.timesteps, (1.0, 0.7, 0.3), strict=True)):
        level = noise_level(scheduler, t)
        assert (level.alpha, level.sigma) == pytest.approx((1 - sigma, sigma), abs=1e-6)
        expected = x_t + (1 - scheduler.sigmas[index]) * output
        torch.testing.assert_close(predict_x0("flow", x_t, -output, level), expected)
        x_t = scheduler.step(output, t, x_t).prev_sample


def test_edm_with_unit_variance_is_v_prediction():
    scheduler = CosineDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0)
    scheduler.set_timesteps(4)
    assert prediction_type(scheduler) == "v_prediction"
    x_t, output = torch.randn(2, 1, 4, 8)
    for index, t in enumerate(scheduler.timesteps):
        scheduler._step_index = index
        level = noise_level(scheduler, t)
        expected = scheduler.precondition_outputs(x_t, output, scheduler.sigmas[index])
        scaled = scheduler.precondition_inputs(x_t, scheduler.sigmas[index])
        torch.testing.assert_close(predict_x0("v_prediction", scaled, output, level), expected)
        assert level == NoiseLevel(level.alpha, level.sigma)
    with pytest.raises(InputError, match="no units for"):
        prediction_type(CosineDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=0.5))


def test_an_empty_text_does_not_change_the_other_texts(tmp_path):
    """Mochi replaces all texts of a batch if the last one is empty."""
    process = conjure.load(VIDEO_FAMILIES["Mochi"].save(tmp_path), steps=2, height=32, width=32, frames=7)
    jobs = [TrajectoryJob(TEXT_A, 1, targets) for targets in (("a cat",), ("a cat", ""))]
    alone, together = (next(iter_results(process, [job])).squared_differences[0] for job in jobs)
    assert together == pytest.approx(alone)
    shared_batch = next(iter_results(process.set(batch_prompts=True), jobs[1:])).squared_differences
    assert not shared_batch.any()


def test_the_command_writes_what_both_texts_generate(conjure_command, tiny_video, tmp_path):
    options = ("--model", tiny_video.model, "--steps", 2, "--height", 32, "--width", 32, "--frames", 9, "--samples", 1)
    code, out, _ = conjure_command("compare", "a cat", "a dog", *options, "--media", tmp_path / "media")
    assert (code, f"wrote {tmp_path / 'media'}" in out) == (0, True)
    assert ", 32 x 32 pixels, 9 frames, seed 0" in out
    assert sorted(file.name for file in (tmp_path / "media").iterdir()) == ["first.gif", "second.gif"]
    with Image.open(tmp_path / "media" / "first.gif") as file:
        assert (file.size, getattr(file, "n_frames", 1)) == ((32, 32), 9)
    code, _, error = conjure_command(
        "compare",
        "a cat",
        "a dog",
        "--model",
        "no such model",
        "--media",
        tmp_path / "a.png",
        "--figure",
        tmp_path / "." / "a.png",
    )
    assert (code, "both --figure and --media are" in error) == (2, True)
    (tmp_path / "file").touch()
    for folder, message in ((tmp_path / "file", "is not a folder"), (tmp_path / "no" / "folder", "does not exist; create it")):
        code, _, error = conjure_command("compare", "a cat", "a dog", "--model", "no such model", "--media", folder)
        assert (code, message in error) == (2, True)


def test_matrices_and_nearest_texts_of_sounds(tiny_sound, tmp_path):
    result = conjure.matrix(tiny_sound, ["a cat", "a dog", "rain"], samples=1)
    result.save(tmp_path / "matrix.html")
    assert np.count_nonzero(result.distance) == 6
    neighbours = conjure.nearest(tiny_sound, "a cat", ["a dog", "rain"], samples=1)
    assert {neighbour.text for neighbour in neighbours.ranked} == {"a dog", "rain"}


@pytest.mark.parametrize("name", ["Mochi", "LTX-Video"])
def test_noise_schedules_that_need_two_steps(name):
    """Both divide by the number of steps minus 1."""
    family = VIDEO_FAMILIES[name]
    process = conjure.load(family.build(), **family.settings | {"steps": 1})
    with pytest.raises(InputError, match=r"cannot run 1 step: .*; give more steps$"):
        conjure.distance(process, TEXT_A, TEXT_B, samples=1)


def test_motion_adapters_have_a_largest_number_of_frames():
    family = VIDEO_FAMILIES["AnimateDiff"]
    process = conjure.load(family.build(), **family.settings | {"steps": 1})
    assert process.set(frames=32).media.frames == 32
    with pytest.raises(InputError, match="frames is 33, but the motion adapter of this model takes at most 32; give fewer"):
        process.set(frames=33)

"""Distances of videos and sounds, compared with Algorithm 1 of the paper in plain code, and with images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers as d
import pytest
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

import conjure
from conjure.diffusion.seeding import noise_seed
from conjure.reference import GuidedPrediction, algorithm_1
from tiny_media_pipelines import AUDIO, AUDIO_FAMILIES, VIDEO_FAMILIES
from tiny_pipelines import NO_SAFETY_CHECKER, unet

A, B = "a dog runs", "a dog sleeps"
ALL = VIDEO_FAMILIES | AUDIO_FAMILIES


def guided(predict: Callable[..., Tensor], guidance: float, x_t: Tensor, *inputs: Any) -> Tensor:
    """Return the guided prediction, where the first half of the batch has no text."""
    unconditional, conditional = predict(torch.cat([x_t] * 2), *inputs).chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def wan(pipeline: Any, guidance: float) -> GuidedPrediction:
    embed = cache(lambda text: torch.cat(pipeline.encode_prompt([text], [""], max_sequence_length=512)[::-1]))
    boundary = (pipeline.config.boundary_ratio or 0) * 1000

    def predict(x_t: Tensor, t: Any, text: str) -> Tensor:
        is_high = t >= boundary
        network = pipeline.transformer if is_high else pipeline.transformer_2
        return guided(
            lambda rows: network(rows, t.expand(2), embed(text)).sample,
            guidance if is_high else ALL["Wan 2.2"].pipeline_kwargs["guidance_scale_2"],
            x_t,
        )

    return predict


def cogvideox(pipeline: Any, guidance: float) -> GuidedPrediction:
    embed = cache(lambda text: torch.cat(pipeline.encode_prompt([text], [""])[::-1]))
    return lambda x_t, t, text: guided(lambda rows: pipeline.transformer(rows, embed(text), t.expand(2)).sample, guidance, x_t)


def animate(pipeline: Any, guidance: float) -> GuidedPrediction:
    embed = cache(lambda text: torch.cat(pipeline.encode_prompt([text], "cpu", 1, True, [""])[::-1]))
    frames = VIDEO_FAMILIES["AnimateDiff"].settings["frames"]
    return lambda x_t, t, text: guided(
        lambda rows: pipeline.unet(rows, t, embed(text).repeat_interleave(frames, 0)).sample, guidance, x_t
    )


def audioldm2(pipeline: Any, guidance: float) -> GuidedPrediction:
    embed = cache(lambda text: pipeline.encode_prompt([text], "cpu", 1, True, negative_prompt=[""]))

    def predict(x_t: Tensor, t: Any, text: str) -> Tensor:
        states, mask, generated = embed(text)
        inputs = {"encoder_hidden_states_1": states, "encoder_attention_mask_1": mask}
        return guided(lambda rows: pipeline.unet(rows, t, generated, **inputs).sample, guidance, x_t)

    return predict


def stable_audio(pipeline: Any, guidance: float) -> GuidedPrediction:
    def predict(x_t: Tensor, t: Any, text: str) -> Tensor:
        durations = pipeline.encode_duration(0.0, AUDIO["seconds"], "cpu", False, 1)
        conditional = torch.cat([pipeline.encode_prompt([text], "cpu", False), *durations], 1)
        states = torch.cat([torch.zeros_like(conditional), conditional])  # this pipeline has no empty text, but zeros
        durations = [duration.repeat(2, 1, 1) for duration in durations]
        positions = get_1d_rotary_pos_embed(
            pipeline.rotary_embed_dim, x_t.shape[2] + 1, use_real=True, repeat_interleave_real=False
        )
        inputs = {"global_hidden_states": torch.cat(durations, 2), "rotary_embedding": positions}
        return guided(
            lambda rows: pipeline.transformer(rows, t[None], encoder_hidden_states=states, **inputs, return_dict=False)[0],
            guidance,
            x_t,
        )

    return predict


def with_generator(scheduler: Any, seed: int) -> Any:
    """Return the scheduler of a stochastic sampler, whose noise follows the seed of the row as in the stock pipeline."""

    class Seeded(type(scheduler)):  # type: ignore[misc]
        def step(self, *args: Any, **kwargs: Any) -> Any:
            return super().step(*args, generator=torch.Generator().manual_seed(seed), **kwargs)

    return Seeded.from_config(scheduler.config)


PREDICTIONS: dict[str, Callable[[Any, float], GuidedPrediction]] = {
    "Wan 2.1": wan, "Wan 2.2": wan, "CogVideoX": cogvideox, "AnimateDiff": animate, "AudioLDM 2": audioldm2,
    "Stable Audio": stable_audio,
}  # fmt: skip


@pytest.mark.parametrize("name", PREDICTIONS)
def test_distance_equals_the_reference_algorithm(name, tmp_path):
    family = ALL[name]
    process = conjure.load(family.save(tmp_path), steps=3, **family.settings).set(pipeline_kwargs=family.pipeline_kwargs)
    estimate = conjure.distance(process, A, B, samples=1, seed=3)
    seed = noise_seed(3, 0)
    shape = process.run([A], [seed]).shape
    scheduler = with_generator(process.scheduler, seed) if name == "Stable Audio" else process.scheduler
    predict = PREDICTIONS[name](process.pipeline, process.guidance or 0)
    x_T = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    expected = algorithm_1(torch.no_grad()(predict), scheduler, x_T, A, B, process.steps)
    assert estimate.distance > 0
    assert estimate.forward == pytest.approx(expected.forward, rel=1e-3)
    assert estimate.backward == pytest.approx(expected.backward, rel=1e-3)
    assert estimate.per_step == pytest.approx(expected.per_step, rel=2e-3)


def test_a_video_of_one_frame_without_motion_is_an_image():
    """The networks of AnimateDiff are those of Stable Diffusion with layers over time, which add nothing here."""
    video = VIDEO_FAMILIES["AnimateDiff"].build()
    for name, parameter in video.unet.named_parameters():
        if "motion_modules" in name and "proj_out" in name:
            parameter.data.zero_()
    network = unet().eval()
    network.load_state_dict({name: value for name, value in video.unet.state_dict().items() if "motion_modules" not in name})
    parts = {name: video.components[name] for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    image = d.StableDiffusionPipeline(unet=network, **parts, **NO_SAFETY_CHECKER)
    settings: dict[str, Any] = {"steps": 3, "guidance": 3.0, "height": 32, "width": 32}
    distances = [
        conjure.distance(conjure.load(pipeline, **settings, frames=frames), A, B, samples=2)
        for pipeline, frames in ((image, None), (video, 1))
    ]
    assert distances[0].distance > 0
    assert distances[1].samples == pytest.approx(distances[0].samples, rel=1e-4)

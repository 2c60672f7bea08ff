"""The drift of networks, compared with a plain loop, and what does not change it."""

from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

import conjure
from analytic_pipelines import gaussian, process_of
from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.seeding import noise_seed
from conjure.engine.runner import iter_results
from conjure.errors import InputError
from conjure.explanation.images import decode_latents
from conjure.process_drift.facts import Autoencoder, same_autoencoder
from conjure.process_drift.results import Drift
from conjure.reference import algorithm_1
from denoisers import initial_noise
from reference_algorithm import guided_unet
from tiny_media_pipelines import VIDEO_FAMILIES

TEXTS = ["snow leopard", "bengal tiger", "house"]
STEPS = 3


@pytest.fixture(scope="module")
def load(tiny_sd) -> Callable[..., conjure.Process]:
    """Load the tiny model; the defaults are those of process A."""
    return lambda **settings: conjure.load(tiny_sd, **{"steps": STEPS, "guidance": 2.0} | settings)


@pytest.fixture(scope="module")
def baseline(load) -> Drift:
    """The drift of two guidance scales on two texts in two samples."""
    return conjure.drift(load(), load(guidance=3.0), TEXTS[:2], samples=2)


def values(result: Drift, name: str = "divergence") -> dict[str, float]:
    return {text.text: getattr(text, name).value for text in result.texts}


def perturb(process: conjure.Process, scale: float) -> conjure.Process:
    """Add noise to all weights of the denoiser."""
    generator = torch.Generator().manual_seed(0)
    for parameter in process.pipeline.unet.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return process


@torch.no_grad()
def plain_loop(processes: list[conjure.Process], text: str, seed: int) -> list[list[float]]:
    """Return the squared differences at every step along the trajectories of A and of B, without the engine."""
    predicts = [guided_unet(process.pipeline, float(process.guidance or 0)) for process in processes]
    directions = []
    for source, process in enumerate(processes):
        sampler = type(process.scheduler).from_config(process.scheduler.config)
        sampler.set_timesteps(process.steps)
        x_t = initial_noise(process, seed).to(process.pipeline.dtype) * sampler.init_noise_sigma
        differences = []
        for t in sampler.timesteps:
            a, b = (
                predict(sampler.scale_model_input(x_t.to(process.pipeline.dtype), t), t, text)
                for predict, process in zip(predicts, processes, strict=True)
            )
            differences.append(float((a.float() - b.float()).square().sum()))
            x_t = sampler.step((a, b)[source], t, x_t).prev_sample
        directions.append(differences)
    return directions


def test_drift_is_that_of_a_plain_loop(load, baseline):
    a, b = load(), load(guidance=3.0)
    for text in baseline.texts:
        forward, backward = np.mean([plain_loop([a, b], text.text, noise_seed(0, sample)) for sample in range(2)], axis=0)
        assert text.forward.value == pytest.approx(forward.mean(), rel=1e-4)
        assert text.backward.value == pytest.approx(backward.mean(), rel=1e-4)
        assert text.per_step == pytest.approx((forward + backward) / STEPS, rel=1e-4)
        assert text.divergence.value == pytest.approx(sum(text.per_step))


def test_dtypes_are_compared_at_the_same_latents(load):
    """Each process receives the latents of the other one, rounded to its own data type, also at the first step."""
    processes = [load(), load(dtype="bfloat16")]
    result = conjure.drift(processes[0], processes[1], ["snow leopard"], samples=1)
    forward, backward = plain_loop(processes, "snow leopard", noise_seed(0, 0))
    assert result.texts[0].forward.value == pytest.approx(np.mean(forward), rel=0.02)
    assert result.texts[0].backward.value == pytest.approx(np.mean(backward), rel=0.02)
    assert result.checks["autoencoder"] == "the same"  # up to the rounding of its weights


def test_weights_that_were_saved_in_half_precision_are_the_same_autoencoder(load):
    """A variant of a model has rounded weights, which may be loaded as float32."""
    weights = {name: torch.randn(5) for name in ("a", "b")}
    rounded = {name: tensor.half().float() for name, tensor in weights.items()}
    partly = rounded | {"b": weights["b"] * 1.0001}
    one, half, saved, other = (
        Autoencoder(str(i), {}, content)
        for i, content in enumerate((weights, {name: tensor.half() for name, tensor in weights.items()}, rounded, partly))
    )
    assert same_autoencoder(one, half)
    assert same_autoencoder(one, saved)
    assert same_autoencoder(saved, half)
    assert not same_autoencoder(one, other)


def test_results_of_a_scheduler_with_infinite_settings_are_valid_json(load):
    process = load(scheduler="dpmsolvermultistep")
    result = conjure.drift(process, process.set(guidance=2.0), ["snow leopard"], samples=1)
    json.dumps(result.to_dict(), allow_nan=False, default=str)


def test_a_process_does_not_differ_from_itself(load):
    process = load()
    result = conjure.drift(process, process, TEXTS, samples=3)
    for name in ("divergence", "forward", "backward", "nats", "relative", "final", "final_relative"):
        assert set(values(result, name).values()) == {0.0}, name
    assert not any(text.is_above_noise for text in result.texts)
    assert result.noise < 1e-6


def test_drift_is_symmetric(load, baseline):
    mirrored = conjure.drift(load(guidance=3.0), load(), TEXTS[:2], samples=2)
    for name, other_name in (("divergence", "divergence"), ("forward", "backward"), ("nats_forward", "nats_backward")):
        assert values(mirrored, name) == pytest.approx(values(baseline, other_name), rel=1e-6)


@pytest.mark.parametrize(
    ("settings_a", "settings_b"),
    [({"batch_size": 1}, {"batch_size": 1}), ({}, {"batch_size": 7}), ({"batch_size": 5}, {}), ({}, {"batch_prompts": False})],
)
def test_drift_does_not_depend_on_the_batch(load, baseline, settings_a, settings_b):
    process = load()
    parts = conjure.drift(process.set(**settings_a), process.set(guidance=3.0, **settings_b), TEXTS[:2], samples=2)
    assert values(parts) == pytest.approx(values(baseline), rel=1e-4)
    assert values(parts, "final") == pytest.approx(values(baseline, "final"), rel=1e-4)


def test_drift_grows_with_the_change(load):
    original = load()
    divergences = [
        values(conjure.drift(original, perturb(load(), scale), TEXTS[:1], samples=1))[TEXTS[0]] for scale in (0, 1e-3, 0.01)
    ]
    assert divergences[0] == 0
    assert divergences == sorted(set(divergences))


def test_the_relative_measure_is_divided_by_the_distance_to_the_empty_text(load):
    a, b = load(), load(guidance=3.0)
    (text,) = conjure.drift(a, b, TEXTS[:1], samples=1).texts
    predict = guided_unet(a.pipeline, 2.0)
    reference = algorithm_1(predict, a.scheduler, initial_noise(a, noise_seed(0, 0)), TEXTS[0], "", STEPS)
    assert text.relative.value == pytest.approx(text.divergence.value / (reference.forward + reference.backward), rel=1e-4)
    first, second = reference.final_latents
    assert text.final_relative.value == pytest.approx(text.final.value / float((first - second).square().sum()), rel=1e-4)


def test_samplers_alone_change_only_the_final_latents(load):
    result = conjure.drift(load(), load(scheduler="euler", steps=STEPS), TEXTS[:1], samples=2)
    assert values(result) == {TEXTS[0]: 0}
    assert result.texts[0].final.value > 0
    assert any("differ only in how they sample" in line for line in result.document().settings)


def test_only_one_model_is_in_memory(load, baseline):
    networks: list[Any] = []

    def loading(guidance: float) -> Callable[[], conjure.Process]:
        def load_process() -> conjure.Process:
            assert all(reference() is None for reference in networks), "another model is still in memory"
            process = load(guidance=guidance)
            networks.append(weakref.ref(process.pipeline.unet))
            return process

        return load_process

    result = conjure.drift(loading(2.0), loading(3.0), TEXTS[:2], samples=2)
    assert len(networks) == 4
    assert values(result) == values(baseline)


def test_models_by_name(tiny_sd, load):
    result = conjure.drift(tiny_sd, load(steps=10), TEXTS[:1], samples=1)
    assert (result.process_a["model"], result.process_a["steps"], result.labels[1]) == (str(tiny_sd), 10, "B: guidance 2")


def test_stored_results_are_used_again(load, baseline, tmp_path, monkeypatch):
    a = load().set(store=conjure.Store(tmp_path / "store"))
    b = a.set(guidance=3.0)
    conjure.drift(a, b, TEXTS[:1], samples=1)
    extended = conjure.drift(a, b, TEXTS[:2], samples=2)
    assert values(extended) == pytest.approx(values(baseline), rel=1e-4)
    with monkeypatch.context() as patch:
        patch.setattr(
            "conjure.process_drift.trajectories.run_on_shared_trajectories", lambda *_, **__: pytest.fail("trajectories were run")
        )
        repeated = conjure.drift(a, b, TEXTS[:2], samples=2)
    assert repeated.to_dict() == extended.to_dict()
    images = conjure.drift(a, b, TEXTS[:2], samples=2, images=1)
    assert len(images.images) == 2
    assert values(images) == pytest.approx(values(extended), rel=1e-4)


def test_progress_ends_at_the_total(load):
    reports: list[tuple[int, int]] = []
    b = load(guidance=3.0, steps=3)
    conjure.drift(load(), b, TEXTS, samples=2, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1][0] == reports[-1][1]
    assert len({total for _, total in reports}) == 1
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def with_other_decoder(process: conjure.Process) -> conjure.Process:
    for parameter in process.pipeline.vae.decoder.parameters():
        parameter.data *= 1.2
    return process


def test_models_with_different_autoencoders_are_compared_in_pixels(load):
    a, b = load(), with_other_decoder(load(guidance=3.0))
    result = conjure.drift(a, b, TEXTS[:2], samples=1, images=1)
    assert "different, so that the decoded x0 are compared in pixels" in result.checks["autoencoder"]
    (text,) = (entry for entry in result.texts if entry.text == TEXTS[0])
    # the x0 of A along its trajectory, and of B along its own, from the engine
    runs = []
    for process in (a, b):
        job = TrajectoryJob(TEXTS[0], noise_seed(0, 0), (TEXTS[0],))
        (run,) = iter_results(process, [job], keep_latents=[job])
        runs.append(run)
    finals = [decode_latents(process, run.final_latent[None])[0] for process, run in zip((a, b), runs, strict=True)]
    assert text.final.value == pytest.approx(np.square(finals[0] - finals[1]).sum(), rel=1e-3)
    same = conjure.drift(load(), with_other_decoder(load()), TEXTS[:1], samples=1).texts[0]
    assert runs[0].step_latents is not None
    x0 = runs[0].step_latents.x0[:, 0]
    pixels = decode_latents(a, x0) - decode_latents(with_other_decoder(load()), x0)
    assert same.forward.value == pytest.approx(np.square(pixels).sum() / STEPS, rel=1e-3)
    assert result.unit == "squared norm of pixels"
    assert [np.isnan(mean.value) for mean in (text.nats, text.relative, text.final_relative)] == [True] * 3
    assert result.images[0].heatmap is not None
    assert result.images[0].heatmap.shape == result.images[0].final_a.shape[:2]
    assert "nats" not in result.summary


def test_processes_that_cannot_be_compared_are_refused(load):
    a = load()
    cases: list[tuple[Any, str]] = [
        (load(height=64, width=64), "latents of process A have the shape .*how they arrange texts .conjure drift --matrix"),
        (replace(a, scheduler=a.scheduler.from_config(a.scheduler.config, beta_end=0.02)), "noise schedules of the two"),
        (replace(a, workers=cast(Any, object())), "process B has workers"),
        (3, "process B is 3; must be a process"),
        (lambda: 3, "function of process B returned 3"),
        ("/no/such/model", "/no/such/model"),
    ]
    for b, message in cases:
        with pytest.raises(InputError, match=message):
            conjure.drift(a, b, TEXTS[:1], samples=1)


def test_packed_latents_of_other_sizes_are_not_compared(tmp_path):
    """They have one shape, since they are lists of positions."""
    process = conjure.load(VIDEO_FAMILIES["LTX-Video"].save(tmp_path / "ltx"), steps=2, height=64, width=96, frames=9)
    with pytest.raises(InputError, match="process A generates 64 x 96 x 9 and process B 96 x 64 x 9; compare them at the same"):
        conjure.drift(process, process.set(height=96, width=64), ["dog"], samples=1)
    assert conjure.drift(process, process.set(guidance=1.5), ["dog"], samples=1).texts[0].divergence.value > 0


def test_flows_and_other_processes_are_not_compared():
    texts = {"y": gaussian(0.0), "": gaussian(1.0)}
    with pytest.raises(InputError, match="process A predicts flow and process B sample"):
        conjure.drift(process_of(texts, "flow", 4), process_of(texts, "ddim sample", 4), ["y"])


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ([], {}, "there are no texts"),
        ("dog", {}, "give a list of texts"),
        (["dog", "dog"], {}, "occurs twice"),
        (["dog", " "], {}, "is blank"),
        (["dog"], {"samples": 0}, "samples is 0"),
        (["dog"], {"seed": -1}, "seed is -1"),
        (["dog"], {"unit": "watt"}, "unknown unit"),
        (["dog"], {"images": 1.5}, "images is 1.5"),
    ],
)
def test_invalid_arguments_are_refused_before_a_model_is_loaded(texts, settings, message):
    with pytest.raises(InputError, match=message):
        conjure.drift(lambda: pytest.fail("a model was loaded"), lambda: pytest.fail("a model was loaded"), texts, **settings)


def test_predictions_that_are_not_finite_are_an_error(load):
    broken = load()
    broken.pipeline.unet.conv_out.bias.data += torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(InputError, match="model B's predictions are not finite for 1 text: 'dog'"):
            conjure.drift(load(), broken, ["dog"], samples=1)
        with pytest.raises(InputError, match="model A's predictions are not finite for 2 texts: '', 'dog'"):
            conjure.drift(broken, load(), ["dog"], samples=1)


def test_texts_without_tokens_cause_a_warning(default_process):
    process = default_process.set(steps=1)
    with pytest.warns(conjure.IndistinctTextWarning, match="no token"):
        conjure.drift(process, process, ["\u200d"], samples=1)

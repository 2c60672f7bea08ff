"""A pipeline is left as it was found, its safety checker is off while it decodes, and its images are finite."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.schedulers import make_scheduler
from conjure.errors import FewStepModelWarning, SafetyCheckerWarning
from safe_pipelines import overflow_in_bfloat16, set_safety_checker
from tiny_pipelines import FAMILIES

A, B = "red apple", "green pear"


def build(name="Stable Diffusion 1.x"):
    return FAMILIES[name].build()


def load(pipeline):
    return conjure.load(pipeline, steps=3, height=64, width=64)


def state(pipeline):
    """Return everything that a run could change."""
    modules = [module for part in pipeline.components.values() if isinstance(part, torch.nn.Module) for module in part.modules()]
    tokenizers = [part for part in pipeline.components.values() if hasattr(part, "padding_side")]
    return {
        "attributes": dict(vars(pipeline)),
        "modules": [(id(module), module.training, "forward" in vars(module), "decode" in vars(module)) for module in modules],
        "processors": [getattr(module, "processor", None) for module in modules],
        "tokenizers": [
            (part.padding_side, part.backend_tokenizer.truncation, part.backend_tokenizer.padding) for part in tokenizers
        ],
        "scheduler": (dict(pipeline.scheduler.config), getattr(pipeline.scheduler, "num_inference_steps", None)),
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("Stable Diffusion 1.x", "Stable Diffusion PAG") else pytest.mark.slow)
        for name in FAMILIES
    ],
)
@pytest.mark.filterwarnings("ignore::conjure.errors.FewStepModelWarning")
def test_the_pipeline_is_left_as_it_was_found(name, monkeypatch):
    pipeline, family = build(name), FAMILIES[name]
    pipeline.set_progress_bar_config(desc="mine", disable=True)
    process = conjure.load(pipeline, steps=3, **family.settings)
    if family.pipeline_kwargs:
        process = process.set(pipeline_kwargs=family.pipeline_kwargs)
    before = state(pipeline)
    conjure.explain(process, A, B, samples=1)
    assert state(pipeline) == before
    denoiser = pipeline.components.get("unet") or pipeline.transformer
    broken = next(module for module in denoiser.modules() if not list(module.children()))

    def fail(*args, **kwargs):
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(broken, "forward", fail)
        with pytest.raises((InputError, ValueError)):
            conjure.distance(process, "other text", B, samples=1)
    assert state(pipeline) == before


def test_the_safety_checker_is_off_and_named_once(monkeypatch):
    pipeline = build()
    expected = load(pipeline).run([A], [1], "np")
    checker = set_safety_checker(pipeline)
    with pytest.warns(SafetyCheckerWarning, match="safety checker"):
        assert np.array_equal(load(pipeline).run([A], [1], "np"), expected)
    assert np.array_equal(load(pipeline).run([A], [1], "np"), expected)
    assert pipeline.safety_checker is checker


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_images_that_are_not_finite_are_decoded_in_float32(value):
    pipeline = build()
    process = load(pipeline)
    expected = process.run([A], [1], "np")
    overflow_in_bfloat16(pipeline.vae, value)
    parameters = [p.data_ptr() for p in pipeline.vae.parameters()]
    assert process.run([A], [1], "np") == pytest.approx(expected, abs=0.05)
    assert [p.data_ptr() for p in pipeline.vae.parameters()] == parameters
    pipeline.vae.to(torch.float32)
    pipeline.vae.decode = lambda latents, *args, **kwargs: (torch.full((len(latents), 3, 64, 64), value),)
    with pytest.raises(InputError, match="not finite, also in float32"):
        process.run([A], [1], "np")


@pytest.mark.parametrize("name", ["Stable Diffusion 1.x", "SDXL"])
def test_a_negative_prompt_is_repeated_for_every_row(name):
    process = conjure.load(build(name), steps=2, height=64, width=64)
    with_text, with_list, with_rows = (
        conjure.distance(process.set(pipeline_kwargs={"negative_prompt": value}), A, B, samples=1).distance
        for value in ("blurry", ["blurry"], ("blurry",))
    )
    assert with_text == with_list == with_rows != conjure.distance(process, A, B, samples=1).distance


@pytest.mark.parametrize(
    "kwargs",
    [
        {"negative_prompt": ["a", "b"]}, {"negative_prompt": 3}, {"num_images_per_prompt": 2}, {"prompt": "a"},
        {"prompt_embeds": torch.zeros(1, 2)}, {"latents": torch.zeros(1)},
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_repeated_are_refused(kwargs):
    with pytest.raises(InputError, match=next(iter(kwargs))):
        load(build()).set(pipeline_kwargs=kwargs)


def test_unknown_arguments_of_the_pipeline_are_refused():
    """Pipelines with further keyword arguments would ignore them."""
    process = load(build())
    with pytest.raises(
        InputError, match="has 'negative_promt', which the pipeline does not take; did you mean 'negative_prompt'"
    ):
        process.set(pipeline_kwargs={"negative_promt": "blurry"})
    with pytest.raises(InputError, match="has 'nope', which the pipeline does not take; leave it out"):
        process.set(pipeline_kwargs={"nope": 1})


def test_few_step_models_keep_their_sampler_and_are_named():
    pipeline = build("SDXL")
    pipeline.scheduler = pipeline.scheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    with pytest.warns(FewStepModelWarning, match="--guidance 0"):
        process = load(pipeline)
    assert type(process.scheduler).__name__ == "EulerDiscreteScheduler"
    assert process.scheduler.config.timestep_spacing == "trailing"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conjure.load(pipeline, guidance=0.0, steps=4)
    assert type(make_scheduler(pipeline.scheduler, "lms")).__name__ == "LMSDiscreteScheduler"

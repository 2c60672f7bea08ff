"""The settings of a process: their defaults, their limits, and what they leave unchanged in the pipeline."""

from __future__ import annotations

import diffusers
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.process_settings import PIPELINES_WITHOUT_PROMPT_BATCHING
from denoisers import denoiser
from tiny_pipelines import FAMILIES

A, B = "snow leopard", "bengal tiger"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; must be an integer from 1 to 1000"),
        ({"steps": 1001}, "from 1 to 1000"),
        ({"steps": True}, "steps is True; must be an integer from 1 to 1000"),
        ({"guidance": True}, "guidance is True; must be a finite number"),
        ({"batch_size": True}, "batch_size is True; must be an integer >= 1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"scheduler": "nope"}, "unknown scheduler 'nope'.*lms"),
        ({"default_unit": "metres"}, "unknown unit 'metres'; must be one of output, epsilon, x0, score, velocity"),
        ({"sampels": 2}, "unknown setting 'sampels'"),
        ({"store": "results.sqlite"}, r"store is 'results.sqlite'; give conjure.Store\('results.sqlite'\)"),
        ({"workers": 2}, r"workers is 2; give conjure.Workers\(2\)"),
    ],
)
def test_settings_out_of_range_are_refused(default_process, change, message):
    with pytest.raises(InputError, match=message):
        default_process.set(**change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"unit": "x0"}, {"default_unit": "x0"}),
        ({"call": {}}, {"pipeline_kwargs": {}}),
        ({"rows": 7}, {"batch_size": 7}),
        ({"alone": True}, {"batch_prompts": False}),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_setting_under_its_old_and_its_new_name_is_refused(default_process, old, new):
    with pytest.raises(TypeError, match="both"):
        default_process.set(**old, **new)


def test_replace_is_another_name_of_set(default_process):
    assert default_process.replace(steps=3, guidance=1.0) == default_process.set(steps=3, guidance=1.0)


def test_default_settings_are_those_of_the_paper(tiny_sd):
    settings = conjure.load(tiny_sd).settings()
    assert (settings["steps"], settings["scheduler"], settings["guidance"], settings["default_unit"]) == (
        10,
        "lms",
        7.5,
        "output",
    )
    assert settings["scheduler_config"]["timestep_spacing"] == "linspace"
    estimate = conjure.distance(conjure.load(tiny_sd), A, B, samples=1)
    assert estimate.timesteps == tuple(range(999, -1, -111))


@pytest.mark.parametrize("model", ["default", "stable diffusion"])
def test_the_pipeline_is_unchanged_after_a_call(default_process, tiny_sd, monkeypatch, model):
    process = default_process if model == "default" else conjure.load(tiny_sd, guidance=2.0)
    before = dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)
    conjure.distance(process, A, B, samples=1)
    with monkeypatch.context() as patch:
        patch.setattr(denoiser(process), "forward", lambda: None)
        with (
            pytest.raises(InputError, match="cannot run 10 steps with these settings"),
            pytest.warns(conjure.TextTruncationWarning),
        ):
            conjure.distance(process, A, "word " * 500, samples=1)
    assert (dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)) == before
    assert all("forward" not in vars(part) for part in before[0].values() if isinstance(part, torch.nn.Module))


def test_pipelines_that_pad_to_the_longest_prompt_are_known(tiny_sd):
    """However a process is made, and for subclasses too."""
    pipeline = FAMILIES["CogView4"].build()
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    process = conjure.Process(pipeline, scheduler, steps=3, guidance=5.0, height=64, width=64)
    assert process.batch_prompts is False
    assert process.set(steps=2).batch_prompts is False

    class Subclass(type(pipeline)):  # type: ignore[misc]
        pass

    assert conjure.load(Subclass(**pipeline.components)).batch_prompts is False
    assert conjure.load(tiny_sd).batch_prompts is True
    assert {"Kandinsky5T2IPipeline", "Kandinsky5T2VPipeline"} < set(PIPELINES_WITHOUT_PROMPT_BATCHING)
    assert all(hasattr(diffusers, name) for name in PIPELINES_WITHOUT_PROMPT_BATCHING)


def test_a_pipeline_in_training_mode_is_refused(tiny_sd):
    pipeline = conjure.load(tiny_sd).pipeline
    pipeline.text_encoder.train()
    with pytest.raises(InputError, match="'text_encoder' is in training mode"):
        conjure.load(pipeline)


def test_a_height_without_a_width_is_refused(tiny_sd):
    with pytest.raises(InputError, match="height is 128 and width is None; give both or neither"):
        conjure.load(tiny_sd, height=128)


def test_predictions_that_overflow_are_an_error(default_process):
    with pytest.raises(InputError, match="predictions are not finite"):
        conjure.distance(default_process.set(guidance=1e30), A, B, samples=1)

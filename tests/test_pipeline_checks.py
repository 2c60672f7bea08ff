"""The checks of a pipeline: each deviation from the requirements fails the check that names it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import conjure
from conjure import InputError
from conjure.pipeline_checks import CHECKS, check_model

pytestmark = pytest.mark.filterwarnings("ignore:this is about something else")


@pytest.fixture
def tiny(tiny_sd):
    return conjure.load(tiny_sd, steps=2)


def failed_checks(process):
    return [finding.name for finding in check_model(process) if not finding.passed]


def passes(process, name):
    """Return whether the check `name` alone passes, which takes less time than all checks."""
    return CHECKS[name](process)[0]


def replace_encode_prompt(monkeypatch, process, change):
    """Replace `encode_prompt` of the pipeline by `change(encode_prompt, prompts, *args, **kwargs)`."""
    stock = process.pipeline.encode_prompt
    monkeypatch.setattr(process.pipeline, "encode_prompt", lambda prompt, *args, **kwargs: change(stock, prompt, *args, **kwargs))


def test_one_step_is_refused(tiny):
    with pytest.raises(InputError, match="steps is 1; a check needs an integer >= 2"):
        list(check_model(tiny.set(steps=1)))


def test_embeddings_that_depend_on_the_batch_are_reported(tiny, monkeypatch):
    def encode(stock, prompts, *args, **kwargs):
        embeddings, negative = stock(prompts, *args, **kwargs)
        return embeddings + embeddings.mean(0) * (len(embeddings) > 1), negative

    replace_encode_prompt(monkeypatch, tiny, encode)
    assert not passes(tiny, "batch size and other texts change nothing")


def test_truncation_without_a_warning_is_reported(tiny, monkeypatch):
    """Warnings of other categories are no report of a truncation."""

    def encode(stock, prompts, *args, **kwargs):
        warnings.warn("this is about something else", UserWarning, stacklevel=2)
        return stock([text[:20] for text in prompts], *args, **kwargs)

    replace_encode_prompt(monkeypatch, tiny, encode)
    assert failed_checks(tiny) == ["truncation of a long text is reported"]


def test_a_pipeline_that_ignores_its_prompt_is_reported(tiny, monkeypatch):
    def encode(stock, prompts, *args, **kwargs):
        return stock([""] * len(prompts), *args, **kwargs)

    replace_encode_prompt(monkeypatch, tiny, encode)
    assert not passes(tiny, "two texts have a positive distance")


def test_an_error_of_the_engine_is_reported(tiny, monkeypatch):
    """If different rows are treated as equal, the results differ from those of the stock pipeline."""
    monkeypatch.setattr("conjure.diffusion.deduplication._first_duplicates", lambda rows, seen_inputs: [0] * len(rows))
    assert not passes(tiny, "two texts have a positive distance")
    assert not passes(tiny, "evaluated rows match the stock pipeline")


def test_wrong_decoding_is_reported(tiny, monkeypatch):
    decode = conjure.Process.decode
    monkeypatch.setattr(conjure.Process, "decode", lambda self, latents: decode(self, latents * 0.9))
    assert failed_checks(tiny) == ["latents are decoded as by the pipeline"]


def test_errors_of_the_pipeline_are_reported(tiny, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no such part")

    monkeypatch.setattr(tiny.pipeline.unet, "forward", broken)
    findings = list(check_model(tiny))
    assert not any(finding.passed for finding in findings)
    assert findings[0].detail == "OSError: no such part"


def test_a_pipeline_that_does_not_call_its_scheduler_is_refused(tiny, monkeypatch):
    """An unknown pipeline that does not call `scheduler.step` has no distance."""

    def call(self, prompt, num_inference_steps, generator, output_type):
        return SimpleNamespace(images=torch.zeros(len(prompt), 4, 8, 8))

    monkeypatch.setattr(type(tiny.pipeline), "__call__", call)
    process = replace(tiny, guidance=None)
    with pytest.raises(InputError, match="visited 0 states in 2 steps; Conjure needs one call of scheduler.step per state"):
        conjure.distance(process, "a", "b", samples=1)
    assert len(failed_checks(process)) == len(CHECKS)


def test_the_command_prints_every_check(tiny_sd, tmp_path, conjure_command):
    code, output, _ = conjure_command("check", tiny_sd, "--steps", 2, "--json")
    result = json.loads(output)
    assert (code, result["passed"], [check["name"] for check in result["checks"]]) == (0, True, list(CHECKS))
    code, output, errors = conjure_command("check", tmp_path)
    assert (code, output, errors.count("\n")) == (2, "", 1)

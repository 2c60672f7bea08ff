"""The fingerprint of a process changes with everything that changes a number, and with nothing else."""

from __future__ import annotations

import pytest
import torch

import conjure
from conjure.diffusion import fingerprint
from denoisers import denoiser
from tiny_pipelines import FAMILIES


@pytest.mark.parametrize("model", ["default", "stable diffusion"])
def test_settings_and_weights_change_the_fingerprint(default_process, tiny_sd, model):
    process = default_process if model == "default" else conjure.load(tiny_sd, guidance=2.0)
    variants = [process.set(steps=5), process.set(guidance=1.0), process.set(scheduler="ddim")]
    assert process.set(batch_size=3).fingerprint() == process.fingerprint()
    assert len({process.fingerprint(), *(variant.fingerprint() for variant in variants)}) == 4
    weight = next(denoiser(process).parameters())
    before = process.fingerprint()
    with torch.no_grad():
        weight.view(-1)[0] += 1e-3
        changed = process.fingerprint()
        weight.view(-1)[0] -= 1e-3
    assert changed != before


def test_use_does_not_change_the_fingerprint(default_process):
    """Tokenizers keep the truncation and padding of their last call, which do not affect the next one."""
    process = conjure.load()
    before = process.fingerprint()
    conjure.distance(process.set(steps=1), "sun", "moon", samples=1)
    process.pipeline.tokenizer(["a", "longer text"], padding=True, truncation=True, max_length=5)
    fingerprint._cached_fingerprints.clear()
    assert process.fingerprint() == before == default_process.fingerprint()


def test_configurations_change_the_fingerprint():
    pipeline = FAMILIES["Flux 2 Klein"].build()
    process = conjure.load(pipeline, height=64, width=64)
    before = process.fingerprint()
    pipeline.register_to_config(is_distilled=True)
    assert process.fingerprint() != before
    pipeline.register_to_config(is_distilled=False)
    assert process.fingerprint() == before


def test_the_chat_template_changes_the_fingerprint():
    pipeline = FAMILIES["Flux 2 Klein"].build()
    process = conjure.load(pipeline, height=64, width=64)
    before = process.fingerprint()
    pipeline.tokenizer.chat_template += " "
    assert process.fingerprint() != before

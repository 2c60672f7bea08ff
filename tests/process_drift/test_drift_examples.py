"""The worked examples of docs/howto/drift.md: a damaged model, whose agreement with human ratings barely changes, and a LoRA."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import conjure
from conjure.evaluation.datasets import read
from rated_pairs import RATINGS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """Make the scripts of the examples importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield
    for name in ("drift_examples", "drift_damage", "drift_lora"):
        sys.modules.pop(name, None)


def damaged(process: conjure.Process) -> conjure.Process:
    from drift_damage import damage  # type: ignore[import-not-found]

    return damage(process)


def test_drift_of_a_damaged_model_is_large_for_all_texts(default_process):
    from drift_examples import TEXTS  # type: ignore[import-not-found]

    process = default_process.set(steps=3)
    result = conjure.drift(process, damaged(process), TEXTS[:4], samples=1)
    assert min(text.relative.value for text in result.texts) > 0.5


@pytest.mark.slow
@pytest.mark.skipif(not RATINGS.is_dir(), reason=f"the human ratings are not available in {RATINGS}")
def test_agreement_of_a_damaged_model_barely_changes(default_process):
    process = default_process.set(steps=2)
    pairs = read("rg65", RATINGS)
    before, after = (
        conjure.evaluate(one, [pairs], floors=False).tasks["rg65"].agreement.spearman for one in (process, damaged(process))
    )
    assert before > 0.5
    assert abs(after - before) < 0.15


def test_lora_of_the_example(default_process, tmp_path):
    """A few steps of training write a LoRA that the default model loads, in the format of diffusers."""
    pytest.importorskip("peft", reason="LoRAs need the package peft")
    from drift_lora import GROUPS, THINGS, train  # type: ignore[import-not-found]

    losses: list[Any] = []
    drawings = train(tmp_path / "lora", lambda *values: losses.append(values), steps=3)
    assert len(losses) == 3
    assert len(drawings) % len(THINGS) == 0
    assert drawings.shape[1:] == (64, 64, 3)
    assert (tmp_path / "lora" / "pytorch_lora_weights.safetensors").exists()
    process = default_process.set(steps=2)
    with_lora, without = (conjure.load(steps=2, lora=f"{tmp_path / 'lora'}:{weight}") for weight in (1, 0))
    text = GROUPS["trained drawings"][0]
    changed, unchanged = (conjure.drift(process, other, [text], samples=1).texts[0] for other in (with_lora, without))
    assert changed.divergence.value > 0
    assert unchanged.divergence.value == 0

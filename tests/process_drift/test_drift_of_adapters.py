"""The drift of a LoRA: exactly 0 for the weight 0, larger for larger weights, and that of the example in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="LoRAs need the package peft")

import conjure
from lora_files import random_lora, save_kohya

TEXTS = ["snow leopard", "house"]


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory) -> Path:
    network = conjure.load(tiny_sd).pipeline.unet
    return save_kohya(random_lora(network), tmp_path_factory.mktemp("lora") / "style.safetensors")


def test_drift_grows_with_the_weight_of_a_lora(tiny_sd, lora):
    process = conjure.load(tiny_sd, steps=2)
    results = [
        conjure.drift(process, conjure.load(tiny_sd, steps=2, lora=f"{lora}:{weight}"), TEXTS, samples=1)
        for weight in (0, 0.25, 0.5, 1)
    ]
    for quantity in ("divergence", "nats", "final"):
        for name in TEXTS:
            values = [getattr(text, quantity).value for result in results for text in result.texts if text.text == name]
            assert values[0] == 0.0  # to the bit
            assert values == sorted(set(values))


def test_the_option(conjure_command, tiny_sd, lora):
    arguments = ("drift", *TEXTS, "--model", tiny_sd, "--steps", 2, "--samples", 2, "--json", "--other-lora")
    for weight, is_changed in ((0, False), (0.5, True)):
        code, out, _ = conjure_command(*arguments, f"{lora}:{weight}")
        result = json.loads(out)
        assert code == 0
        assert result["labels"] == ["A: lora none", f"B: lora {lora} x {weight:g}"]
        for text in result["texts"]:
            assert (text["divergence"]["value"] > 0) is is_changed
            assert text["is_above_noise"] is is_changed

"""Quantised denoisers: other numbers, another fingerprint, and the same ones again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.diffusion import quantization
from lora_files import random_lora, save_kohya

pytest.importorskip("optimum.quanto")


def distance(process: conjure.Process) -> float:
    return conjure.distance(process, "sun", "moon", samples=1).distance


def test_coarser_weights_change_more(tiny_sd):
    plain = conjure.load(tiny_sd, steps=2)
    quantized = [conjure.load(tiny_sd, steps=2, quantize=quantize) for quantize in ("int8", "int4")]
    changes = [abs(distance(process) / distance(plain) - 1) for process in quantized]
    assert 0 < changes[0] < changes[1] < 0.9
    assert [process.settings()["quantize"] for process in quantized] == ["int8-quanto", "int4-quanto"]
    assert len({process.fingerprint() for process in (plain, *quantized)}) == 3
    again = conjure.load(tiny_sd, steps=2, quantize="int8-quanto")
    assert again.fingerprint() == quantized[0].fingerprint()
    assert distance(again) == distance(quantized[0])


def test_a_lora_on_quantised_weights(tiny_sd, tmp_path):
    plain = conjure.load(tiny_sd, steps=2, quantize="int8")
    lora = save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path / "lora.safetensors")
    none, full = (conjure.load(tiny_sd, steps=2, quantize="int8", lora=(f"{lora}:{weight}")) for weight in (0, 1))
    latents = [np.asarray(process.run(["a cat"], [0])) for process in (plain, none, full)]
    np.testing.assert_array_equal(latents[0], latents[1])
    assert abs(latents[2] - latents[0]).max() > 0.05


def test_unknown_quantisations_are_refused(tiny_sd):
    quantize: Any
    for quantize in ("int2", "int4-torchao", 8, ["int8"]):
        with pytest.raises(InputError, match="quantize is .*; must be int8 or int4"):
            conjure.load(tiny_sd, quantize=quantize)


def test_pipelines_without_a_denoiser_are_refused():
    class WithoutDenoiser:
        unet = None

    with pytest.raises(InputError, match=r"\(WithoutDenoiser\) has no denoiser that can be quantised; leave quantize out"):
        quantization.quantize_denoiser(WithoutDenoiser(), "int8-quanto", "x")


def test_an_installed_library_is_chosen(monkeypatch):
    installed: set[str] = set()
    monkeypatch.setattr(quantization, "_is_installed", lambda module: module in installed)
    for quantize, package in [("int8", "optimum-quanto"), ("int4", "optimum-quanto"), ("int8-torchao", "torchao")]:
        with pytest.raises(
            InputError, match=rf"^the quantisation {quantize} needs the package {package}; install it with: pip install "
        ):
            quantization.choose_quantization(quantize)
    installed.add("torchao")
    assert quantization.choose_quantization("int8") == "int8-torchao"
    with pytest.raises(InputError, match="int4 needs the package optimum-quanto"):
        quantization.choose_quantization("int4")
    installed.add("optimum.quanto")
    assert quantization.choose_quantization("int8") == "int8-quanto"


def test_missing_parent_packages_are_not_installed():
    assert not quantization._is_installed("no_such_package.part")

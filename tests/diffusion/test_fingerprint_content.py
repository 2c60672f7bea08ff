"""The fingerprint covers content only: not the folder of a model, not what saved it, and not the order of sets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch

import conjure
from conjure.diffusion import fingerprint
from conjure.diffusion.code_state import Describer
from conjure.diffusion.float32_precision import changed_float32_precisions, set_float32_precisions
from conjure.diffusion.weights import sum_of_bits
from record_golden import GOLDEN, LIBRARIES, machine
from tiny_pipelines import FAMILIES

ROOT = Path(__file__).parents[2]


def check_copies(process, folder, monkeypatch, **settings):
    """One model in memory, saved, copied and by a relative path has one fingerprint, before and after a run."""
    expected = process.fingerprint()
    process.pipeline.save_pretrained(folder / "saved")
    shutil.copytree(folder / "saved", folder / "elsewhere" / "copy")
    monkeypatch.chdir(folder)
    conjure.distance(process, "a", "b", samples=1)
    fingerprint._cached_fingerprints.clear()
    assert process.fingerprint() == expected
    for place in (folder / "saved", folder / "elsewhere" / "copy", "saved", "elsewhere/copy"):
        other = conjure.load(place, **settings)
        assert other.set(pipeline_kwargs=process.pipeline_kwargs).fingerprint() == expected, place
    other.pipeline.save_pretrained(folder / "again")
    assert conjure.load("again", **settings).set(pipeline_kwargs=process.pipeline_kwargs).fingerprint() == expected


def test_copies_of_a_model_have_one_fingerprint(tmp_path, monkeypatch):
    family = FAMILIES["Stable Diffusion 1.x"]
    check_copies(conjure.load(family.build(), steps=2, **family.settings), tmp_path, monkeypatch, steps=2, **family.settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_copies_of_every_family_have_one_fingerprint(name, tmp_path, monkeypatch):
    family = FAMILIES[name]
    settings = {"steps": 4, **family.settings}
    process = conjure.load(family.build(), **settings).set(pipeline_kwargs=family.pipeline_kwargs)
    check_copies(process, tmp_path, monkeypatch, **settings)


def test_the_order_of_sets_does_not_change_a_description():
    first, second = {0, 8}, {8, 0}
    assert list(first) != list(second)
    assert Describer().describe(first, "set") == Describer().describe(second, "set")
    assert fingerprint._clean_config({"key": first}) == fingerprint._clean_config({"key": second})


@pytest.mark.slow
class Key:
    """A key without attributes: all keys have one description."""


def test_keys_with_equal_descriptions():
    """Values that cannot be compared with each other have an order too."""
    values, keys = ([1], {"a": 1}, None), (Key(), Key(), Key())
    first, second = (Describer().describe(dict(zip(order, values, strict=True)), "x") for order in (keys, keys[::-1]))
    assert first == second


def test_the_fingerprint_does_not_depend_on_hash_seeds_or_folders(default_process, tmp_path):
    """The package in another folder and another order of sets, in new processes."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    code = "import conjure; print(conjure.load().fingerprint())"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == default_process.fingerprint()


@pytest.mark.parametrize("path", ["docs/results.md", "docs/asymmetry.md", "results/sets.json"])
def test_printed_fingerprints_are_those_of_the_default_model(default_process, path):
    """Readers can compare the model that was measured with the model that they have."""
    versions = json.loads(GOLDEN.read_text())["machine"]
    if any(machine()[library] != versions[library] for library in LIBRARIES):
        pytest.skip("fingerprints depend on the versions of these libraries")
    printed = set(re.findall(r"fingerprint\W+([0-9a-f]{12})", (ROOT / path).read_text(encoding="utf-8")))
    assert printed == {default_process.fingerprint()[:12]}


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("Lumina2", "system_prompt", "You are a cat"),
        ("Qwen-Image", "prompt_template_encode_start_idx", 10),
        ("Flux dev", "tokenizer_max_length", 5),
        ("Stable Diffusion 1.x", "vae_scale_factor", 4),
    ],
)
def test_attributes_of_the_pipeline_are_part_of_the_fingerprint(name, attribute, value):
    family = FAMILIES[name]
    process = conjure.load(family.build(), steps=1, **family.settings)
    before, original = process.fingerprint(), getattr(process.pipeline, attribute)
    setattr(process.pipeline, attribute, value)
    assert process.fingerprint() != before
    setattr(process.pipeline, attribute, original)
    assert process.fingerprint() == before


def test_weights_of_a_network_that_is_an_attribute_are_part_of_the_fingerprint():
    family = FAMILIES["Stable Diffusion 1.x"]
    process = conjure.load(family.build(), steps=1, **family.settings)
    process.pipeline.extra = family.build().unet
    before = process.fingerprint()
    with torch.no_grad():
        process.pipeline.extra.conv_in.weight.mul_(2)
    assert process.fingerprint() != before


def test_layers_of_perturbed_attention_are_part_of_the_fingerprint(tmp_path):
    """A store does not return the result of other layers."""
    family = FAMILIES["Stable Diffusion PAG"]
    process = conjure.load(family.build(), steps=2, **family.settings).set(store=conjure.Store(tmp_path / "store"))
    first = conjure.distance(process, "red apple", "green pear", samples=1).distance
    process.pipeline.set_pag_applied_layers(["up"])
    second = conjure.distance(process, "red apple", "green pear", samples=1).distance
    assert second == conjure.distance(process.set(store=None), "red apple", "green pear", samples=1).distance
    assert abs(second - first) > 1


def test_autocast_is_part_of_the_fingerprint(tmp_path):
    """A store does not return a result that was computed with it."""
    family = FAMILIES["Stable Diffusion 1.x"]
    process = conjure.load(family.build(), steps=2, **family.settings).set(store=conjure.Store(tmp_path / "store"))
    before = process.fingerprint()
    with torch.autocast("cpu", torch.bfloat16):
        assert process.fingerprint() != before
        changed = conjure.distance(process, "red apple", "green pear", samples=1).distance
    exact = conjure.distance(process, "red apple", "green pear", samples=1).distance
    assert exact == conjure.distance(process.set(store=None), "red apple", "green pear", samples=1).distance
    assert exact != changed


@contextlib.contextmanager
def float32_precision(backend, precision):
    """Set the precision of float32 products of a backend for a block."""
    module = attrgetter(backend)(torch.backends)
    before = module.fp32_precision
    module.fp32_precision = precision
    try:
        yield
    finally:
        module.fp32_precision = before


@pytest.mark.parametrize("backend", ["cuda.matmul", "mkldnn.matmul", "mkldnn.conv", "cudnn.conv"])
def test_the_precision_of_float32_products_is_part_of_the_fingerprint(tiny, backend):
    """TF32 and bfloat16 products change results. What PyTorch starts with, or its equivalent, changes no fingerprint."""
    before = tiny.fingerprint()
    with float32_precision(backend, "ieee" if backend == "cudnn.conv" else "tf32"):
        changed = changed_float32_precisions()
        assert changed.keys() == {backend}
        assert tiny.fingerprint() != before
    if backend != "cudnn.conv":
        with float32_precision(backend, "ieee"):
            assert tiny.fingerprint() == before
    assert tiny.fingerprint() == before
    set_float32_precisions(changed)  # in a worker
    assert changed_float32_precisions() == changed
    set_float32_precisions({})
    assert tiny.fingerprint() == before


@pytest.fixture
def tiny():
    family = FAMILIES["Stable Diffusion 1.x"]
    return conjure.load(family.build(), steps=1, **family.settings)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("pad_token", "!"), ("truncation_side", "left"), ("padding_side", "left"), ("model_input_names", ["input_ids"])],
)
def test_settings_of_a_tokenizer_are_part_of_the_fingerprint(tiny, attribute, value):
    before, original = tiny.fingerprint(), getattr(tiny.pipeline.tokenizer, attribute)
    setattr(tiny.pipeline.tokenizer, attribute, value)
    assert tiny.fingerprint() != before
    setattr(tiny.pipeline.tokenizer, attribute, original)
    assert tiny.fingerprint() == before


def test_a_stored_result_belongs_to_the_padding_of_its_texts(tiny, tmp_path):
    stored = tiny.set(store=conjure.Store(tmp_path / "store.sqlite"))
    before = conjure.distance(stored, "a", "b", samples=1).distance
    tiny.pipeline.tokenizer.pad_token = "!"
    expected = conjure.distance(tiny, "a", "b", samples=1).distance
    assert expected != pytest.approx(before, rel=1e-3)
    assert conjure.distance(stored, "a", "b", samples=1).distance == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_long_arguments_of_the_pipeline_are_part_of_the_fingerprint(tiny, kind):
    """Texts of tensors and arrays leave out what is in the middle."""
    values = np.zeros(4000, dtype=np.float32)
    one, equal = (tiny.set(pipeline_kwargs={"cross_attention_kwargs": {"bias": kind(values)}}) for _ in range(2))
    values[2000] = 5
    other = tiny.set(pipeline_kwargs={"cross_attention_kwargs": {"bias": kind(values.copy())}})
    assert one.fingerprint() == equal.fingerprint() != other.fingerprint()


def test_edits_through_data_change_the_fingerprint(tiny):
    """torch does not count them."""
    weight = tiny.pipeline.unet.mid_block.resnets[0].conv1.weight
    before = tiny.fingerprint()
    weight.data[3] *= 4
    assert tiny.fingerprint() != before
    weight.data[3] /= 4
    assert tiny.fingerprint() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool])
@pytest.mark.parametrize("size", [1, 7, 8, 1001])
def test_the_sum_of_bits_shows_every_change(dtype, size):
    tensor = torch.ones(size + 1).to(dtype)[1:]
    before = sum_of_bits(tensor)
    for index in {0, size // 2, size - 1}:
        changed = tensor.clone()
        changed[index] = 0
        assert sum_of_bits(changed) != before
    assert sum_of_bits(tensor.clone()) == before


@pytest.mark.parametrize("shape", [(7, 3), (32, 32), (3, 1000)])
def test_the_sum_of_bits_depends_on_order_and_signs(shape):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        tensor = torch.randn(shape, generator=generator)
        changed = (-tensor, tensor.flip(0), tensor.roll(1, 0), tensor.flip(1))
        assert sum_of_bits(tensor) not in [sum_of_bits(other.contiguous()) for other in changed]


def test_replaced_functions_of_torch_are_part_of_the_fingerprint(tiny, monkeypatch):
    """Attention kernels of other packages are installed in this way."""
    before, silu = tiny.fingerprint(), torch.nn.functional.silu
    fingerprints = {before}
    for replacement in (lambda x, inplace=False: 2 * silu(x, inplace), torch.nn.functional.relu, len):
        monkeypatch.setattr(torch.nn.functional, "silu", replacement)
        fingerprints.add(tiny.fingerprint())
    assert len(fingerprints) == 4
    monkeypatch.setattr(torch.nn.functional, "silu", silu)
    assert tiny.fingerprint() == before


def test_variables_of_modules_that_a_hook_reads_are_part_of_the_fingerprint(tiny):
    settings, parts = types.ModuleType("settings_of_a_hook"), types.ModuleType("parts_of_a_hook")
    values, inner = vars(settings), vars(parts)
    values |= {"scale": 2.0, "other": 1, "parts": parts}
    inner |= {"shift": 0.5, "settings": settings}

    def hook(module, arguments, output):
        return output * settings.scale + settings.parts.shift

    with tiny.pipeline.unet.conv_in.register_forward_hook(hook):
        before = tiny.fingerprint()
        values["other"] = 7
        assert tiny.fingerprint() == before
        values["scale"] = 3.0
        assert (changed := tiny.fingerprint()) != before
        inner["shift"] = 1.5
        assert tiny.fingerprint() not in (before, changed)

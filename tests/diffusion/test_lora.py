"""LoRAs in the formats of diffusers, kohya and peft: their effect, their weight, and what is refused."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError
from conjure.diffusion import lora as lora_module
from lora_files import random_lora, save_diffusers, save_kohya, save_peft, save_plain, tensors_of
from tiny_pipelines import FAMILIES, save

METADATA = lora_module.DIFFUSERS_METADATA


def latents(process: conjure.Process) -> np.ndarray:
    """Return final latents of a text."""
    return np.asarray(process.run(["a cat"], [0]))


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(actual - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def plain(tiny_sd) -> conjure.Process:
    return conjure.load(tiny_sd, steps=2)


@pytest.fixture(scope="module")
def lora(plain) -> Any:
    return random_lora(plain.pipeline.unet)


@pytest.fixture(scope="module")
def files(lora, tmp_path_factory) -> dict[str, Path]:
    """The same LoRA in each format, with a scale of 2."""
    folder = tmp_path_factory.mktemp("loras")
    return {
        "peft": save_peft(lora, folder / "peft"),
        "diffusers": save_diffusers(lora, folder / "diffusers"),
        "kohya": save_kohya(lora, folder / "kohya.safetensors"),
    }


@pytest.fixture(scope="module")
def expected(plain, lora) -> np.ndarray:
    """The latents with the LoRA as peft computes them."""
    pipeline = StableDiffusionPipeline(**plain.pipeline.components | {"unet": lora.eval()}, requires_safety_checker=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(lora), "config", lora.base_model.model.config, raising=False)
        patch.setattr(type(lora), "dtype", torch.float32, raising=False)
        return latents(conjure.load(pipeline, steps=2))


@pytest.mark.parametrize("file_format", ["peft", "diffusers", "kohya"])
def test_every_format_has_the_effect_of_its_training(tiny_sd, plain, files, expected, file_format):
    """The scale is part of the result: alpha / rank is 2."""
    process = conjure.load(tiny_sd, steps=2, lora=files[file_format])
    assert_close(latents(process), expected)
    assert abs(expected - latents(plain)).max() > 0.05
    assert process.fingerprint() != plain.fingerprint()
    (recorded,) = process.settings()["lora"]
    assert (recorded["name"], recorded["weight"]) == (str(files[file_format]), 1.0)
    assert not [name for name, layer in process.pipeline.unet.named_modules() if layer.training]


def test_the_effect_grows_with_the_weight(tiny_sd, plain, files):
    unchanged = latents(plain)
    processes = [conjure.load(tiny_sd, steps=2, lora=f"{files['kohya']}:{weight}") for weight in (0, 0.25, 0.5, 1)]
    effects = [float(np.linalg.norm(latents(process) - unchanged)) for process in processes]
    assert effects[0] == 0.0  # to the bit
    assert effects[1:] == sorted(effects[1:])
    assert effects[1] > 0.01
    assert len({process.fingerprint() for process in (plain, *processes)}) == 5  # it covers the tensors, whatever their weight
    without, with_lora = (conjure.distance(process, "sun", "moon", samples=1).samples for process in (plain, processes[0]))
    assert without == with_lora


def test_two_loras_add_up(tiny_sd, plain, files, lora, tmp_path):
    other = save_kohya(random_lora(plain.pipeline.unet, seed=1), tmp_path / "other.safetensors")
    both = conjure.load(tiny_sd, steps=2, lora=[files["kohya"], (other, 0.5)])
    single = [latents(conjure.load(tiny_sd, steps=2, lora=[one])) for one in (files["kohya"], (other, 0.5))]
    assert min(abs(latents(both) - one).max() for one in single) > 0.01
    without_second = conjure.load(tiny_sd, steps=2, lora=[files["kohya"], (other, 0)])
    np.testing.assert_array_equal(latents(without_second), single[0])
    opposite = conjure.load(tiny_sd, steps=2, lora=[files["kohya"], (files["kohya"], -1.0)])
    assert_close(latents(opposite), latents(plain))
    assert [one["weight"] for one in both.settings()["lora"]] == [1.0, 0.5]


def test_the_default_model_for_which_diffusers_has_no_loader(default_process, tmp_path):
    transformer = default_process.pipeline.transformer
    model = random_lora(transformer)
    process = default_process.set(steps=2)
    peft = conjure.load(steps=2, lora=save_peft(model, tmp_path / "peft"))
    plain = conjure.load(steps=2, lora=(f"{save_plain(model, tmp_path / 'plain.safetensors', 'transformer.')}:2"))
    assert_close(latents(peft), latents(plain))  # without a scale it is 1 instead of 2
    assert abs(latents(peft) - latents(process)).max() > 0.05
    none = conjure.load(steps=2, lora=f"{tmp_path / 'peft'}:0")
    np.testing.assert_array_equal(latents(none), latents(process))


def test_ranks_that_differ_by_layer(default_process, tmp_path):
    """Without a configuration, the scale of each layer is 1."""
    tensors = tensors_of(random_lora(default_process.pipeline.transformer, targets=["to_q"]))
    keys = sorted(tensors)
    layer = keys[0].partition(".lora_")[0]
    halved = {f"{layer}.lora_A.weight": tensors[f"{layer}.lora_A.weight"][:2]}
    halved[f"{layer}.lora_B.weight"] = tensors[f"{layer}.lora_B.weight"][:, :2]
    padded = {key: torch.cat([value, torch.zeros_like(value)], 0 if ".lora_A." in key else 1) for key, value in halved.items()}
    for name, content in (("small", tensors | halved), ("padded", tensors | padded)):
        save_file({f"transformer.{key}": value.contiguous() for key, value in content.items()}, tmp_path / f"{name}.safetensors")
    processes = [conjure.load(steps=2, lora=tmp_path / f"{name}.safetensors") for name in ("small", "padded")]
    assert_close(*map(latents, processes))


@pytest.mark.parametrize("prefix", ["lora_te_text_model_", "text_encoder.text_model."])
def test_loras_of_text_encoders(tiny_sd, plain, tmp_path, prefix):
    model = random_lora(plain.pipeline.text_encoder, targets=["q_proj", "out_proj"])
    write = save_kohya if prefix.startswith("lora_te") else save_plain
    process = conjure.load(tiny_sd, steps=2, lora=write(model, tmp_path / "te.safetensors", prefix))
    assert abs(latents(process) - latents(plain)).max() > 1e-3
    weak = conjure.load(tiny_sd, steps=2, lora=f"{tmp_path / 'te.safetensors'}:0")
    np.testing.assert_array_equal(latents(weak), latents(plain))


@pytest.mark.parametrize("family", ["SDXL", "Flux schnell"])
def test_other_families(tmp_path, family):
    folder = save(family, tmp_path / "model")
    settings: dict[str, Any] = {"steps": 2, **FAMILIES[family].settings}
    plain = conjure.load(folder, **settings)
    part = "unet" if hasattr(plain.pipeline, "unet") else "transformer"
    file = save_plain(random_lora(getattr(plain.pipeline, part)), tmp_path / "lora.safetensors", f"{part}.")
    assert abs(latents(conjure.load(folder, lora=file, **settings)) - latents(plain)).max() > 1e-3


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_dtype_of_the_model_is_kept(tiny_sd, files, tmp_path, quantize):
    save_peft(random_lora(conjure.load().pipeline.transformer), tmp_path / "peft")
    for model, lora, part in ((tiny_sd, files["kohya"], "unet"), ("default", tmp_path / "peft", "transformer")):
        process = conjure.load(model, steps=2, dtype="bfloat16", lora=lora, quantize=quantize)
        parameters = dict(getattr(process.pipeline, part).named_parameters())
        assert {parameter.dtype for name, parameter in parameters.items() if "lora_" in name} == {torch.bfloat16}
        assert np.isfinite(conjure.distance(process, "sun", "moon", samples=1).distance)


# What is refused


def with_tensors(file: Path, target: Path, change: Any, metadata: Any = None) -> Path:
    """Write a copy of a file with other tensors."""
    save_file(change(load_file(file)), target, metadata)
    return target


def rename_all(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("to_q", "to_w").replace("to_v", "to_x"): tensor for key, tensor in tensors.items()}


def rename_one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    layer = sorted(tensors)[0].partition(".lora_")[0].removesuffix(".alpha")
    return {key.replace(layer, layer.replace("attn", "atten")): tensor for key, tensor in tensors.items()}


def cut_inputs(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor[:, :-1].contiguous() if "lora_A" in key else tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize("file_format", ["plain", "kohya", "peft"])
@pytest.mark.parametrize(
    ("change", "which"), [(rename_all, "has none of its layers"), (rename_one, "lacks 1 of its 16 layers|cannot be")]
)
def test_loras_for_another_model_are_refused(tiny_sd, lora, files, tmp_path, file_format, change, which):
    """diffusers would only log a warning, or nothing."""
    source = {
        "plain": lambda: save_plain(lora, tmp_path / "plain.safetensors"),
        "kohya": lambda: files["kohya"],
        "peft": lambda: files["peft"] / "adapter_model.safetensors",
    }[file_format]()
    folder = tmp_path / "changed"
    folder.mkdir()
    if file_format == "peft":
        (folder / "adapter_config.json").write_text((files["peft"] / "adapter_config.json").read_text())
    file = with_tensors(source, folder / "changed.safetensors", change)
    with pytest.raises(InputError, match=rf"^the LoRA '.*changed\.safetensors' [^\n]*({which})[^\n]*$"):
        conjure.load(tiny_sd, lora=file)


def test_a_lora_without_a_known_layer_is_refused(tiny_sd, tmp_path):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    for model in (tiny_sd, "default"):
        with pytest.raises(InputError, match="is for another model: the model .* has none of its layers"):
            conjure.load(model, lora=tmp_path / "other.safetensors")


def test_other_shapes_are_refused(tiny_sd, plain, lora, tmp_path):
    file = save_plain(lora, tmp_path / "lora.safetensors")
    with_tensors(file, file, cut_inputs)
    with pytest.raises(InputError, match=r"cannot be used with the model '.*': [^\n]+$"):
        conjure.load(tiny_sd, lora=file)


def test_files_that_are_no_safetensors_are_refused(tiny_sd, tmp_path):
    (tmp_path / "lora.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(InputError, match=r"the LoRA '.*lora\.safetensors' cannot be read: "):
        conjure.load(tiny_sd, lora=tmp_path / "lora.safetensors")


def test_doras_of_kohya_are_refused(tiny_sd, files, tmp_path):
    """diffusers would leave out their magnitudes."""
    magnitude = {"lora_unet_x.dora_scale": torch.ones(1)}
    file = with_tensors(files["kohya"], tmp_path / "dora.safetensors", lambda tensors: tensors | magnitude)
    with pytest.raises(InputError, match="is a DoRA in the format of kohya"):
        conjure.load(tiny_sd, lora=file)


def test_a_missing_package_is_named(tiny_sd, files, monkeypatch):
    monkeypatch.setattr(lora_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a LoRA needs the package peft; install it with: pip install 'conjure\[adapters\]'"):
        conjure.load(tiny_sd, lora=files["kohya"])


def test_a_loaded_pipeline_has_its_loras(plain, files):
    options: dict[str, Any]
    for options in ({"lora": files["kohya"]}, {"textual_inversion": "x"}, {"quantize": "int8"}, {"offload": "model"}):
        (name,) = options
        with pytest.raises(InputError, match=f"^{name} is given with a loaded pipeline"):
            conjure.load(plain.pipeline, **options)


def test_dropout_of_an_adapter_in_training_mode_is_refused(tiny_sd):
    """Predictions would be random, although the network itself is in evaluation mode."""
    from peft import LoraConfig

    pipeline = conjure.load(tiny_sd).pipeline
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], lora_dropout=0.5, init_lora_weights=False))
    with pytest.raises(InputError, match="'unet' is in training mode"):
        conjure.load(pipeline)
    pipeline.unet.eval()
    conjure.load(pipeline)


# Configurations of untrusted files


HARMFUL = {
    "megatron_config": {"x": 1}, "megatron_core": "harmful_module", "init_lora_weights": "pissa", "layer_replication": [[0, 1]],
    "target_modules": "(a+)+$", "lora_dropout": 0.9, "modules_to_save": ["conv_in"], "bias": "all",
}  # fmt: skip


@pytest.mark.parametrize("file_format", ["diffusers", "peft"])
def test_only_the_scale_of_a_configuration_is_used(tiny_sd, files, expected, tmp_path, monkeypatch, file_format):
    """A configuration of peft can name a module to import, and change the weights of the model."""
    (tmp_path / "harmful_module.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (source,) = files[file_format].glob("*.safetensors")
    folder = tmp_path / "changed"
    folder.mkdir()
    if file_format == "peft":
        config = json.loads((files["peft"] / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | HARMFUL))
        file = with_tensors(source, folder / "changed.safetensors", dict)
    else:
        with safe_open(source, "pt") as opened:
            config = json.loads(opened.metadata()[METADATA])
        config |= {f"unet.{key}": value for key, value in HARMFUL.items()}
        file = with_tensors(source, folder / "changed.safetensors", dict, {METADATA: json.dumps(config)})
    with warnings.catch_warnings(record=True):
        process = conjure.load(tiny_sd, steps=2, lora=file)
    assert_close(latents(process), expected)
    assert not (tmp_path / "marker").exists()
    assert "harmful_module" not in sys.modules


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_alpha", "4"),
        ("lora_alpha", float("nan")),
        ("use_rslora", 1),
        ("alpha_pattern", {"(a+)+$": 4}),
        ("alpha_pattern", [1]),
    ],
)
def test_invalid_configurations_are_refused(tiny_sd, files, tmp_path, key, value):
    config = json.loads((files["peft"] / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {key: value}))
    file = with_tensors(files["peft"] / "adapter_model.safetensors", tmp_path / "adapter_model.safetensors", dict)
    with pytest.raises(InputError, match=f"has the {key} .* in its configuration, which is not valid"):
        conjure.load(tiny_sd, lora=file)


def test_peft_files_need_their_configuration(tiny_sd, files, tmp_path):
    file = with_tensors(files["peft"] / "adapter_model.safetensors", tmp_path / "adapter_model.safetensors", dict)
    with pytest.raises(InputError, match=r"needs its adapter_config\.json beside it"):
        conjure.load(tiny_sd, lora=file)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LOHA"}')
    with pytest.raises(InputError, match="has the peft_type 'LOHA'; must be LORA"):
        conjure.load(tiny_sd, lora=file)

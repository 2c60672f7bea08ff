"""Loading of processes: what can be loaded, and the one-line error for everything else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, PixArtAlphaPipeline, UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file

import conjure
from conjure import InputError
from conjure.models import default_model
from tiny_pipelines import FAMILIES

PRINT_SWITCHES = """
import conjure
conjure.load()
from conjure.io import logging
print([library.get_verbosity() for library in logging.LIBRARIES])
print([library.is_progress_bar_enabled() for library in logging.WITH_PROGRESS_BARS], logging.are_progress_bars_disabled())
"""


@pytest.fixture
def model_folder(tiny_sd, tmp_path) -> Path:
    """A copy of the tiny Stable Diffusion, for changes."""
    return shutil.copytree(tiny_sd, tmp_path / "model")


@pytest.fixture
def without_type_checks(monkeypatch) -> None:
    """Pass arguments of wrong types to the functions, as outside of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def update_index(folder: Path, **changes: Any) -> None:
    """Change entries of `model_index.json`."""
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# The default model


def test_default_model_is_a_stock_pipeline(default_process):
    assert type(default_process.pipeline) is PixArtAlphaPipeline
    images = default_process.run(["red apple"], [0], output_type="np")
    assert images.shape == (1, 64, 64, 3)
    defaults = json.loads((default_model.FOLDER / "conjure.json").read_text())
    assert default_process.settings()["guidance"] == defaults["guidance"]


def test_default_model_is_small_and_has_a_model_card():
    weights = [path for path in default_model.FOLDER.rglob("*") if path.suffix == ".safetensors"]
    assert 0 < sum(path.stat().st_size for path in weights) <= 40e6
    assert not [path for path in default_model.FOLDER.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    card = (default_model.FOLDER / "README.md").read_text()
    for required in ("Apache-2.0", "MIT", "CC BY 4.0", "Noto", "Twemoji", "limits"):
        assert required.lower() in card.lower()


@pytest.fixture
def default_copy(tmp_path) -> Path:
    """A folder in the format of the default model, whose text encoder comes from its package."""
    return shutil.copytree(default_model.FOLDER, tmp_path / "trained")


def test_a_folder_in_the_format_of_the_default_model(default_process, default_copy):
    process = conjure.load(default_copy)
    assert process.settings()["guidance"] == default_process.settings()["guidance"]
    expected = conjure.distance(default_process.set(steps=2), "cat", "dog", samples=1).distance
    assert conjure.distance(process.set(steps=2), "cat", "dog", samples=1).distance == expected


@pytest.mark.parametrize("component", ["vae", "transformer"])
def test_missing_components_of_that_format(default_copy, component):
    shutil.rmtree(default_copy / component)
    with pytest.raises(InputError, match=f"lacks its component '{component}'"):
        conjure.load(default_copy)


@pytest.mark.parametrize(("present", "missing"), [("text_encoder", "tokenizer"), ("tokenizer", "text_encoder")])
def test_encoder_and_tokenizer_come_from_one_place(default_copy, present, missing):
    part = getattr(default_model, present)()
    part.save_pretrained(default_copy / present)
    with pytest.raises(InputError, match=f"lacks its component '{missing}'"):
        conjure.load(default_copy)


def test_another_encoder_does_not_come_from_the_package(default_copy):
    update_index(default_copy, text_encoder=["transformers", "T5EncoderModel"])
    with pytest.raises(InputError, match="lacks its component 'text_encoder'"):
        conjure.load(default_copy)


def test_loading_prints_nothing_and_restores_the_switches_of_the_libraries():
    assert run_python(PRINT_SWITCHES) == "[30, 30, 30]\n[True, True] False\n"


def run_python(code: str, *arguments: str) -> str:
    """Run code in a new interpreter and return its output. It must print nothing to standard error."""
    completed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert completed.stderr == ""
    return completed.stdout


def test_missing_or_changed_text_encoder(monkeypatch):
    default_model.encoder_folder.cache_clear()
    monkeypatch.setattr(default_model, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        conjure.load()
    monkeypatch.setattr(default_model, "ENCODER", ("no-such-package", "1"))
    with pytest.raises(InputError, match="pip install no-such-package==1"):
        conjure.load()


# Options


def test_half_precision_keeps_sums_in_float32(tiny_sd):
    full, half = (conjure.distance(conjure.load(tiny_sd, dtype=dtype), "sun", "moon") for dtype in ("float32", "bfloat16"))
    assert half.distance == pytest.approx(full.distance, rel=0.2)
    assert half.process["dtype"] == "bfloat16"


def test_a_loaded_pipeline_is_accepted(default_process, tiny_sd):
    """It keeps its weights, which may have been changed after loading, such as by fused adapters."""
    process = conjure.load(default_process.pipeline)
    expected, distance = (conjure.distance(p, "sun", "moon", samples=1).distance for p in (default_process, process))
    assert distance == expected
    assert process.fingerprint() == default_process.fingerprint()
    pipeline = conjure.load(tiny_sd).pipeline
    assert conjure.load(pipeline).settings()["guidance"] == 7.5
    assert conjure.load(pipeline, dtype="bfloat16").pipeline.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # inside torch's own compiler
@pytest.mark.parametrize("option", ["channels_last", pytest.param("compile", marks=pytest.mark.slow)])
def test_optimizations_change_no_number(tiny_sd, option):
    if option == "compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    optimizations: list[dict[str, Any]] = [{}, {option: True}]
    processes = [conjure.load(tiny_sd, steps=2, **options) for options in optimizations]
    plain, optimized = (conjure.distance(process, "sun", "moon", samples=2) for process in processes)
    assert optimized.samples == pytest.approx(plain.samples, rel=1e-4)
    assert optimized.fingerprint == plain.fingerprint


def test_compile_compiles_the_repeated_blocks(tiny_sd, monkeypatch):
    calls = []
    monkeypatch.setattr(UNet2DConditionModel, "compile_repeated_blocks", lambda self, **options: calls.append(options))
    conjure.load(tiny_sd)
    assert calls == []
    conjure.load(tiny_sd, compile=True)
    assert calls == [{"dynamic": False}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "unknown dtype"),
        ({"dtype": []}, "unknown dtype"),
        ({"device": "abacus"}, "unknown device 'abacus'; must be cpu, cuda or mps"),
        ({"device": 1.5}, "unknown device 1.5"),
        ({"scheduler": 3}, "the scheduler is 3; must be a name"),
        ({"unit": ""}, "unknown unit ''"),
    ],
)
def test_invalid_options_are_refused(tiny_sd, without_type_checks, options, message):
    with pytest.raises(InputError, match=message):
        conjure.load(tiny_sd, **options)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_unavailable_devices_are_refused_before_loading(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    device_type = device.partition(":")[0].upper()
    with pytest.raises(
        InputError, match=f"the device is '{device}', but PyTorch finds no {device_type} device on this machine; give cpu"
    ):
        conjure.load("/no/such/folder", device=device)


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "neither a folder nor a Hub name"),
        ("nonsense", "must be default, a folder"),
        ("a/b/c", "neither a folder nor a Hub name"),
    ],
)
def test_invalid_names_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        conjure.load(name)


def test_hub_without_a_connection(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match="'nobody/nothing@v1' cannot be downloaded from the Hugging Face Hub.*give a local folder"
    ):
        conjure.load("nobody/nothing@v1")


# Folders that are no pipeline for texts


def test_missing_model_index(tmp_path):
    with pytest.raises(InputError, match="has no model_index.json"):
        conjure.load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"_class_name": "os.system"}', '{"_class_name": 7}', "\xff"])
def test_invalid_model_index(tmp_path, content):
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(InputError):
        conjure.load(tmp_path)


def test_unconditional_pipelines_are_refused(tmp_path):
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="DDPMPipeline.*not a text-to-image, text-to-video or text-to-audio pipeline"):
        conjure.load(tmp_path)


def test_image_to_image_pipelines_are_refused(model_folder):
    update_index(model_folder, _class_name="StableDiffusionImg2ImgPipeline")
    with pytest.raises(InputError, match="not a text-to-image, text-to-video or text-to-audio pipeline"):
        conjure.load(model_folder)


@pytest.mark.parametrize("name", ["WanImageToVideoPipeline", "CogVideoXVideoToVideoPipeline", "LTXConditionPipeline"])
def test_pipelines_of_images_to_videos_are_refused(model_folder, name):
    update_index(model_folder, _class_name=name)
    with pytest.raises(InputError, match=f"{name}.*not a text-to-image, text-to-video or text-to-audio pipeline"):
        conjure.load(model_folder)


@pytest.mark.parametrize(
    ("name", "reason"), [("MusicLDMPipeline", "does not run with transformers 5"), ("LTX2Pipeline", "with two schedulers")]
)
def test_pipelines_that_cannot_be_used_are_refused_with_a_reason(model_folder, name, reason):
    update_index(model_folder, _class_name=name)
    with pytest.raises(InputError, match=f"{name}.*cannot be used: it .*{reason}.*; choose another model"):
        conjure.load(model_folder)


# Code of others is not run


def test_modules_that_a_model_names_are_not_imported(model_folder, tmp_path, monkeypatch):
    (tmp_path / "untrusted_code.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    update_index(model_folder, unet=["untrusted_code", "UNet2DConditionModel"])
    with pytest.raises(
        InputError, match="takes its component 'unet' from 'untrusted_code'; must be one of diffusers, transformers"
    ):
        conjure.load(model_folder)


@pytest.mark.parametrize("declared", [("evil", "Evil"), ("transformers", "AutoModel"), ("diffusers", "AutoModel")])
@pytest.mark.parametrize("component", ["unet", "text_encoder", "tokenizer", "scheduler"])
def test_code_in_a_model_folder_is_not_run(model_folder, monkeypatch, component, declared):
    """Neither code beside the weights nor code in the working directory."""
    monkeypatch.chdir(model_folder)
    monkeypatch.syspath_prepend("")
    for folder in (model_folder, model_folder / component):
        (folder / "evil.py").write_text("open('code_was_run', 'w').close()\nclass Evil: pass\n")
    update_index(model_folder, **{component: declared})
    for name in ("config.json", "tokenizer_config.json", "scheduler_config.json"):
        path = model_folder / component / name
        config = json.loads(path.read_text()) if path.exists() else {}
        auto_map = dict.fromkeys(("AutoModel", "AutoConfig", "AutoTokenizer"), "evil.Evil")
        path.write_text(json.dumps(config | {"auto_map": auto_map, "model_type": "evil"}))
    with pytest.raises(InputError):
        conjure.load(model_folder)
    assert not (model_folder / "code_was_run").exists()


def test_pickled_weights_are_refused(model_folder):
    weights = model_folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(InputError, match="'unet' in a pickled checkpoint.*safe_serialization"):
        conjure.load(model_folder)


@pytest.mark.parametrize("weights", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_pickled_shards_of_a_safetensors_index_are_refused(model_folder, weights):
    path = model_folder / weights
    tensors = load_file(path)
    torch.save(tensors, path.with_name("shard.bin"))
    path.with_name(f"{path.name}.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "shard.bin")})
    )
    path.rename(path.with_name("beside.safetensors"))
    with pytest.raises(InputError, match="names 'shard.bin' in its .*; only safetensors are read"):
        conjure.load(model_folder)


def test_a_pipeline_as_a_component_is_refused(model_folder, tiny_sd):
    """Diffusers would load its components without our checks, pickles included."""
    shutil.rmtree(model_folder / "unet")
    shutil.copytree(tiny_sd, model_folder / "unet")
    update_index(model_folder, unet=["diffusers", "StableDiffusionPipeline"])
    with pytest.raises(InputError, match="has a complete pipeline as its component 'unet'"):
        conjure.load(model_folder)


# Damaged folders


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_invalid_index_of_shards(model_folder, content):
    (model_folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match=r"index\.json that cannot be read"):
        conjure.load(model_folder)


def test_missing_component(model_folder):
    shutil.rmtree(model_folder / "text_encoder")
    with pytest.raises(InputError, match="lacks its component 'text_encoder'"):
        conjure.load(model_folder)


def test_empty_component(model_folder):
    for file in (model_folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="has an empty component 'tokenizer'"):
        conjure.load(model_folder)


@pytest.mark.parametrize("damage", ["truncated weights", "missing weights", "invalid configuration"])
def test_damaged_component(model_folder, damage):
    weights = model_folder / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing weights":
        weights.unlink()
    else:
        (model_folder / "unet" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        conjure.load(model_folder)


# Negative prompts


def test_a_negative_prompt_changes_the_images(tiny_sd):
    plain, process = conjure.load(tiny_sd, steps=2), conjure.load(tiny_sd, steps=2, negative_prompt="rain")
    assert abs(process.run(["sun"], [0]) - plain.run(["sun"], [0])).max() > 1e-3
    assert process.fingerprint() != plain.fingerprint()
    assert process.settings()["pipeline_kwargs"] == {"negative_prompt": "rain"}
    assert conjure.load(tiny_sd, steps=2, negative_prompt="").fingerprint() == plain.fingerprint()
    assert process.run(["sun"], [0]).equal(conjure.load(plain.pipeline, steps=2, negative_prompt="rain").run(["sun"], [0]))


def test_negative_prompts_without_an_effect_are_refused(tiny_sd, without_type_checks):
    cases: list[tuple[dict[str, Any], Any, str]] = [
        ({"guidance": 1.0}, "rain", "ignores a negative prompt with guidance 1; leave it out, or set guidance above 1"),
        ({}, 3, "negative_prompt is 3; must be a text"),
        ({}, "\ud800", "contains a lone surrogate"),
    ]
    for options, negative_prompt, message in cases:
        with pytest.raises(InputError, match=message):
            conjure.load(tiny_sd, negative_prompt=negative_prompt, **options)
    for family, message in (
        ("Flux dev", "ignores a negative prompt with true_cfg_scale 1"),
        ("Flux 2 Klein", "takes no negative prompt"),
    ):
        with pytest.raises(InputError, match=message):
            conjure.load(FAMILIES[family].build(), negative_prompt="rain")

"""A saved process loads as the same process, and a saved pipeline keeps the settings of its model."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError
from conjure.diffusion import loading
from conjure.diffusion.schedulers import plain_config, scheduler_from_config
from lora_files import random_lora, save_kohya, save_peft

PRINT_DISTANCE = """
import json, sys
import conjure
folder, settings = json.loads(sys.argv[1])
process = conjure.load(folder, **settings)
print(json.dumps([conjure.distance(process, "sun", "moon", samples=1).distance, process.fingerprint()]))
"""


def distance(process: conjure.Process) -> float:
    return conjure.distance(process, "sun", "moon", samples=1).distance


def changed(process: conjure.Process) -> conjure.Process:
    """Return a variant of a Stable Diffusion with other values of all settings."""
    return process.set(
        scheduler="euler", steps=3, guidance=2.0, height=64, width=32, default_unit="x0",
        pipeline_kwargs={"guidance_rescale": 0.5}, batch_prompts=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved_pipeline(tmp_path_factory) -> Path:
    """The default model as its pipeline saves it."""
    folder = tmp_path_factory.mktemp("default") / "before"
    conjure.load().pipeline.save_pretrained(folder)
    return folder


def test_saved_pipeline_of_the_default_model_has_its_settings(default_process, saved_pipeline):
    saved = conjure.load(saved_pipeline)
    assert distance(saved) == distance(default_process)
    assert saved.fingerprint() == default_process.fingerprint()


def test_single_settings_can_be_overridden(default_process, saved_pipeline):
    saved = conjure.load(saved_pipeline, guidance=2.0, steps=2)
    assert saved.fingerprint() == default_process.set(guidance=2.0, steps=2).fingerprint()


def test_other_code_that_saves_the_default_model_keeps_its_settings(default_process, saved_pipeline, tmp_path):
    """Such code drops the entry in the configuration."""
    import conjure.sentence_encoder

    pipeline = DiffusionPipeline.from_pretrained(saved_pipeline)
    loaded = conjure.load(pipeline)  # it has other attention processors, which compute the same
    assert loaded.settings() == default_process.settings() | {"model": loaded.model}
    assert distance(loaded) == pytest.approx(distance(default_process), rel=1e-5)
    pipeline.save_pretrained(tmp_path / "again")
    assert "_conjure" not in json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert conjure.load(tmp_path / "again").fingerprint() == default_process.fingerprint()


@pytest.mark.parametrize(
    "change", [lambda process: process, lambda process: process.set(steps=3, guidance=1.5, scheduler="ddim")]
)
def test_saved_default_process(default_process, tmp_path, change):
    process = change(default_process)
    process.save(tmp_path / "saved")
    saved = conjure.load(tmp_path / "saved")
    assert distance(saved) == distance(process)
    assert saved.fingerprint() == process.fingerprint()


def test_all_settings_are_saved(tiny_sd, tmp_path):
    process = changed(conjure.load(tiny_sd))
    process.save(tmp_path / "saved")
    saved = conjure.load(tmp_path / "saved")
    expected, settings = process.settings(), saved.settings()
    assert {**settings, "model": ""} == {**expected, "model": ""}
    assert distance(saved) == distance(process)
    overridden = conjure.load(tmp_path / "saved", guidance=4.0)
    assert overridden.fingerprint() == process.set(guidance=4.0).fingerprint()


def test_infinite_settings_of_a_scheduler_are_saved(tiny_sd, tmp_path):
    """JSON has no infinite numbers, so that run folders and saved processes have texts for them."""
    process = conjure.load(tiny_sd, steps=3, scheduler="dpmsolvermultistep")
    assert process.scheduler.config.lambda_min_clipped == -math.inf
    settings = json.loads(json.dumps(process.settings(), allow_nan=False))
    scheduler = scheduler_from_config(process.pipeline.scheduler, "dpmsolvermultistep", settings["scheduler_config"])
    assert plain_config(scheduler) == plain_config(process.scheduler)
    assert scheduler.config.lambda_min_clipped == -math.inf
    process.save(tmp_path / "saved")
    loaded = conjure.load(tmp_path / "saved")
    assert loaded.scheduler.config.lambda_min_clipped == -math.inf
    assert distance(loaded) == distance(process)
    assert loaded.fingerprint() == process.fingerprint()


def test_dtype_is_saved(tiny_sd, tmp_path):
    process = conjure.load(tiny_sd, dtype="bfloat16")
    process.save(tmp_path / "saved")
    assert conjure.load(tmp_path / "saved").fingerprint() == process.fingerprint()
    assert conjure.load(tmp_path / "saved", dtype="float32").settings()["dtype"] == "float32"


def test_pipeline_of_a_saved_process_keeps_the_settings(tiny_sd, tmp_path):
    process = changed(conjure.load(tiny_sd))
    process.save(tmp_path / "saved")
    conjure.load(tmp_path / "saved").pipeline.save_pretrained(tmp_path / "again")
    assert conjure.load(tmp_path / "again").fingerprint() == process.fingerprint()


@pytest.mark.slow
def test_saved_models_in_a_new_interpreter(default_process, saved_pipeline, tmp_path):
    process = default_process.set(steps=3)
    process.save(tmp_path / "saved")
    for folder, settings, expected in (
        (tmp_path / "saved", {}, process),
        (tmp_path / "saved", {"guidance": 2.0}, process.set(guidance=2.0)),
        (saved_pipeline, {}, default_process),
    ):
        argument = json.dumps([str(folder), settings])
        output = subprocess.run([sys.executable, "-c", PRINT_DISTANCE, argument], capture_output=True, text=True, check=True)
        assert output.stderr == ""
        value, fingerprint = json.loads(output.stdout)
        assert value == pytest.approx(distance(expected), rel=1e-5)
        assert fingerprint == expected.fingerprint()


# Changes of weights while a model is loaded


@pytest.fixture(scope="module")
def adapters(tiny_sd, tmp_path_factory) -> Path:
    """A folder with a LoRA in two formats, and a textual inversion."""
    folder = tmp_path_factory.mktemp("adapters")
    lora = random_lora(conjure.load(tiny_sd).pipeline.unet)
    save_kohya(lora, folder / "style.safetensors")
    save_peft(lora, folder / "peft")
    save_file({"emb_params": torch.ones(32)}, folder / "mytoken.safetensors")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"lora": "style.safetensors:0.5"},
        {"lora": ["peft:0.25", "style.safetensors"], "textual_inversion": "mytoken.safetensors"},
        {"quantize": "int8", "lora": "style.safetensors"},
    ],
    ids=["lora", "several", "quantised"],
)
def test_changed_weights_are_saved(tiny_sd, adapters, tmp_path, monkeypatch, options):
    """The folder contains the files, so the original ones are not needed."""
    shutil.copytree(adapters, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    process = conjure.load(tiny_sd, steps=2, **options)
    before = distance(process)
    process.save(tmp_path / "saved")
    assert distance(process) == before  # it is not changed
    shutil.rmtree(tmp_path / "work")
    monkeypatch.chdir(tmp_path)
    saved = conjure.load("saved")
    assert saved.fingerprint() == process.fingerprint()
    assert distance(saved) == before
    for recorded, expected in zip(saved.settings()["lora"], process.settings()["lora"], strict=True):
        assert {**recorded, "name": ""} == {**expected, "name": ""}
    without = conjure.load("saved", lora=[], textual_inversion=[])
    assert without.settings()["lora"] == without.settings()["textual_inversion"] == []
    other_weight = conjure.load("saved", lora=[("saved/adapters/0", 0.1)])
    assert [lora["weight"] for lora in other_weight.settings()["lora"]] == [0.1]


def test_a_saved_lora_is_saved_again(tiny_sd, adapters, tmp_path):
    process = conjure.load(tiny_sd, steps=2, lora=adapters / "peft")
    process.save(tmp_path / "saved")
    conjure.load(tmp_path / "saved").save(tmp_path / "again")
    assert conjure.load(tmp_path / "again").fingerprint() == process.fingerprint()


def test_offloading_and_negative_prompts(tiny_sd, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "check_offload", lambda *_: None)
    process = conjure.load(tiny_sd, steps=2, device="cpu", offload="sequential", negative_prompt="rain")
    process.save(tmp_path / "saved")
    saved = conjure.load(tmp_path / "saved")
    assert saved.fingerprint() == process.fingerprint()
    assert (saved.pipeline_kwargs, saved.load_options.offload) == ({"negative_prompt": "rain"}, None)


def test_a_changed_file_of_a_lora_is_refused(tiny_sd, adapters, tmp_path):
    shutil.copy(adapters / "style.safetensors", tmp_path)
    process = conjure.load(tiny_sd, steps=2, lora=tmp_path / "style.safetensors")
    process.save(tmp_path / "saved")
    for file in (tmp_path / "style.safetensors", tmp_path / "saved" / "adapters" / "0" / "style.safetensors"):
        save_file({name: -tensor for name, tensor in load_file(file).items()}, file)
    for read in (lambda: process.save(tmp_path / "again"), lambda: conjure.load(tmp_path / "saved")):
        with pytest.raises(InputError, match=r"^the file of the LoRA '.*' has changed: "):
            read()
    assert not (tmp_path / "again").exists()


def test_other_changes_in_memory_are_not_lost(tiny_sd, adapters, tmp_path):
    process = conjure.load(tiny_sd, steps=2, lora=adapters / "style.safetensors")
    next(process.pipeline.unet.parameters()).data += 1
    with pytest.raises(InputError, match="has changes that save_pretrained does not write"):
        process.save(tmp_path / "saved")


# What cannot be saved


def test_changes_that_a_folder_cannot_hold_are_refused(tiny_sd, tmp_path):
    process = conjure.load(tiny_sd)
    process.pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pytest.raises(InputError, match="has changes that save_pretrained does not write"):
        process.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_are_not_changed(tiny_sd, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match="exists; give a new folder"):
        conjure.load(tiny_sd).save(tmp_path / "saved")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        conjure.load(tiny_sd).save(tmp_path / "file" / "saved")


def test_settings_that_are_not_plain_data_are_refused(tiny_sd, tmp_path):
    process = conjure.load(tiny_sd).set(pipeline_kwargs={"callback_on_step_end": print})
    with pytest.raises(InputError, match="cannot be written as JSON"):
        process.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


# conjure.json


def with_settings(tiny_sd: Path, folder: Path, content: Any) -> Path:
    shutil.copytree(tiny_sd, folder)
    (folder / "conjure.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_files_of_earlier_versions_are_read(tiny_sd, tmp_path):
    content = {"guidance": 3.0, "unit": "epsilon", "call": {"guidance_rescale": 0.5}}
    process = conjure.load(with_settings(tiny_sd, tmp_path / "model", content), steps=4)
    assert (process.guidance, process.default_unit, process.steps) == (3.0, "epsilon", 4)
    assert process.pipeline_kwargs == content["call"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": 0}, "^steps in conjure.json of model .* is '0'; must be an integer >= 1$"),
        ({"steps": True}, "must be an integer >= 1"),
        ({"guidance": "high"}, "must be a finite number >= 0"),
        ('{"guidance": NaN}', "must be a finite number >= 0"),
        ({"unit": ["x0"]}, "must be one of output"),
        ({"dtype": {}}, "must be one of float32"),
        ({"call": {"prompt": "x"}}, "must be an object of further arguments"),
        ({"scheduler": "LMSDiscreteScheduler"}, "both scheduler and scheduler_config"),
        ({"scheduler": "DiffusionPipeline", "scheduler_config": {}}, "which is not part of diffusers"),
        ({"scheduler": "DDIMScheduler", "scheduler_config": {"beta_schedule": "no"}}, "scheduler_config that cannot be used"),
        ({"weights": "x"}, "no other keys than guidance, unit, call"),
        ({"lora": [{"file": "adapters/0/../../x.safetensors", "weight": 1, "sha256": "0" * 64}]}, "lora in .* must be a list of"),
        ({"lora": [{"file": "/x.safetensors", "weight": 1, "sha256": "0" * 64}]}, "must be a list of objects with file"),
        ({"lora": [{"file": "adapters/0/x.bin", "weight": 1, "sha256": "0" * 64}]}, "must be a list of objects with file"),
        ({"lora": [{"file": "adapters/0/x.safetensors", "weight": "1", "sha256": "0" * 64}]}, "must be a list of objects"),
        ({"lora": [{"file": "adapters/0/x.safetensors", "weight": 1}]}, "must be a list of objects"),
        ({"lora": [{"file": "adapters/0/x.safetensors", "weight": 1, "sha256": "0" * 64}]}, "is neither a file, a folder"),
        ({"textual_inversion": ["x"]}, "must be a list of objects with file .* and sha256"),
        ({"quantize": "int3"}, "must be null or one of int8-quanto"),
        ([], "must be an object"),
        ("{", "has a conjure.json that cannot be read"),
        ("[" * 100_000, "has a conjure.json that cannot be read"),
    ],
)
def test_invalid_settings_are_refused(tiny_sd, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        conjure.load(with_settings(tiny_sd, tmp_path / "model", content))

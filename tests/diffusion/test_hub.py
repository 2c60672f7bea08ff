"""Downloads: which files, what is reported, and the cause of a failure. The Hub is a stand-in on this machine."""

from __future__ import annotations

import json
import shutil

import pytest
from huggingface_hub import constants

import conjure
import fake_hub
from conjure import InputError
from conjure.baselines.embeddings import transformers_encoder
from conjure.diffusion import hub as hub_module
from conjure.diffusion.fingerprint import pipeline_fingerprint
from lora_files import random_lora, save_peft
from tiny_language_models import save_bert


def test_download_reports_size_and_progress_and_is_cached(hub, lines, tiny_sd, monkeypatch):
    monkeypatch.setattr(hub_module, "REPORT_INTERVAL", 0.0)
    hub.folders["somebody/model"] = tiny_sd
    process = conjure.load("somebody/model@main")
    assert process.settings()["revision"] == fake_hub.COMMIT
    assert pipeline_fingerprint(process.pipeline) == pipeline_fingerprint(conjure.load(tiny_sd).pipeline)
    assert lines[0].startswith("downloading somebody/model@main: 0.")
    assert " MB in " in lines[0]
    assert any(" MB of 0." in line for line in lines[1:-1])
    assert lines[-1].startswith("downloaded somebody/model@main: 0.")
    lines.clear()
    conjure.load("somebody/model@main")
    assert lines == []


def test_cached_model_is_loaded_without_a_connection(hub, lines, tiny_sd, monkeypatch):
    hub.folders["somebody/model"] = tiny_sd
    conjure.load("somebody/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.errors["somebody/model"] = (500, "")
    assert conjure.load("somebody/model").revision == fake_hub.COMMIT


def test_only_needed_files_are_downloaded(hub, lines, tiny_sd, tmp_path):
    folder = shutil.copytree(tiny_sd, tmp_path / "repository")
    shutil.copytree(folder / "unet", folder / "safety_checker")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(weights, folder / "whole-model.safetensors")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    hub.folders["somebody/model"] = folder
    conjure.load("somebody/model")
    unwanted = ("safety_checker", "fp16", "whole-model", ".bin")
    assert not [file for file in hub.requested if any(part in file for part in unwanted)]
    conjure.load("somebody/model", variant="fp16")
    assert any("fp16" in file for file in hub.requested)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", r"accept the licence at http.*/somebody/model .*HF_TOKEN"),
        (404, "RepoNotFound", "no public repository 'somebody/model'.*HF_TOKEN"),
        (404, "RevisionNotFound", "has no revision 'v1'"),
        (500, "", "500.*give a local folder"),
    ],
)
@pytest.mark.parametrize("load", [conjure.load, lambda name: transformers_encoder(name, "mean")])
def test_failures_name_their_cause(hub, load, status, code, message):
    hub.errors["somebody/model"] = (status, code)
    with pytest.raises(InputError, match=message):
        load("somebody/model@v1")


def test_baseline_from_the_hub_runs_no_code(hub, lines, tmp_path):
    folder = save_bert(tmp_path / "repository")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Evil"}}))
    hub.folders["somebody/bert"] = folder
    local = transformers_encoder(str(save_bert(tmp_path / "plain")), "mean")
    remote = transformers_encoder("somebody/bert", "mean")
    pairs = [("sun", "moon")]
    assert remote.distances(pairs) == pytest.approx(local.distances(pairs))
    assert not (tmp_path / "marker").exists()


def test_a_saved_process_comes_with_its_loras(hub, lines, tiny_sd, tmp_path):
    """They are recorded under names that other machines find."""
    lora = save_peft(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path / "lora")
    local = conjure.load(tiny_sd, steps=2, lora=f"{lora}:0.5")
    local.save(tmp_path / "saved")
    hub.folders["somebody/model"] = tmp_path / "saved"
    process = conjure.load("somebody/model")
    assert process.fingerprint() == local.fingerprint()
    (recorded,) = process.load_options.lora
    assert recorded.name == f"somebody/model/adapters/0/adapter_model.safetensors@{fake_hub.COMMIT}"
    again = conjure.load(f"somebody/model@{process.revision}", lora=recorded)
    assert again.fingerprint() == process.fingerprint()

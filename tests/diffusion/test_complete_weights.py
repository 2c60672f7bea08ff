"""Checkpoints with missing, unknown or mismatched tensors are refused by name; nothing is filled with random numbers."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as t
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError
from conjure.baselines.continuations import ContinuationDistance
from conjure.baselines.embeddings import sentence_transformer, transformers_encoder
from conjure.baselines.image_sets import load_feature_extractor
from conjure.diffusion.complete_weights import _is_quantization_state, complete_weights
from tiny_language_models import save_bert, save_gpt2
from tiny_pipelines import FAMILIES

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
DAMAGES = ("missing", "renamed", "reshaped")


def change_tensor(file: Path, damage: str, suffix: str = "weight") -> str:
    """Change a tensor of a file of safetensors, and return its name."""
    tensors = load_file(file)
    name = max(key for key in tensors if key.endswith(suffix) and tensors[key].ndim > 1 and "pooler" not in key)
    tensor = tensors.pop(name)
    if damage == "renamed":
        tensors[f"{name}_of_another_model"] = tensor
    elif damage == "reshaped":
        tensors[name] = tensor[:-1].contiguous()
    save_file(tensors, file, {"format": "pt"})
    return name


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", WEIGHTS)
def test_components_without_all_tensors_are_refused(tiny_sd, tmp_path, part, damage):
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    name = change_tensor(folder / part / f"{WEIGHTS[part]}.safetensors", damage)
    with pytest.raises(InputError, match="model '.*/model'.*") as refusal:
        conjure.load(folder)
    assert name.rpartition(".")[0].rpartition(".")[2] in str(refusal.value)
    assert "meta tensor" not in str(refusal.value)
    if damage == "renamed":
        assert f"{name}_of_another_model" in str(refusal.value)


def test_components_of_modular_pipelines_are_checked(tmp_path):
    from test_modular import save

    folder = save(FAMILIES["Z-Image"].build(), "Z-Image", tmp_path / "model")
    name = change_tensor(folder / "text_encoder" / "model.safetensors", "missing")
    with pytest.raises(InputError, match="its part text_encoder .* lacks tensor") as refusal:
        conjure.load(folder)
    assert name in str(refusal.value)


def load_vision(folder: str) -> object:
    return load_feature_extractor(folder)


def load_sentence(folder: str) -> object:
    return sentence_transformer(folder)


def load_trajectories(folder: str) -> object:
    return ContinuationDistance.load(folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["cls", "mean", "sentence", "trajectories"])
def test_baselines_without_all_tensors_are_refused(tmp_path, kind, damage):
    folder = (save_gpt2 if kind == "trajectories" else save_bert)(tmp_path)
    name = change_tensor(folder / "model.safetensors", damage)
    loaders: dict[str, Callable[[str], object]] = {
        "cls": lambda folder: transformers_encoder(folder, "cls"),
        "mean": lambda folder: transformers_encoder(folder, "mean"),
        "sentence": load_sentence,
        "trajectories": load_trajectories,
    }
    with pytest.raises(InputError, match="model '") as refusal:
        loaders[kind](str(folder))
    assert name.rpartition(".h.")[2] in str(refusal.value)
    assert ("other shapes of" in str(refusal.value)) == (damage == "reshaped")


@pytest.mark.parametrize("limit", ["x", [], 0, -1, math.nan, True])
def test_limits_of_tokenizers_are_checked(tiny_sd, tmp_path, limit):
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    bert = tmp_path / "bert"
    bert.mkdir()
    for path, load in (
        (folder / "tokenizer", lambda: conjure.load(folder)),
        (save_bert(bert), lambda: transformers_encoder(str(bert), "mean")),
    ):
        config = json.loads((path / "tokenizer_config.json").read_text())
        (path / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": limit}))
        with pytest.raises(InputError, match="model_max_length|has no vocabulary|cannot be loaded|cannot be converted"):
            load()


def test_vision_models_without_a_pooler_are_refused(tmp_path):
    """Their features are the output of the pooler, so it must not be random."""
    config = t.ViTConfig(image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    t.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    t.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"lacks tensors pooler\.dense"):
        load_vision(str(tmp_path))


def test_tokenizers_without_a_vocabulary_are_refused(tiny_sd, tmp_path):
    """They would map all words to the unknown token, so that all distances are 0."""
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"^model '.*': its CLIPTokenizer has no vocabulary, .* copy it again with"):
        conjure.load(folder)


@pytest.mark.parametrize("kind", ["mean", "sentence", "trajectories"])
def test_baselines_without_a_vocabulary_are_refused(tmp_path, kind):
    folder = save_gpt2(tmp_path / "gpt2") if kind == "trajectories" else save_bert(tmp_path / "bert")
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    loaders: dict[str, Callable[[str], object]] = {
        "mean": lambda name: transformers_encoder(name, "mean"),
        "sentence": sentence_transformer,
        "trajectories": load_trajectories,
    }
    with pytest.raises(InputError, match="has no vocabulary|cannot be loaded"):
        loaders[kind](str(folder))


def test_heads_and_unused_poolers_are_excused(tmp_path):
    """A BERT for masked words has a head that nothing uses, and no pooler. Its fingerprint does not vary."""
    folder = save_bert(tmp_path)
    torch.manual_seed(0)
    t.BertForMaskedLM(t.BertConfig.from_pretrained(folder)).save_pretrained(folder)
    assert not any("pooler" in name for name in load_file(folder / "model.safetensors"))
    first, second = (transformers_encoder(str(folder), "mean") for _ in range(2))
    assert first.settings() == second.settings()


def test_other_threads_load_as_before(tmp_path):
    folder = save_bert(tmp_path)
    change_tensor(folder / "model.safetensors", "missing")
    errors: list[Exception] = []

    def load() -> None:
        try:
            t.BertModel.from_pretrained(folder)
        except Exception as error:
            errors.append(error)

    with complete_weights("another model"):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert not errors
    t.BertModel.from_pretrained(folder)  # the method is restored


@pytest.mark.parametrize(
    ("key", "is_state"),
    [
        ("0.weight.absmax", True),
        ("0.weight.quant_state.bitsandbytes__nf4", True),
        ("0.weight._data", True),
        ("0.SCB", True),
        ("0.weight_scale", True),
        ("0.input_scale", True),
        ("0.weight_of_another_model", False),
        ("0.adapter.weight", False),
        ("1.weight.absmax", False),
        ("1.SCB", False),
        ("SCB_of_another_model", False),
    ],
)
def test_only_the_state_of_existing_layers_is_part_of_a_quantisation(key, is_state):
    assert _is_quantization_state(key, torch.nn.Sequential(torch.nn.Linear(2, 2))) == is_state


@pytest.mark.parametrize(("suffix", "is_refused"), [("_of_another_model", True), (".absmax", False)])
def test_unknown_tensors_of_quantised_networks_are_refused(tiny_sd, tmp_path, monkeypatch, suffix, is_refused):
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors[f"conv_in.weight{suffix}"] = torch.ones(1)
    save_file(tensors, file, {"format": "pt"})
    monkeypatch.setattr(UNet2DConditionModel, "hf_quantizer", object(), raising=False)
    if not is_refused:
        conjure.load(folder)
        return
    with pytest.raises(InputError, match="its part unet .* has unknown tensor conv_in.weight_of_another_model"):
        conjure.load(folder)

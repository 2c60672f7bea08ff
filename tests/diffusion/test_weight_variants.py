"""The variant of weight files: the only one is loaded, and among several the user chooses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import conjure
from conjure import InputError
from conjure.diffusion.fingerprint import pipeline_fingerprint
from conjure.diffusion.weight_variants import select_weights, variant_of

NETWORKS = ("unet", "vae", "text_encoder")


def rename_weights(folder: Path, *variants: str) -> Path:
    """Give the weights of every network the names of variants."""
    for part in NETWORKS:
        weights = next((folder / part).glob("*.safetensors"))
        for variant in variants:
            shutil.copy(weights, weights.with_suffix(f".{variant}.safetensors"))
        weights.unlink()
    return folder


def test_the_only_variant_is_loaded(tiny_sd, tmp_path):
    folder = rename_weights(shutil.copytree(tiny_sd, tmp_path / "model"), "fp16")
    expected, process = conjure.load(tiny_sd), conjure.load(folder)
    for part in NETWORKS:
        assert pipeline_tensors(process, part) == pipeline_tensors(expected, part)
    assert pipeline_fingerprint(process.pipeline) == pipeline_fingerprint(conjure.load(folder, variant="fp16").pipeline)


def pipeline_tensors(process, part):
    return {name: tensor.tolist() for name, tensor in process.pipeline.components[part].state_dict().items()}


def test_among_several_variants_the_user_chooses(tiny_sd, tmp_path, conjure_command):
    folder = rename_weights(shutil.copytree(tiny_sd, tmp_path / "model"), "fp16", "ema")
    with pytest.raises(InputError, match="no default weights of text_encoder, unet, vae, but the variants ema, fp16"):
        conjure.load(folder)
    with pytest.raises(InputError, match="variant 'fp8'; must be one of ema, fp16"):
        conjure.load(folder, variant="fp8")
    conjure.load(folder, variant="ema")
    code, _, err = conjure_command("compare", "sun", "moon", "--model", folder, "--steps", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert conjure_command("compare", "sun", "moon", "--model", folder, "--steps", 1, "--variant", "fp16")[0] == 0


def test_default_weights_are_loaded_where_a_component_has_no_variant(tiny_sd, tmp_path):
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    conjure.load(folder)
    with pytest.raises(InputError, match="'fp16'; it has only default weights"):
        conjure.load(tiny_sd, variant="fp16")
    with pytest.raises(InputError, match="leave it out"):
        conjure.load(conjure.load(tiny_sd).pipeline, variant="fp16")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.safetensors", ""),
        ("model.fp16.safetensors", "fp16"),
        ("model-00001-of-00002.safetensors", ""),
        ("model.fp16-00001-of-00002.safetensors", "fp16"),
        ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", "fp16"),
        ("model.safetensors.index.json", ""),
        ("model.safetensors.index.fp16.json", "fp16"),
        ("diffusion_pytorch_model.non_ema.safetensors", "non_ema"),
        ("config.json", None),
        ("v1-5-pruned.safetensors", None),
    ],
)
def test_names_of_weight_files(name, variant):
    assert variant_of(name) == variant


def test_needed_files_of_a_component():
    files = ["config.json", "model.safetensors", "model.fp16.safetensors"]
    assert select_weights(files, None) == files[:2]
    assert select_weights(files, "fp16") == [files[0], files[2]]
    assert select_weights(files, "ema") == files[:2]

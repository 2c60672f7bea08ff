"""A single checkpoint is loaded with a configuration that is available offline; otherwise one line says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError

CLIP_PREFIX = "cond_stage_model.transformer."  # of the text encoder in checkpoints of Stable Diffusion


@pytest.fixture
def checkpoint(tiny_sd, tmp_path, monkeypatch) -> Path:
    """All weights of the tiny Stable Diffusion in one file."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    tensors: dict[str, torch.Tensor] = {}
    for part in ("unet", "vae"):
        tensors |= load_file(tiny_sd / part / "diffusion_pytorch_model.safetensors")
    encoder = load_file(tiny_sd / "text_encoder" / "model.safetensors")
    prefix = "" if next(iter(encoder)).startswith("text_model.") else "text_model."
    tensors |= {f"{CLIP_PREFIX}{prefix}{name}": tensor for name, tensor in encoder.items()}
    file = tmp_path / "checkpoint.safetensors"
    save_file(tensors, file)
    return file


def add_configuration(tiny_sd: Path, checkpoint: Path) -> Path:
    return shutil.copytree(tiny_sd, checkpoint.with_suffix(""), ignore=shutil.ignore_patterns("*.safetensors"))


def test_checkpoint_with_its_configuration(tiny_sd, checkpoint):
    add_configuration(tiny_sd, checkpoint)
    expected, process = conjure.load(tiny_sd, steps=2), conjure.load(checkpoint, steps=2)
    distances = [conjure.distance(p, "sun", "moon", samples=1).distance for p in (process, expected)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-5)


def test_checkpoint_without_a_configuration(checkpoint):
    with pytest.raises(InputError, match="single checkpoint without its configuration.*save_pretrained"):
        conjure.load(checkpoint)


@pytest.mark.parametrize("key", ["conv_in.weight", "decoder.conv_in.weight", "token_embedding.weight"])
def test_incomplete_checkpoints_are_refused(tiny_sd, checkpoint, key):
    add_configuration(tiny_sd, checkpoint)
    tensors = load_file(checkpoint)
    name = next(name for name in tensors if name == key or name.endswith(f".{key}"))
    del tensors[name]
    save_file(tensors, checkpoint)
    with pytest.raises(InputError, match="checkpoint"):
        conjure.load(checkpoint)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(InputError, match="only safetensors are read"):
        conjure.load(tmp_path / "model.ckpt")
    (tmp_path / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors' cannot be"):
        conjure.load(tmp_path / "model.safetensors")

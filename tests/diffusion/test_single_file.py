"""A single checkpoint is loaded with a configuration that is available offline; otherwise one line says what is missing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError

# Names of tensors of diffusers, and those of the original format of Stable Diffusion; the tiny model has two levels
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    r"^time_embedding\.linear_1": "time_embed.0", r"^time_embedding\.linear_2": "time_embed.2",
    r"^conv_in": "input_blocks.0.0", r"^conv_norm_out": "out.0", r"^conv_out": "out.2",
    r"^down_blocks\.0\.resnets\.0": "input_blocks.1.0", r"^down_blocks\.0\.downsamplers\.0\.conv": "input_blocks.2.0.op",
    r"^down_blocks\.1\.resnets\.0": "input_blocks.3.0", r"^down_blocks\.1\.attentions\.0": "input_blocks.3.1",
    r"^mid_block\.resnets\.0": "middle_block.0", r"^mid_block\.attentions\.0": "middle_block.1",
    r"^mid_block\.resnets\.1": "middle_block.2",
    r"^up_blocks\.(\d)\.resnets\.(\d)": lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0",
    r"^up_blocks\.0\.attentions\.(\d)": r"output_blocks.\1.1",
    r"^up_blocks\.0\.upsamplers\.0\.conv": "output_blocks.1.2.conv",
    **{rf"(blocks?\.\d+\.\d|middle_block\.\d)\.{name}\.": rf"\1.{original}." for name, original in RESNET.items()},
}  # fmt: skip
VAE = {
    r"coder\.conv_norm_out": "coder.norm_out", r"\.conv_shortcut\.": ".nin_shortcut.",
    r"down_blocks\.(\d)\.resnets\.(\d)": r"down.\1.block.\2", r"down_blocks\.(\d)\.downsamplers\.0": r"down.\1.downsample",
    r"up_blocks\.(\d)\.resnets\.(\d)": lambda m: f"up.{1 - int(m[1])}.block.{m[2]}",
    r"up_blocks\.(\d)\.upsamplers\.0": lambda m: f"up.{1 - int(m[1])}.upsample",
    r"mid_block\.resnets\.(\d)": lambda m: f"mid.block_{int(m[1]) + 1}", r"mid_block\.attentions\.0": "mid.attn_1",
    r"attn_1\.group_norm": "attn_1.norm", r"attn_1\.to_([qkv])": r"attn_1.\1", r"attn_1\.to_out\.0": "attn_1.proj_out",
}  # fmt: skip


def original_names(tensors: dict[str, torch.Tensor], patterns: dict[str, Any], prefix: str) -> dict[str, torch.Tensor]:
    """Return tensors under the names of the original format."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in patterns.items():
            name = re.sub(pattern, replacement, name)
        is_attention_of_vae = "attn_1" in name and "norm" not in name and name.endswith("weight")
        renamed[prefix + name] = tensor[..., None, None] if is_attention_of_vae else tensor
    return renamed


@pytest.fixture
def checkpoint(tiny_sd, tmp_path, monkeypatch) -> Path:
    """All weights of the tiny Stable Diffusion in one file."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    unet, vae = (load_file(tiny_sd / part / "diffusion_pytorch_model.safetensors") for part in ("unet", "vae"))
    encoder = load_file(tiny_sd / "text_encoder" / "model.safetensors")
    encoder = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in encoder.items()}
    tensors = original_names(unet, UNET, "model.diffusion_model.") | original_names(vae, VAE, "first_stage_model.")
    tensors |= original_names(encoder, {}, "cond_stage_model.transformer.")
    file = tmp_path / "checkpoint.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
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


@pytest.mark.parametrize("key", ["out.2.weight", "decoder.conv_in.weight", "token_embedding.weight"])
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


@pytest.mark.parametrize(("parameterization", "prediction_type"), [("v", "v_prediction"), ("eps", "epsilon")])
def test_the_original_configuration_has_the_prediction_type(tiny_sd, checkpoint, parameterization, prediction_type):
    """A fine-tune with another parameterization has the same tensors and usually comes with a .yaml file."""
    add_configuration(tiny_sd, checkpoint)
    yaml = checkpoint.with_suffix(".yaml")
    yaml.write_text(
        f"model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    parameterization: {parameterization}\n"
    )
    process = conjure.load(checkpoint, steps=2)
    assert process.scheduler.config.prediction_type == prediction_type
    assert process.pipeline.scheduler.config.prediction_type == prediction_type


@pytest.mark.parametrize("content", ["model: {params: {linear_start: 0.1}}", "model: {}", "- 1", "", "model: {params: null}"])
def test_original_configurations_without_a_parameterization(tiny_sd, checkpoint, content):
    add_configuration(tiny_sd, checkpoint)
    checkpoint.with_suffix(".yaml").write_text(content)
    assert conjure.load(checkpoint).scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {params: {parameterization: x0}}", "has the parameterization 'x0' in its checkpoint.yaml; must be eps or v"),
        ("model: {params: {parameterization: [v]}}", "has the parameterization .* must be eps or v"),
        ("{", "has a checkpoint.yaml that cannot be read"),
        ("!!python/object/apply:os.system ['touch marker']", "has a checkpoint.yaml that cannot be read"),
        ("[" * 100_000, "has a checkpoint.yaml that cannot be read"),
    ],
)
def test_other_original_configurations_are_refused(tiny_sd, checkpoint, content, message):
    add_configuration(tiny_sd, checkpoint)
    checkpoint.with_suffix(".yaml").write_text(content)
    with pytest.raises(InputError, match=rf"^model '.*checkpoint\.safetensors' [^\n]*{message}[^\n]*$"):
        conjure.load(checkpoint)

"""LoRAs of networks with random weights, in files of the formats of diffusers, kohya and peft."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

RANK, ALPHA = 4, 8.0
TARGETS = ["to_q", "to_v"]


def random_lora(network: torch.nn.Module, seed: int = 0, targets: list[str] = TARGETS) -> Any:
    """Return a copy of a network with a LoRA of peft, whose effect is visible."""
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=targets, lora_dropout=0.5, init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft uses a deprecated name of transformers
        model = get_peft_model(copy.deepcopy(network), config)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.15, generator=generator)
    return model


def tensors_of(model: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a LoRA under names such as `mid_block.to_q.lora_A.weight`."""
    state = get_peft_model_state_dict(model)
    return {name.removeprefix("base_model.model."): tensor.detach().clone() for name, tensor in state.items()}


def save_peft(model: Any, folder: Path) -> Path:
    """Write the folder that peft writes."""
    model.save_pretrained(folder)
    return folder


def save_diffusers(model: Any, folder: Path) -> Path:
    """Write the folder that diffusers writes, with the scale in the header of its file."""
    config = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.5, "target_modules": TARGETS}
    StableDiffusionPipeline.save_lora_weights(folder, tensors_of(model), unet_lora_adapter_metadata=config)
    return folder


def save_kohya(model: Any, file: Path, prefix: str = "lora_unet_") -> Path:
    """Write a file of kohya's training scripts: names with underscores, and the scale in tensors."""
    tensors = {}
    for name, tensor in tensors_of(model).items():
        layer, _, kind = name.removesuffix(".weight").rpartition(".")
        key = prefix + layer.replace(".", "_")
        tensors[f"{key}.{'lora_down' if kind == 'lora_A' else 'lora_up'}.weight"] = tensor
        tensors[f"{key}.alpha"] = torch.tensor(ALPHA)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    return file


def save_plain(model: Any, file: Path, prefix: str = "unet.") -> Path:
    """Write a file with the names of diffusers and without a scale."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({prefix + name: tensor for name, tensor in tensors_of(model).items()}, file)
    return file

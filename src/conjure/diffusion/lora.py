"""LoRAs in a pipeline, from safetensors in the formats of diffusers, kohya and peft.

diffusers reads all formats for pipelines that have its loader; for others, peft inserts the layers. Neither receives anything of
a file but its tensors and the few numbers that scale them: configurations of peft can name modules to import.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.peft_utils import set_weights_and_activate_adapters
from safetensors import safe_open

from conjure.diffusion.adapter_files import PEFT_CONFIG
from conjure.diffusion.compilation import DENOISERS, denoisers
from conjure.diffusion.patching import patched_method
from conjure.errors import InputError
from conjure.io.numbers import is_finite_number
from conjure.io.text import one_line

PEFT_PREFIX = "base_model.model."
DIFFUSERS_METADATA = "lora_adapter_metadata"  # a JSON object in the header of a file that diffusers saved

# The layer of a tensor: `unet.mid_block.to_q` in `unet.mid_block.to_q.lora_A.weight`, or in the older
# `unet.mid_block.processor.to_q_lora.down.weight`
TENSOR = re.compile(r"(?P<path>.+?)\.(?:(?:processor\.)?(?P<old>\w+?)_lora\.|lora\b|lora_|lokr_)")
INPUT_TENSOR = re.compile(r"\.(lora_A|lora_embedding_A|lora\.down|\w+_lora\.down|lora_linear_layer\.down)\.")
LAYER_NAME = re.compile(r"[\w.^$-]{1,500}")  # keys of patterns, which peft reads as regular expressions


def require_peft() -> None:
    """Check that peft is installed.

    Raises:
        InputError: If it is not.
    """
    if find_spec("peft") is None:
        raise InputError("a LoRA needs the package peft; install it with: pip install 'conjure[adapters]'")


def load_loras(pipeline: Any, files: Sequence[tuple[str, Path, float]], model: str) -> None:
    """Load LoRAs into a pipeline, and set their weights.

    Args:
        pipeline: The pipeline, before its weights are offloaded.
        files: Name for messages, file, and weight of each LoRA.
        model: The name of the model, for messages.

    Raises:
        InputError: If a file is not a LoRA, or has layers that the model does not have.
    """
    require_peft()
    adapters = [f"lora_{number}" for number in range(len(files))]
    # peft freezes the weights of the model. torch multiplies matrices in another way then, with another rounding
    original = [(parameter, parameter.requires_grad) for part in _networks(pipeline).values() for parameter in part.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of every second adapter
        for adapter, (name, file, _) in zip(adapters, files, strict=True):
            _load_lora(pipeline, adapter, name, file, model)
        for network in _networks(pipeline).values():
            set_weights_and_activate_adapters(network, adapters, [weight for *_, weight in files])
            network.eval()  # new layers are in training mode, where a dropout would be random
    for parameter, requires_grad in original:
        parameter.requires_grad_(requires_grad)


def _networks(pipeline: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _load_lora(pipeline: Any, adapter: str, name: str, file: Path, model: str) -> None:
    """Load one LoRA, and check that the model has all its layers."""
    tensors, scaling = _read(pipeline, name, file)
    modules = {f"{part}.{path}" for part, network in _networks(pipeline).items() for path, _ in network.named_modules()}
    converted: dict[str, torch.Tensor] = {}
    failure: Exception | None = None
    try:
        if hasattr(pipeline, "load_lora_weights"):
            with _converted_state(pipeline, scaling, converted):
                pipeline.load_lora_weights(dict(tensors), adapter_name=adapter)
        else:
            converted |= tensors
            _insert(pipeline, adapter, tensors, scaling)
    except Exception as error:  # diffusers and peft each raise their own types
        failure = error
    layers = _layers(converted)
    num_adapted = 0 if failure else sum(_count_adapted(network, adapter) for network in _networks(pipeline).values())
    if failure is not None and not layers.isdisjoint(modules):
        raise InputError(f"the LoRA {name!r} cannot be used with the model {model!r}: {one_line(failure)}") from failure
    if num_adapted < len(layers):
        lacks = f"lacks {len(layers) - num_adapted} of its {len(layers)} layers" if num_adapted else "has none of its layers"
        raise InputError(
            f"the LoRA {name!r} is for another model: the model {model!r} {lacks}; give a LoRA that was trained for it"
        ) from failure


def _read(pipeline: Any, name: str, file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a file under names with the component, and the numbers that scale them by component and name."""
    try:
        with safe_open(file, "pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (it cannot be iterated)
            header = opened.metadata() or {}
        scaling = json.loads(header.get(DIFFUSERS_METADATA) or "{}")
        if not isinstance(scaling, dict):
            raise ValueError(f"{DIFFUSERS_METADATA} is no object")
        if all(key.startswith(PEFT_PREFIX) for key in tensors):
            denoiser = next(iter(denoisers(pipeline)), DENOISERS[0])
            tensors = {f"{denoiser}.{key.removeprefix(PEFT_PREFIX)}": tensor for key, tensor in tensors.items()}
            config = json.loads((file.parent / PEFT_CONFIG).read_text())
            if config.get("peft_type") != "LORA":
                raise ValueError(f"{PEFT_CONFIG} has the peft_type {config.get('peft_type')!r}; must be LORA")
            scaling = {f"{denoiser}.{key}": value for key, value in config.items()}
    except FileNotFoundError as error:
        raise InputError(f"the LoRA {name!r} needs its {PEFT_CONFIG} beside it, which has its scale; copy both") from error
    except Exception as error:  # safetensors and json each raise their own types
        raise InputError(f"the LoRA {name!r} cannot be read: {one_line(error)}") from error
    if any("dora_scale" in key for key in tensors):  # diffusers would leave these out
        raise InputError(f"the LoRA {name!r} is a DoRA in the format of kohya, which diffusers cannot read; save it with peft")
    return tensors, {key: value for key, value in scaling.items() if _is_scaling(key.partition(".")[2], value, name)}


def _is_scaling(key: str, value: Any, name: str) -> bool:
    """Return whether an entry of a configuration scales a LoRA. All others are ignored; tensors show the ranks.

    Raises:
        InputError: If its value is not valid.
    """
    rules = {
        "lora_alpha": is_finite_number(value),
        "use_rslora": isinstance(value, bool),
        "use_dora": isinstance(value, bool),
        "lora_bias": isinstance(value, bool),
        "alpha_pattern": isinstance(value, dict) and all(LAYER_NAME.fullmatch(layer) for layer in value)
        and all(is_finite_number(alpha) for alpha in value.values()),
    }  # fmt: skip
    if key in rules and not rules[key] and value is not None:
        raise InputError(f"the LoRA {name!r} has the {key} {str(value)[:80]!r} in its configuration, which is not valid")
    return key in rules and value is not None


def _path(key: str) -> str:
    """Return the path of the layer that a tensor belongs to. Other tensors get a path that no layer has."""
    match = TENSOR.match(key)
    if match is None:
        return f"{key} (not of a LoRA)"
    return f"{match['path']}.{match['old']}" if match["old"] else match["path"]


def _layers(tensors: Mapping[str, Any]) -> set[str]:
    """Return the paths of the layers that have tensors."""
    return {_path(key) for key in tensors}


def _count_adapted(network: torch.nn.Module, adapter: str) -> int:
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    return sum(adapter in layer._get_available_adapters() for layer in layers)


@contextmanager
def _converted_state(pipeline: Any, scaling: Mapping[str, Any], converted: dict[str, torch.Tensor]) -> Iterator[None]:
    """Context manager in which the pipeline's loader reads a LoRA with the configuration that `scaling` is part of.

    The tensors are stored in `converted` under the names of diffusers.
    """
    original = pipeline.lora_state_dict

    def lora_state_dict(*args: Any, **options: Any) -> Any:
        state, *alphas, _ = original(*args, **options)  # the last one is the configuration, None for tensors
        converted.update(state)
        if not scaling or any(alphas):  # without a configuration, diffusers takes the scale of a layer from its own tensors
            return (state, *alphas, None)
        parts = {layer.partition(".")[0] for layer in _layers(state)}
        return (
            state,
            *alphas,
            {f"{part}.{key}": value for part in parts for key, value in _config(part, state, scaling).items()},
        )

    with patched_method(pipeline, "lora_state_dict", lora_state_dict):
        yield


def _config(part: str, tensors: Mapping[str, torch.Tensor], scaling: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of peft's `LoraConfig` for one component: its layers with their ranks, and its part of `scaling`."""
    paths = {
        key: _path(key).removeprefix(f"{part}.").removeprefix("text_model.") for key in tensors if key.startswith(f"{part}.")
    }
    ranks = {path: len(tensors[key]) for key, path in paths.items() if INPUT_TENSOR.search(key)}
    rank = max(ranks.values(), default=1)
    own = {key.removeprefix(f"{part}."): value for key, value in scaling.items() if key.startswith(f"{part}.")}
    config = {"target_modules": sorted(set(paths.values())), "r": rank, "rank_pattern": ranks}
    # without an alpha, the scale is 1: alpha is the rank
    return config | ({} if "lora_alpha" in own else {"lora_alpha": rank, "alpha_pattern": ranks}) | own


def _insert(pipeline: Any, adapter: str, tensors: Mapping[str, torch.Tensor], scaling: Mapping[str, Any]) -> None:
    """Insert a LoRA into the networks of a pipeline for which diffusers has no loader."""
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    for part, network in _networks(pipeline).items():
        state = {key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")}
        if state:
            inject_adapter_in_model(LoraConfig(**_config(part, tensors, scaling)), network, adapter, state_dict=state)
            set_peft_model_state_dict(network, state, adapter)

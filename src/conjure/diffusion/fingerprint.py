"""The fingerprint of a model: a hash of its weights in memory, its configurations and its vocabularies.

The name of the model is not part of it.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from typing import Any

import torch

_cached_fingerprints: weakref.WeakKeyDictionary[Any, tuple[list[tuple[Any, ...]], str]] = weakref.WeakKeyDictionary()

# Keys of the settings in the hashed text. They are part of the format: other keys would change the fingerprint of every process.
HASHED_SETTINGS = {"default_unit": "unit", "pipeline_kwargs": "call"}


def process_fingerprint(settings: Mapping[str, Any], pipeline: Any) -> str:
    """Return the SHA-256 of everything that influences a result of a process.

    Behaviour that is switched on in a module without being part of its weights or configuration, such as FreeU, is not covered.

    Args:
        settings: `Process.settings()`.
        pipeline: The pipeline.
    """
    hashed: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "batch_prompts":
            hashed["alone"] = not value
        else:
            hashed[HASHED_SETTINGS.get(key, key)] = value
    # Results do not depend on the origin of the weights or on the device
    hashed |= {"model": "", "revision": "", "device": ""}
    order = ("model", "revision", "pipeline", "scheduler", "scheduler_config", "steps", "guidance", "height", "width", "unit",
             "alone", "call", "dtype", "device")  # fmt: skip
    text = json.dumps({key: hashed[key] for key in order}, default=str)
    return hashlib.sha256((text + pipeline_fingerprint(pipeline)).encode()).hexdigest()


def pipeline_fingerprint(pipeline: Any) -> str:
    """Return the SHA-256 of a pipeline's weights, configurations and vocabularies.

    It is computed again only when a tensor or a configuration has changed.
    """
    components = sorted(pipeline.components.items())
    tensors = {name: part.state_dict() for name, part in components if isinstance(part, torch.nn.Module)}
    # The version of a tensor counts in-place edits, but not edits through `.data`. The first and the last element reveal most of
    # those.
    state: list[tuple[Any, ...]] = [
        (tensor.data_ptr(), tensor._version, *tensor.reshape(-1)[[0, -1]].tolist())
        for state_dict in tensors.values()
        for tensor in state_dict.values()
        if tensor.numel()
    ]
    # Configurations, which can change while no tensor changes, and are cheap to read
    pipeline_config = {
        name: value for name, value in dict(pipeline.config).items() if not name.startswith("_") and name != "scheduler"
    }
    configs = {
        name: {key: value for key, value in dict(part.config).items() if not key.startswith("_")}
        for name, part in components
        if name not in tensors and name != "scheduler" and hasattr(part, "config")
    }
    adapter_scales = [
        module.scaling
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for module in part.modules()
        if isinstance(getattr(module, "scaling", None), dict)
    ]
    state.append((json.dumps([pipeline_config, configs, adapter_scales], default=str, sort_keys=True),))
    if pipeline in _cached_fingerprints and _cached_fingerprints[pipeline][0] == state:
        return _cached_fingerprints[pipeline][1]
    hasher = hashlib.sha256(str(state[-1]).encode())
    for name, part in components:
        if name in tensors or hasattr(part, "get_vocab"):
            _update_hash(hasher, name, part)
    _cached_fingerprints[pipeline] = (state, hasher.hexdigest())
    return hasher.hexdigest()


def module_fingerprint(**modules: Any) -> str:
    """Return the SHA-256 of networks and tokenizers.

    Args:
        modules: By name, networks (hashed: class, configuration and weights) and tokenizers (hashed: vocabulary and rules).
    """
    hasher = hashlib.sha256()
    for name, module in modules.items():
        _update_hash(hasher, name, module)
    return hasher.hexdigest()


def _update_hash(hasher: Any, name: str, part: Any) -> None:
    if isinstance(part, torch.nn.Module):
        hasher.update(f"{name} {type(part).__name__} {getattr(part, 'config', None)}".encode())
        for key, tensor in part.state_dict().items():
            hasher.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        rules: Any = sorted(part.get_vocab().items())
        if hasattr(part, "backend_tokenizer"):
            serialized = json.loads(part.backend_tokenizer.to_str())
            # Truncation and padding depend on the last call of the tokenizer
            rules = {key: value for key, value in serialized.items() if key not in ("truncation", "padding")}
        settings = [getattr(part, name, None) for name in ("chat_template", "model_max_length", "padding_side")]
        hasher.update(json.dumps([rules, settings]).encode())

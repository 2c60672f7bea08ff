"""What a model is, as a hash: weights as they are in memory, configurations and vocabularies. Names tell nothing."""

from __future__ import annotations

import hashlib
import json
import weakref
from typing import Any

import torch

_digests: weakref.WeakKeyDictionary[Any, tuple[list[tuple], str]] = weakref.WeakKeyDictionary()


def digest(pipeline: Any) -> str:
    """SHA-256 of a pipeline's weights, configurations and vocabularies, computed again only when a tensor has changed."""
    parts = sorted(pipeline.components.items())
    tensors = {name: part.state_dict() for name, part in parts if isinstance(part, torch.nn.Module)}
    # a tensor's version counts edits in place, but for those through `.data`, which its ends are likely to show
    state = [
        (tensor.data_ptr(), tensor._version, *tensor.reshape(-1)[[0, -1]].tolist())
        for part in tensors.values()
        for tensor in part.values()
        if tensor.numel()
    ]
    # what can be changed without a tensor, and is quick to tell
    told = {name: value for name, value in dict(pipeline.config).items() if not name.startswith("_") and name != "scheduler"}
    configs = {
        name: {key: value for key, value in dict(part.config).items() if not key.startswith("_")}
        for name, part in parts
        if name not in tensors and name != "scheduler" and hasattr(part, "config")
    }
    scales = [module.scaling for part in pipeline.components.values() if isinstance(part, torch.nn.Module)
              for module in part.modules() if isinstance(getattr(module, "scaling", None), dict)]  # of adapters  # fmt: skip
    state.append((json.dumps([told, configs, scales], default=str, sort_keys=True),))
    if pipeline in _digests and _digests[pipeline][0] == state:
        return _digests[pipeline][1]
    whole = hashlib.sha256(str(state[-1]).encode())
    for name, part in parts:
        if name in tensors or hasattr(part, "get_vocab"):
            _add(whole, name, part)
    _digests[pipeline] = (state, whole.hexdigest())
    return whole.hexdigest()


def digest_of(**parts: Any) -> str:
    """SHA-256 of networks and tokenizers."""
    whole = hashlib.sha256()
    for name, part in parts.items():
        _add(whole, name, part)
    return whole.hexdigest()


def _add(whole: Any, name: str, part: Any) -> None:
    """Add a network's kind, configuration and weights, or a tokenizer's vocabulary and rules, to the hash `whole`."""
    if isinstance(part, torch.nn.Module):
        whole.update(f"{name} {type(part).__name__} {getattr(part, 'config', None)}".encode())
        for key, tensor in part.state_dict().items():
            whole.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        rules: Any = sorted(part.get_vocab().items())
        if hasattr(part, "backend_tokenizer"):
            told = json.loads(part.backend_tokenizer.to_str())
            rules = {key: value for key, value in told.items() if key not in ("truncation", "padding")}  # left from the last call
        settings = [getattr(part, name, None) for name in ("chat_template", "model_max_length", "padding_side")]
        whole.update(json.dumps([rules, settings]).encode())

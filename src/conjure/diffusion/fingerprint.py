"""The fingerprint of a model: a hash of its weights, configurations, vocabularies and behaviour in memory.

It covers content only. The name of the model, its folder, its device and the libraries that saved it are not part of it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from conjure.diffusion.code_state import Describer
from conjure.diffusion.float32_precision import changed_float32_precisions
from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.module_state import NetworkDescriber, describe_global_hooks, describe_network
from conjure.diffusion.schedulers import replaced_methods
from conjure.diffusion.weights import DiskTensor, num_edits, plain_tensors, read_weights, sum_of_bits, tensor_bytes
from conjure.errors import InputError, UnknownBehaviorWarning
from conjure.io.text import listed
from conjure.user_warnings import warn_user

# Components that do not change a result: texts are compared by latents, and images are neither filtered nor marked
IGNORED_COMPONENTS = ("scheduler", "safety_checker", "feature_extractor", "watermarker", "requires_safety_checker")

# Keys of configurations that say where a model comes from or what saved it; the type and the quantisation are seen in the weights
IGNORED_CONFIG_KEYS = (
    "transformers_version", "architectures", "dtype", "torch_dtype", "quantization_config", "name_or_path", "model_type",
)  # fmt: skip

# The weights and modules show what LoRAs, textual inversions and quantisation changed; results are stored in the model's own unit
SETTINGS_WITHOUT_INFLUENCE = ("model", "revision", "device", "default_unit", *LoadOptions.__dataclass_fields__)

# Settings of a tokenizer outside its rules; pipelines pad with a special token, and pass the inputs that a tokenizer names
TOKENIZER_SETTINGS = (
    "chat_template", "model_max_length", "padding_side", "truncation_side", "special_tokens_map", "pad_token_type_id",
    "model_input_names", "split_special_tokens",
)  # fmt: skip

# Attributes of a pipeline that say where its components are; those with an underscore hold the state of its last call
IGNORED_ATTRIBUTES = ("hf_device_map",)


@dataclass(frozen=True)
class _Cached:
    state: Any
    fingerprint: str
    unknown: tuple[str, ...]


_cached_fingerprints: weakref.WeakKeyDictionary[Any, _Cached] = weakref.WeakKeyDictionary()


def process_fingerprint(settings: Mapping[str, Any], pipeline: Any, scheduler: Any, *, storable: bool = False) -> str:
    """Return the SHA-256 of everything that influences a result of a process.

    Args:
        settings: `Process.settings()`.
        pipeline: The pipeline.
        scheduler: The scheduler of the process.
        storable: Whether results are to be stored under the fingerprint.

    Raises:
        InputError: If results are to be stored, and something changes them that cannot be hashed.

    Warns:
        UnknownBehaviorWarning: See `pipeline_fingerprint`.
    """
    hashed = {key: value for key, value in settings.items() if key not in SETTINGS_WITHOUT_INFLUENCE}
    # A scheduler that was made from another one keeps settings of the other one, which it does not use
    parameters = inspect.signature(type(scheduler).__init__).parameters
    hashed["scheduler_config"] = {key: value for key, value in hashed["scheduler_config"].items() if key in parameters}
    describer = Describer()
    hashed["scheduler_class"] = describer.class_of(type(scheduler), "scheduler, class")
    if replaced := replaced_methods(scheduler):
        hashed["scheduler_methods"] = describer.describe(replaced, "scheduler, replaced method")
    # The setting may name workers. The weights of an offloaded pipeline are on the CPU, but the device that computes counts
    device_type = getattr(pipeline, "_execution_device", pipeline.device).type
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        hashed["autocast"] = str(torch.get_autocast_dtype(device_type))
    if precisions := changed_float32_precisions():
        hashed["float32_precision"] = precisions
    serialized = _serialize(hashed, describer, "settings of the process")
    fingerprint = pipeline_fingerprint(pipeline, storable=storable)
    if storable:
        _check_storable(describer.unknown)
    return hashlib.sha256((serialized + fingerprint).encode()).hexdigest()


def pipeline_fingerprint(pipeline: Any, *, storable: bool = False) -> str:
    """Return the SHA-256 of a pipeline's weights, configurations, vocabularies and behaviour.

    It is computed again only when one of them has changed.

    Args:
        pipeline: The pipeline.
        storable: Whether results are to be stored under the fingerprint.

    Raises:
        InputError: If results are to be stored, and something changes the modules that cannot be hashed.

    Warns:
        UnknownBehaviorWarning: Once per pipeline, if something changes its modules that cannot be hashed.
    """
    cached = _fingerprint(pipeline)
    if storable:
        _check_storable(cached.unknown)
    return cached.fingerprint


def _check_storable(unknown: Sequence[str]) -> None:
    if unknown:
        raise InputError(
            f"results cannot be stored, because the fingerprint does not cover {listed(unknown)}; remove it, or measure without "
            "a store and without an output folder"
        )


def module_fingerprint(**modules: Any) -> str:
    """Return the SHA-256 of networks and tokenizers.

    Args:
        modules: By name, networks (hashed: class, configuration, weights and behaviour) and tokenizers (hashed: vocabulary and
            rules).
    """
    hasher, describer = hashlib.sha256(), NetworkDescriber(_networks(modules))
    for name, module in sorted(modules.items()):
        hasher.update(_serialize([name, _describe_component(module, name, describer)], describer, name).encode())
        if isinstance(module, torch.nn.Module):
            _hash_weights(hasher, read_weights(module))
    return hasher.hexdigest()


def _fingerprint(pipeline: Any) -> _Cached:
    components = {
        name: getattr(part, "_orig_mod", part)  # of torch.compile
        for name, part in sorted(pipeline.components.items())
        if part is not None and name not in IGNORED_COMPONENTS
    }
    describer = NetworkDescriber(_networks(components))
    config = {name: value for name, value in dict(pipeline.config).items() if name not in pipeline.components}
    attributes = {
        name: value
        for name, value in vars(pipeline).items()
        if (callable(value) or not name.startswith("_")) and name not in (*pipeline.components, *IGNORED_ATTRIBUTES)
    }
    description = [
        describer.class_of(type(pipeline), "pipeline, class"),
        _clean_config(config),
        {name: _describe_attribute(value, name, describer) for name, value in sorted(attributes.items())},
        {name: _describe_component(part, name, describer) for name, part in components.items()},
        describe_global_hooks(describer),
    ]
    weights = {name: read_weights(network) for name, network in _networks(components).items()}
    behavior = _serialize(description, describer, "configuration")
    state = [behavior, [_version(tensor) for tensors in weights.values() for tensor in tensors.values()]]
    cached = _cached_fingerprints.get(pipeline)
    if cached is not None and cached.state == state:
        return cached
    hasher = hashlib.sha256(behavior.encode())
    for name, tensors in weights.items():
        hasher.update(name.encode())
        _hash_weights(hasher, tensors)
    unknown = tuple(dict.fromkeys(describer.unknown))
    if unknown and (cached is None or cached.unknown != unknown):
        warn_user(f"the fingerprint does not cover {listed(unknown)}; results cannot be stored", UnknownBehaviorWarning)
    _cached_fingerprints[pipeline] = _Cached(state, hasher.hexdigest(), unknown)
    return _cached_fingerprints[pipeline]


def _describe_attribute(value: Any, name: str, describer: Describer) -> Any:
    """Return the description of an attribute of a pipeline. An image processor is described as a component is."""
    place = f"pipeline, attribute {name}"
    if isinstance(getattr(value, "config", None), Mapping) and not isinstance(value, torch.nn.Module):
        return _describe_component(value, place, describer)
    return describer.describe(value, place)  # of a network, this includes the weights


def _networks(components: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in components.items() if isinstance(part, torch.nn.Module)}


def _describe_component(part: Any, name: str, describer: Describer) -> Any:
    if isinstance(part, torch.nn.Module):
        return [_config_of(part), describe_network(part, name, describer)]
    if hasattr(part, "get_vocab"):
        return [type(part).__name__, _tokenizer_rules(part)]
    return [describer.class_of(type(part), f"{name}, class"), _config_of(part)]


def _config_of(part: Any) -> Any:
    config: Any = getattr(part, "config", None)
    config = config.to_dict() if hasattr(config, "to_dict") else config
    return _clean_config(dict(config)) if isinstance(config, Mapping) else None


def _clean_config(value: Any) -> Any:
    """Return a configuration without origins and versions. Keys that begin with an underscore are such."""
    if isinstance(value, Mapping):
        items = {str(key): item for key, item in value.items()}
        return {
            key: _clean_config(item)
            for key, item in sorted(items.items())
            if not key.startswith("_") and key not in (*IGNORED_CONFIG_KEYS, *IGNORED_COMPONENTS)
        }
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return [_clean_config(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tokenizer_rules(tokenizer: Any) -> Any:
    rules: Any
    if hasattr(tokenizer, "backend_tokenizer"):
        serialized = json.loads(tokenizer.backend_tokenizer.to_str())
        # Truncation and padding depend on the last call of the tokenizer
        rules = {key: value for key, value in serialized.items() if key not in ("truncation", "padding")}
    else:
        rules = sorted(tokenizer.get_vocab().items())
    return [rules, *(getattr(tokenizer, name, None) for name in TOKENIZER_SETTINGS)]


def _version(tensor: torch.Tensor | DiskTensor) -> Any:
    """Return values that change when a tensor changes.

    The number of edits does not count those through `.data`; the sum of the bits reveals those.
    """
    if isinstance(tensor, DiskTensor):
        return tensor.version()
    return [(inner.data_ptr(), num_edits(inner), str(inner.dtype), *sum_of_bits(inner)) for _, inner in plain_tensors(tensor)]


def _hash_weights(hasher: Any, tensors: Mapping[str, torch.Tensor | DiskTensor]) -> None:
    for key, tensor in sorted(tensors.items()):
        for part, inner in plain_tensors(tensor.read() if isinstance(tensor, DiskTensor) else tensor):
            hasher.update(f"{key} {part} {inner.dtype} {tuple(inner.shape)}".encode())
            hasher.update(tensor_bytes(inner))


def _serialize(value: Any, describer: Describer, place: str) -> str:
    """Return JSON of a value. What JSON has no type for, such as a tensor, is described by its content."""
    return json.dumps(value, default=partial(describer.describe, place=place), sort_keys=True)

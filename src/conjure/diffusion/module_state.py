"""The behaviour of the modules of a network, besides their weights: classes, attributes, adapters, processors and hooks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch.nn.modules import module as torch_module
from torch.nn.utils.weight_norm import WeightNorm

from conjure.diffusion.code_inspection import is_known, without_computed
from conjure.diffusion.code_state import Describer
from conjure.diffusion.weights import read_weights

# Attributes that do not change a result
EXCLUDED_ATTRIBUTES = frozenset(vars(torch.nn.Module())) | {
    "config", "_internal_dict", "generation_config", "peft_config", "quantization_config",  # in `fingerprint`
    "name_or_path", "_name_or_path", "base_model_name_or_path", "warnings_issued",  # origin and messages
    "_hf_hook", "_old_forward", "_diffusers_hook", "forward",  # described by `_hooks`
    "_compiled_call_impl", "_is_hf_initialized", "is_hf_initialized", "_hf_peft_config_loaded", "hf_device_map",  # loading
    "hf_quantizer", "is_quantized", "quantization_method", "_is_quantized_training_enabled", "model_tags", "_model_tags",
    "gradient_checkpointing", "_gradient_checkpointing_func", "_require_grads_hook", # training
    "supports_gradient_checkpointing",
    "_caches", "_cache_config", "_use_kernels", "_weight_conversions",
    "_keep_in_fp32_modules", "_no_split_modules", "_tp_plan", "_ep_plan", "_pp_plan", "_dtype_plan",
    "_tp_size", "_keep_in_fp32_modules_strict", "all_tied_weights_keys", "_keys_to_ignore_on_load_unexpected",
    "_tied_weights_keys", "_keys_to_ignore_on_load_missing", "_keys_to_ignore_on_save", "_skip_layerwise_casting_patterns",
    "_output_capturing_hooks_installed", "_can_record_outputs",  # of transformers, set by the first call
    "_hook", "_group_offloading_hook",
}  # fmt: skip

# Hooks that place weights, and so do not change a result
PLACEMENT_HOOKS = frozenset((
    "AlignDevicesHook", "CpuOffload", "UserCpuOffloadHook", "GroupOffloadingHook", "LayerExecutionTrackerHook",
    "LazyPrefetchGroupOffloadingHook",
))  # fmt: skip
OUTPUT_CAPTURING = "transformers.utils.output_capturing"  # hooks that keep hidden states
PLACEMENT_PACKAGES = ("accelerate.", "diffusers.")

FUNCTIONS = dict(vars(torch.nn.functional))  # before other code replaces some, as attention kernels of other packages do

# With these hooks of diffusers a result depends on earlier steps or on the other rows of a batch
CACHE_MODULES = (
    "faster_cache", "first_block_cache", "mag_cache", "pyramid_attention_broadcast", "sea_cache", "taylorseer_cache",
    "text_kv_cache",
)  # fmt: skip


class NetworkDescriber(Describer):
    """Describes networks and the objects that they refer to.

    Args:
        networks: Networks by name. Other modules that an object refers to, such as one in a list, are described with their
            weights.
        max_hashed_bytes: As in `Describer`.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module], max_hashed_bytes: float = math.inf) -> None:
        super().__init__(max_hashed_bytes)
        self._names: dict[int, str] = {}  # by the id of a module
        for name, network in networks.items():
            self._register(network, name)

    def _register(self, network: torch.nn.Module, name: str) -> None:
        for path, module in network.named_modules():
            self._names.setdefault(id(module), f"{name}.{path}")

    def _module(self, module: torch.nn.Module) -> Any:
        if id(module) in self._names:
            return [self._class(type(module)), self._names[id(module)]]
        place = self._place
        self._register(module, f"module {len(self._names)}")
        weights = {name: tensor for name, tensor in read_weights(module).items() if isinstance(tensor, torch.Tensor)}
        description = [describe_network(module, place, self), self._describe(weights)]
        self._place = place
        return description


def describe_network(network: torch.nn.Module, name: str, describer: Describer) -> Any:
    """Return what changes the outputs of a network besides its weights, as plain data.

    Args:
        network: The network.
        name: Its name, for messages.
        describer: Describes objects, and collects what it cannot describe.
    """
    description = []
    for path, module in network.named_modules(remove_duplicate=False):
        place = f"{name}.{path}".rstrip(".")
        # Weights that a hook computes from its parameters before every call
        normalized = {hook.name for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)}
        attributes = {
            key: (describer.describe_added if key == "processor" else describer.describe)(value, f"{place}, attribute {key}")
            for key, value in without_computed(type(module), vars(module)).items()
            if key not in EXCLUDED_ATTRIBUTES and key not in normalized
        }
        hooks = [describer.describe_added(hook, f"{place}, {kind}") for kind, hook in _hooks(module, place, describer)]
        if vars(module).get("forward") is not None or "_old_forward" in vars(module):
            hooks += [describer.describe_added(forward, f"{place}, forward") for forward in _forwards(module)]
        # Code in a class of a known package was added to it
        describe_class = describer.describe_added if is_known(type(module).__module__) else describer.class_of
        description.append([path, describe_class(type(module), f"{place}, class"), attributes, hooks])
    return description


def describe_global_hooks(describer: Describer) -> Any:
    """Return the description of what changes all modules: hooks of torch, and replaced functions of `torch.nn.functional`."""
    hooks = [*torch_module._global_forward_pre_hooks.values(), *torch_module._global_forward_hooks.values()]
    description = [describer.describe_added(hook, "hook of all modules") for hook in hooks]
    for name, function in sorted(vars(torch.nn.functional).items()):
        if (callable(function) and function is not FUNCTIONS.get(name, function)) or _is_foreign(function):
            description.append([name, describer.describe_added(function, f"torch.nn.functional.{name}")])
    return description


def _is_foreign(function: Any) -> bool:
    return isinstance(function, FunctionType) and not is_known(function.__globals__.get("__name__"))


def _hooks(module: torch.nn.Module, place: str, describer: Describer) -> Iterator[tuple[str, Any]]:
    for kind, hooks in (("forward pre-hook", module._forward_pre_hooks), ("forward hook", module._forward_hooks)):
        for hook in hooks.values():
            if getattr(hook, "__globals__", {}).get("__name__") != OUTPUT_CAPTURING:
                yield kind, hook
    pending: list[Any] = [getattr(module, "_hf_hook", None)]
    while pending:
        accelerate_hook = pending.pop(0)
        if hasattr(accelerate_hook, "hooks"):  # a SequentialHook
            pending = [*accelerate_hook.hooks, *pending]
        elif accelerate_hook is not None and not _places_weights(accelerate_hook):
            yield "hook of accelerate", accelerate_hook
    registry: Any = getattr(module, "_diffusers_hook", None)
    for key in registry._hook_order if registry is not None else ():
        hook = registry.hooks[key]
        cls = type(hook)
        if cls.__module__.rpartition(".")[2] in CACHE_MODULES:
            describer.unknown.append(f"{place}, cache of steps: {cls.__name__}")
        if not _places_weights(hook):
            yield "hook of diffusers", [cls, {name: value for name, value in vars(hook).items() if _is_setting(name, value)}]


def _places_weights(hook: Any) -> bool:
    cls = type(hook)
    return cls.__name__ in PLACEMENT_HOOKS and cls.__module__.startswith(PLACEMENT_PACKAGES)


def _is_setting(name: str, value: Any) -> bool:
    return name != "fn_ref" and not type(value).__name__.endswith(("State", "StateManager")) and not callable(value)


def _forwards(module: torch.nn.Module) -> Iterator[Any]:
    """Yield the functions that replace the method `forward` of a module, without the wrappers of known libraries."""
    registry = getattr(module, "_diffusers_hook", None)
    candidates = [vars(module).get("forward"), vars(module).get("_old_forward")]
    if registry is not None:
        candidates += [forward for ref in registry._fn_refs for forward in (ref.forward, ref.original_forward)]
    for forward in candidates:
        forward = getattr(forward, "_torchdynamo_orig_callable", forward)
        function = getattr(forward, "func", forward)  # of a partial
        function = getattr(function, "__func__", function)
        code_of = getattr(function, "__globals__", {}).get("__name__", "")
        is_method = function is getattr(type(module), "forward", None)
        if forward is not None and not is_method and not code_of.startswith(("accelerate.", "diffusers.hooks.", "conjure.")):
            yield forward

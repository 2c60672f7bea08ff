"""Refusal of checkpoints that lack tensors, which libraries would initialise at random, or have tensors that no network uses."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import PreTrainedModel

from conjure.diffusion.tokenizers import check_vocabulary
from conjure.errors import InputError
from conjure.io.text import listed

# Tensors that a checkpoint may have although the loaded network does not: heads for other tasks, the towers for images of models
# of which only the text encoder is used, and buffers that newer versions compute
UNUSED_HEADS = (
    r"^(cls|lm_head|qa_outputs|classifier|pre_classifier|score|predictions|sop_classifier|vocab_(transform|layer_norm|projector)"
    r"|(discriminator|generator)_predictions|generator_lm_head|mlm_head|nsp_head)\."
)
OTHER_TOWERS = r"^(vision_model|visual_projection|text_projection)\.|^logit_(scale|bias)$"
BUFFERS = r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias)$"
POOLER = r"(^|\.)pooler\."  # of encoders whose hidden states are used
# Tensors of a quantised layer, beside its weight: of bitsandbytes, quanto, compressed tensors and other formats
QUANTIZATION_STATE = re.compile(
    r"SCB|weight_format|(weight|input|output|activation)_(scale|scale_inv|zero_point|shape|packed|g_idx)"
)
EXCUSED_UNEXPECTED = re.compile("|".join((UNUSED_HEADS, OTHER_TOWERS, BUFFERS, POOLER)))


@contextlib.contextmanager
def complete_weights(model: str, unused: str | None = None) -> Iterator[None]:
    """Context manager in which this thread loads only networks of diffusers and transformers with all their tensors.

    Libraries load components without reporting what is missing, so the method with which each network is loaded is wrapped. Other
    threads load as before. Tied weights and tensors that the class of a network declares as optional are not missing.

    Args:
        model: The name of the model, for messages.
        unused: Pattern of the names of tensors that may be missing, since nothing uses them.

    Raises:
        InputError: If a network lacks tensors or has others, or tensors of other shapes.
    """
    this_thread = threading.get_ident()
    refusals: list[InputError] = []
    originals = {cls: vars(cls)["from_pretrained"] for cls in (PreTrainedModel, ModelMixin)}

    def wrap(original: Any) -> Any:
        def from_pretrained(cls: Any, folder: Any, *args: Any, **options: Any) -> Any:
            if threading.get_ident() != this_thread or options.get("output_loading_info"):
                return original.__func__(cls, folder, *args, **options)
            if issubclass(cls, PreTrainedModel):
                options["ignore_mismatched_sizes"] = True  # `_check` refuses them, with their names
            network, info = original.__func__(cls, folder, *args, **options, output_loading_info=True)
            part = Path(options.get("subfolder") or str(folder)).name
            if getattr(network, "hf_quantizer", None) is not None:
                unexpected = info.get("unexpected_keys", ())
                info = {**info, "unexpected_keys": [key for key in unexpected if not _is_quantization_state(str(key), network)]}
            try:
                _check(info, model, f"{part} ({cls.__name__})", unused, is_transformers=issubclass(cls, PreTrainedModel))
            except InputError as refusal:
                refusals.append(refusal)
                raise
            for key in info.get("missing_keys", ()):  # random values would change the fingerprint
                torch.nn.init.zeros_(network.get_parameter(key))
            return network

        return classmethod(from_pretrained)

    for cls, original in originals.items():
        cls.from_pretrained = wrap(original)  # type: ignore[method-assign]
    try:
        yield
    except Exception:
        if refusals:  # a library may raise an error of its own instead
            raise refusals[0] from None
        raise
    finally:
        for cls, original in originals.items():
            cls.from_pretrained = original


def _is_quantization_state(key: str, network: torch.nn.Module) -> bool:
    """Return whether a tensor belongs to a quantised weight: `layer.weight.absmax` to `layer.weight`, `layer.SCB` to `layer`."""
    parameters = {name for name, _ in network.named_parameters()}
    parts = key.split(".")
    if any(".".join(parts[:end]) in parameters for end in range(1, len(parts))):
        return True
    layer, _, name = key.rpartition(".")
    return any(layer == path for path, _ in network.named_modules()) and QUANTIZATION_STATE.fullmatch(name) is not None


def _check(info: Mapping[str, Any], model: str, part: str, unused: str | None, is_transformers: bool) -> None:
    missing = {str(key) for key in info.get("missing_keys", ())}
    if unused is not None:
        missing = {key for key in missing if not re.search(unused, key)}
    unexpected = {str(key) for key in info.get("unexpected_keys", ())}
    if is_transformers:
        unexpected = {key for key in unexpected if not EXCUSED_UNEXPECTED.search(key)}
    mismatched = {str(entry[0] if isinstance(entry, tuple | list) else entry) for entry in info.get("mismatched_keys", ())}
    problems = [
        f"{verb} {_names(keys)}"
        for verb, keys in (("lacks", missing), ("has unknown", unexpected), ("has other shapes of", mismatched))
        if keys
    ]
    if problems:
        raise InputError(
            f"model {model!r}: its part {part} {' and '.join(problems)}; predictions would be random: copy or convert it again"
        )


def check_initialized(components: Mapping[str, Any], model: str) -> None:
    """Check that no network has tensors without data, and no tokenizer is without a vocabulary.

    Args:
        components: The components of a pipeline by name. Others than networks and tokenizers are skipped.
        model: The name of the model, for messages.

    Raises:
        InputError: If a network lacks tensors, or a tokenizer its vocabulary.
    """
    for part, component in components.items():
        if isinstance(component, torch.nn.Module):
            tensors = (*component.named_parameters(), *component.named_buffers())
            missing = {key for key, tensor in tensors if tensor.is_meta}
            _check({"missing_keys": missing}, model, f"{part} ({type(component).__name__})", None, is_transformers=False)
        check_vocabulary(component, model)


def _names(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return f"{'tensor' if len(names) == 1 else 'tensors'} {listed(names)}"

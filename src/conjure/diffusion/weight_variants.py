"""Variants of weight files: `model.safetensors` beside `model.fp16.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from conjure.errors import InputError

WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>(?!safetensors)[\w-]+?))?(?:-\d+-of-\d+)?"
    r"\.safetensors(?:\.index(?:\.(?P<index_variant>[\w-]+))?\.json)?"
)


def variant_of(file_name: str) -> str | None:
    """Return the variant of a file of weights, empty for the default weights; None for other files."""
    match = WEIGHTS.fullmatch(file_name)
    return None if match is None else match["variant"] or match["index_variant"] or ""


def choose_variant(components: Mapping[str, Iterable[str]], requested: str | None, model: str) -> str | None:
    """Return the variant to load, or None for the default weights.

    Args:
        components: The names of the files of each component.
        requested: The variant that the user asks for, or None.
        model: The name of the model, for messages.

    Raises:
        InputError: If no component has the requested variant, or if a component without default weights has several variants.
    """
    variants = {part: {variant_of(name) for name in names} - {None} for part, names in components.items()}
    available = sorted({variant for found in variants.values() for variant in found if variant})
    if requested is not None:
        if requested not in available:
            choices = f"must be one of {', '.join(available)}" if available else "it has only default weights; leave variant out"
            raise InputError(f"model {model!r} has no weights of the variant {requested!r}; {choices}")
        return requested
    without_default = {part: found for part, found in variants.items() if found and "" not in found}
    if not without_default:
        return None
    common = sorted(str(variant) for variant in set.intersection(*without_default.values()))
    if len(common) != 1:
        raise InputError(
            f"model {model!r} has no default weights of {', '.join(sorted(without_default))}, but the variants "
            f"{', '.join(available)}; choose one: variant={available[0]!r}, or --variant {available[0]}"
        )
    return common[0]


def select_weights(names: Iterable[str], variant: str | None) -> list[str]:
    """Return the files of one component that are needed: all other files, and the weights of one variant.

    Args:
        names: The names of the files of the component.
        variant: The variant; the default weights are used where a component does not have it. None for the default weights.
    """
    by_variant: dict[str | None, list[str]] = {}
    for name in names:
        by_variant.setdefault(variant_of(name), []).append(name)
    weights = by_variant.get(variant or "") or by_variant.get("", [])
    return by_variant.get(None, []) + weights

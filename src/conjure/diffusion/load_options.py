"""The options of loading that concern weights: variant, LoRA, textual inversion, quantisation and offloading.

This module only parses and records these options. `modifications.py` and `placement.py` apply them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from conjure.errors import InputError
from conjure.io.formatting import pluralize
from conjure.io.numbers import is_finite_number

LORA_FORMAT = "FILE_OR_NAME[:WEIGHT]"


@dataclass(frozen=True)
class Lora:
    """A LoRA and its weight.

    Attributes:
        name: A file, a folder, or a name on the Hub; see `adapter_files.find_file`.
        weight: The factor of its effect: 0 is no effect, 1 the effect that it was trained with.
        sha256: The SHA-256 that its file must have; None for any.
    """

    name: str
    weight: float = 1.0
    sha256: str | None = None


@dataclass(frozen=True)
class TextualInversion:
    """A learned embedding of a new token.

    Attributes:
        name: As in `Lora`.
        token: The token that stands for it in texts; None until it is loaded.
        sha256: As in `Lora`.
    """

    name: str
    token: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class LoadOptions:
    """How a model was loaded.

    Attributes:
        variant: The variant of the weight files that was asked for.
        lora: The LoRAs, in order.
        textual_inversion: The learned embeddings, in order.
        quantize: The type of the denoiser's weights and the library that quantised them, such as `int8-quanto`.
        offload: Where weights are kept on the CPU while they are not needed: `model`, `sequential` or `group`.
    """

    variant: str | None = None
    lora: tuple[Lora, ...] = ()
    textual_inversion: tuple[TextualInversion, ...] = ()
    quantize: str | None = None
    offload: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return the options as plain data for JSON."""
        return asdict(self) | {"lora": [asdict(lora) for lora in self.lora],
                               "textual_inversion": [asdict(inversion) for inversion in self.textual_inversion]}  # fmt: skip

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of `conjure.load`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LoadOptions:
        """Return the options that `settings` recorded. Settings of earlier versions have none.

        Args:
            settings: What `settings` returned, among others.

        Raises:
            InputError: If an entry has another form.
        """
        try:
            return cls(
                settings.get("variant"),
                tuple(Lora(**lora) for lora in settings.get("lora", ())),
                tuple(TextualInversion(**inversion) for inversion in settings.get("textual_inversion", ())),
                settings.get("quantize"),
                settings.get("offload"),
            )
        except TypeError as error:
            raise InputError(f"the settings of the process are invalid: {error}") from error

    def with_absolute_paths(self) -> LoadOptions:
        """Return the options with absolute paths, which are valid in other folders."""

        def absolute(adapter: Any) -> Any:
            return replace(adapter, name=str(Path(adapter.name).resolve())) if os.path.exists(adapter.name) else adapter

        return replace(self, lora=tuple(map(absolute, self.lora)), textual_inversion=tuple(map(absolute, self.textual_inversion)))


def describe_changes(settings: Mapping[str, Any]) -> list[str]:
    """Return in words what changes the defaults of a model, beside steps, guidance and scheduler.

    These are the size and the length of what it generates, LoRAs, textual inversions, quantisation and the negative prompt.

    Args:
        settings: `Process.settings()`, also of earlier versions, or the settings of a baseline.
    """
    changes = _describe_size(settings)
    changes += [f"LoRA {lora['name']} x {lora['weight']:g}" for lora in settings.get("lora", ())]
    changes += [f"textual inversion {inversion['name']}" for inversion in settings.get("textual_inversion", ())]
    if settings.get("quantize"):
        changes.append(settings["quantize"])
    if negative_prompt := settings.get("pipeline_kwargs", {}).get("negative_prompt"):
        changes.append(f"negative prompt {negative_prompt!r}")
    return changes


def _describe_size(settings: Mapping[str, Any]) -> list[str]:
    """Return in words the size and the length of what a process generates, without those that are the default of the pipeline."""
    height, width, frames, fps, seconds = map(settings.get, ("height", "width", "frames", "fps", "seconds"))
    size = []
    if height is not None:
        size.append(f"{height} x {width} pixels" if height == width else f"height {height} and width {width} pixels")
    if frames is not None:
        size.append(pluralize(frames, "frame"))
    if fps is not None:
        size.append(f"{fps:g} frames per second")
    if seconds is not None:
        size.append(f"{seconds:g} seconds")
    return size


def summarize_settings(settings: Mapping[str, Any]) -> str:
    """Return the settings of a process in a few words.

    Args:
        settings: What `Process.settings` returns.
    """
    guidance = "" if settings["guidance"] is None else f", guidance {settings['guidance']:g}"
    changes = "".join(f", {change}" for change in describe_changes(settings))
    return f"model {settings['model']}, {settings['scheduler']}, {pluralize(settings['steps'], 'step')}{guidance}{changes}"


def parse_loras(loras: Any) -> tuple[Lora, ...]:
    """Return the LoRAs that a user gives.

    Args:
        loras: One or a sequence of: a `Lora`, a path, a text FILE_OR_NAME[:WEIGHT], or a pair of name and weight.

    Raises:
        InputError: If one has another form, or a weight is not a finite number.
    """
    return tuple(_parse_lora(lora) for lora in _listed(loras))


def parse_inversions(inversions: Any) -> tuple[TextualInversion, ...]:
    """Return the textual inversions that a user gives.

    Args:
        inversions: One or a sequence of: a `TextualInversion`, or a path or name.

    Raises:
        InputError: If one has another form.
    """
    parsed = []
    for inversion in _listed(inversions):
        if isinstance(inversion, (str, os.PathLike)):
            inversion = TextualInversion(os.fspath(inversion))
        if not isinstance(inversion, TextualInversion) or not inversion.name:
            raise InputError(f"textual_inversion is {inversion!r}; must be a .safetensors file, or a folder or Hub name with one")
        parsed.append(inversion)
    return tuple(parsed)


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else (values,)


def _parse_lora(lora: Any) -> Lora:
    if isinstance(lora, str):
        lora = _split_weight(lora)
    elif isinstance(lora, os.PathLike):
        lora = Lora(os.fspath(lora))
    elif isinstance(lora, (tuple, list)) and len(lora) == 2 and isinstance(lora[0], (str, os.PathLike)):
        lora = Lora(os.fspath(lora[0]), lora[1])
    if not isinstance(lora, Lora) or not lora.name:
        raise InputError(f"lora is {lora!r}; must be {LORA_FORMAT} or a pair of name and weight")
    if not is_finite_number(lora.weight):
        raise InputError(f"the weight of the LoRA {lora.name!r} is {lora.weight!r}; must be a finite number")
    return replace(lora, weight=float(lora.weight))


def _split_weight(text: str) -> Lora:
    """Split `FILE_OR_NAME[:WEIGHT]` at its last colon if a number follows it: names and Windows paths can have colons too."""
    name, colon, weight = text.rpartition(":")
    if not colon or os.path.exists(text):
        return Lora(text)
    try:
        return Lora(name, float(weight))
    except ValueError:
        if os.path.exists(name):
            raise InputError(f"the weight of the LoRA {name!r} is {weight!r}; must be a finite number") from None
        return Lora(text)

"""The changes of a loaded pipeline that its options ask for: quantisation, then textual inversions and LoRAs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conjure.diffusion.adapter_files import find_file
from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.lora import load_loras, require_peft
from conjure.diffusion.quantization import choose_quantization, quantize_denoiser
from conjure.diffusion.textual_inversion import load_textual_inversion
from conjure.io.logging import silenced


@dataclass(frozen=True)
class Modifications:
    """Changes whose files and packages are there.

    Attributes:
        options: The options, with the commit and the hash of each file, and the library that quantises.
        lora_files: The file of each LoRA.
        inversion_files: The file of each textual inversion.
    """

    options: LoadOptions
    lora_files: tuple[Path, ...]
    inversion_files: tuple[Path, ...]


def find_modifications(options: LoadOptions) -> Modifications:
    """Find the files and packages that options need. No model is needed.

    Args:
        options: The options.

    Raises:
        InputError: If one is missing, or a file has another hash than the options say.
    """
    quantize = None if options.quantize is None else choose_quantization(options.quantize)
    if options.lora:
        require_peft()
    with silenced():
        loras = [(lora, find_file(lora.name, "LoRA", lora.sha256)) for lora in options.lora]
        inversions = [
            (inversion, find_file(inversion.name, "textual inversion", inversion.sha256))
            for inversion in options.textual_inversion
        ]
    found = replace(
        options,
        lora=tuple(replace(lora, name=file.name, sha256=file.sha256) for lora, file in loras),
        textual_inversion=tuple(replace(inversion, name=file.name, sha256=file.sha256) for inversion, file in inversions),
        quantize=quantize,
    )
    return Modifications(found, tuple(file.path for _, file in loras), tuple(file.path for _, file in inversions))


def modify(pipeline: Any, modifications: Modifications, model: str) -> LoadOptions:
    """Change a pipeline, and return the options with the tokens of the textual inversions.

    Args:
        pipeline: A pipeline on the CPU.
        modifications: The changes.
        model: The name of the model, for messages.

    Raises:
        InputError: If a change does not fit the model.
    """
    options = modifications.options
    with silenced():
        if options.quantize is not None:
            quantize_denoiser(pipeline, options.quantize, model)
        inversions = tuple(
            replace(inversion, token=load_textual_inversion(pipeline, file, inversion.name, model))
            for inversion, file in zip(options.textual_inversion, modifications.inversion_files, strict=True)
        )
        if options.lora:
            named = zip(options.lora, modifications.lora_files, strict=True)
            load_loras(pipeline, [(lora.name, file, lora.weight) for lora, file in named], model)
    return replace(options, textual_inversion=inversions)

"""Where the weights of a process come from: the default model, a folder, a single checkpoint, or the Hugging Face Hub."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

from conjure.diffusion.hub import download_pipeline
from conjure.diffusion.load_options import Lora, TextualInversion
from conjure.diffusion.model_folder import read_index
from conjure.diffusion.model_settings import ADAPTER_SETTINGS, CONFIG_KEY, read_settings, settings_of_pipeline
from conjure.diffusion.pipeline_files import load_pipeline, torch_dtype
from conjure.diffusion.single_file import load_single_file
from conjure.errors import InputError
from conjure.io.logging import silenced
from conjure.models import default_model


@dataclass(frozen=True)
class Source:
    """A loaded model, as its files hold it.

    Attributes:
        pipeline: The pipeline, on the CPU.
        settings: The stored settings, with the keys of `model_settings.SETTINGS`. Empty if the model has none.
        revision: The commit of the model on the Hub, else None.
        lora: The stored LoRAs.
        textual_inversion: The stored textual inversions.
    """

    pipeline: Any
    settings: dict[str, Any]
    revision: str | None = None
    lora: tuple[Lora, ...] = ()
    textual_inversion: tuple[TextualInversion, ...] = ()


def load_source(name: str, dtype: torch.dtype | None, variant: str | None) -> Source:
    """Load the pipeline of a model, without changes of its weights.

    Args:
        name: `default`, a folder, a file, or `owner/name[@revision]`.
        dtype: The type of the weights; None for the stored one, or float32.
        variant: The variant of the weights, or None.

    Raises:
        InputError: If the model cannot be loaded.
    """
    if os.path.isfile(name):
        with silenced():
            return Source(load_single_file(Path(name), name, dtype or torch.float32), {})
    with silenced():
        folder, revision = _resolve(name, variant)
        read_index(folder, name)  # refuses other folders
        settings = read_settings(folder, name)
        weights_dtype = dtype or torch_dtype(settings.get("dtype", "float32"))
        pipeline = load_pipeline(folder, name, weights_dtype, variant)
    settings = settings or settings_of_pipeline(pipeline)
    if kept := {key: value for key, value in settings.items() if key not in ADAPTER_SETTINGS}:
        pipeline.register_to_config(**{CONFIG_KEY: kept})  # save_pretrained of the pipeline keeps them

    def name_of(adapter: dict[str, Any]) -> str:
        """Return the name under which every machine that has the model finds a file of it."""
        file = adapter["file"]
        return str(folder / file) if revision is None else f"{name.partition('@')[0]}/{file}@{revision}"

    loras, inversions = settings.get("lora", ()), settings.get("textual_inversion", ())
    return Source(
        pipeline,
        settings,
        revision,
        tuple(Lora(name_of(lora), lora["weight"], lora["sha256"]) for lora in loras),
        tuple(TextualInversion(name_of(inversion), None, inversion["sha256"]) for inversion in inversions),
    )


def pinned_name(model: str, revision: str | None) -> str:
    """Return the name of a model with its commit on the Hub, if it has one."""
    return model if revision is None else f"{model.partition('@')[0]}@{revision}"


def _resolve(name: str, variant: str | None) -> tuple[Path, str | None]:
    """Return the folder of the model `name`, and its revision if it comes from the Hub."""
    if name == "default":
        return default_model.FOLDER, None
    if os.path.isdir(name):  # not pathlib's, which raises for a name that is too long
        return Path(name), None
    repository = name.partition("@")[0]
    owner_and_name = repository.split("/")
    if name.startswith((".", "/", "~")) or len(owner_and_name) != 2 or not all(owner_and_name) or os.path.exists(name):
        raise InputError(
            f"{_missing_folder(name)}model {name!r} is neither a folder nor a Hub name; must be default, a folder with a "
            "model_index.json, a .safetensors file, owner/name or owner/name@revision"
        )
    try:
        return download_pipeline(name, variant)
    except InputError as error:
        # Not if the Hub has such a repository, which this account cannot read or which lacks the revision
        if isinstance(error.__cause__, GatedRepoError | RevisionNotFoundError | None):
            raise
        raise InputError(f"{_missing_folder(name)}{error}") from error.__cause__


def _missing_folder(name: str) -> str:
    """Return the beginning of a message: that no folder has this name, and which similar ones there are."""
    if os.path.exists(name):
        return ""
    path = Path(name)
    try:
        others = [entry.name for entry in path.parent.iterdir() if entry.is_dir() or entry.suffix == ".safetensors"]
    except (OSError, ValueError):
        others = []
    similar = difflib.get_close_matches(path.name, others, n=1)
    hint = f" (did you mean {str(path.with_name(similar[0]))!r}?)" if similar else ""
    return f"there is no folder {name!r}{hint}; "

"""The files of LoRAs and textual inversions: a local file, a folder, or a repository on the Hub. Only safetensors are read."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from conjure.diffusion.hub import download
from conjure.diffusion.readable_files import UNSAFE_EXTENSIONS
from conjure.errors import InputError

PEFT_CONFIG = "adapter_config.json"
# The names under which diffusers and peft save; a folder that has one of these may have other files too
USUAL_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "learned_embeds.safetensors")
MAY_BE_PICKLE = "which may be a pickle that can run code; only safetensors are read"
HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+\.safetensors))?(?:@(?P<revision>.+))?")


@dataclass(frozen=True)
class FoundFile:
    """A file of an adapter.

    Attributes:
        path: Where it is on this machine.
        name: The name under which other machines find it: as given, with the commit if it is on the Hub.
        sha256: The SHA-256 of its content.
    """

    path: Path
    name: str
    sha256: str


def find_file(name: str, kind: str, sha256: str | None = None) -> FoundFile:
    """Find the file of an adapter. From the Hub, it is downloaded unless it is in the cache.

    Args:
        name: A `.safetensors` file; a folder with one; or `owner/name[/file.safetensors][@revision]` on the Hub.
        kind: What it is, for messages: `LoRA` or `textual inversion`.
        sha256: The SHA-256 that it must have; None for any.

    Raises:
        InputError: If there is no such file, it is a pickle, or its content is another one.
    """
    if os.path.isfile(name):
        path, found_name = Path(name), name
    elif os.path.isdir(name):
        files = [file.name for file in Path(name).iterdir() if file.is_file()]
        path, found_name = Path(name) / _choose(files, name, kind), name
    else:
        path, found_name = _download(name, kind)
    if path.suffix != ".safetensors":
        raise InputError(f"the {kind} {name!r} is no .safetensors file, {MAY_BE_PICKLE}; convert it")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"the {kind} {name!r} cannot be read: {error.strerror or error}") from error
    if sha256 is not None and digest != sha256:
        raise InputError(
            f"the file of the {kind} {name!r} has changed: its SHA-256 is {digest[:12]}... instead of {sha256[:12]}...; put the "
            "original file there"
        )
    return FoundFile(path, found_name, digest)


def _choose(files: list[str], name: str, kind: str) -> str:
    """Return which of the files of a folder is the adapter."""
    candidates = sorted(file for file in files if file.endswith(".safetensors"))
    usual = [file for file in USUAL_NAMES if file in candidates]
    if len(candidates) == 1 or len(usual) == 1:
        return (usual or candidates)[0]
    if candidates:
        listed = ", ".join(candidates[:5]) + (", ..." if len(candidates) > 5 else "")
        raise InputError(f"the {kind} {name!r} has several .safetensors files ({listed}); give one: {name}/{candidates[0]}")
    pickled = [file for file in files if file.endswith(UNSAFE_EXTENSIONS)]
    reason = f"has only {pickled[0]!r}, {MAY_BE_PICKLE}" if pickled else "has no .safetensors file"
    raise InputError(f"the {kind} {name!r} {reason}; give a folder with a .safetensors file")


def _download(name: str, kind: str) -> tuple[Path, str]:
    """Return the path of an adapter of the Hub, and its name with its commit."""
    match = HUB_NAME.fullmatch(name)
    if match is None or name.startswith(".") or (match["file"] is None and name.endswith((".safetensors", *UNSAFE_EXTENSIONS))):
        raise InputError(
            f"the {kind} {name!r} is neither a file, a folder nor a Hub name; must be a .safetensors file, a folder with "
            "one, or owner/name[/file.safetensors][@revision]"
        )
    repository, revision = match["repository"], match["revision"]
    chosen: list[str] = []

    def select(files: list[str], _: object) -> list[str]:
        root = [file for file in files if "/" not in file]
        file = match["file"] or _choose(root, repository, kind)
        if file not in files:
            raise InputError(f"the {kind} {name!r} has no file {file!r}; it has {', '.join(files[:5])}")
        chosen[:] = [file]
        config = str(PurePosixPath(file).with_name(PEFT_CONFIG))
        return [file, config] if config in files else [file]

    folder, commit = download(f"{repository}@{revision}" if revision else repository, select)
    return folder / chosen[0], f"{repository}/{chosen[0]}@{commit}"

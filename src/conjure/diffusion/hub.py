"""Downloads from the Hugging Face Hub: only the files that are needed, with their size, progress, and the cause of a failure."""

from __future__ import annotations

import glob
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import tqdm

from conjure.diffusion.readable_files import OTHER_BACKENDS, READABLE
from conjure.diffusion.weight_variants import choose_variant, select_weights, variant_of
from conjure.errors import InputError
from conjure.io.formatting import pluralize
from conjure.io.logging import report
from conjure.io.text import one_line

REPORT_INTERVAL = 120.0  # seconds between two lines about the progress of a download
INDEX_FILES = ("model_index.json", "modular_model_index.json")
UNUSED_COMPONENTS = ("safety_checker", "watermarker")


def download_pipeline(name: str, variant: str | None = None) -> tuple[Path, str]:
    """Download a pipeline, or find it in the cache.

    Args:
        name: The name of the repository, with an optional `@revision`.
        variant: The variant of the weights, or None.

    Returns:
        The folder and its commit.

    Raises:
        InputError: If the repository cannot be read, or does not have the variant.
    """
    return download(name, lambda files, read: _pipeline_files(name, files, read, variant))


def download_model(name: str) -> tuple[Path, str]:
    """Download a model of transformers or sentence-transformers, or find it in the cache.

    Args:
        name: The name of the repository, with an optional `@revision`.

    Returns:
        The folder and its commit.

    Raises:
        InputError: If the repository cannot be read.
    """
    return download(name, lambda files, _: _model_files(name, files))


def _pipeline_files(name: str, files: Iterable[str], read: Callable[[str], Path], variant: str | None) -> list[str]:
    """Return the files of the components that the index of a pipeline declares."""
    folders = _by_folder(files)
    index_file = next((file for file in INDEX_FILES if file in folders.get("", ())), None)
    if index_file is None:
        raise InputError(f"model {name!r} has no model_index.json; give a complete pipeline of diffusers")
    try:
        index = json.loads(read(index_file).read_text())
    except (ValueError, RecursionError):
        return [index_file]  # refused when it is loaded
    is_used = {part: isinstance(value, list) and part not in UNUSED_COMPONENTS for part, value in dict(index).items()}
    components = {part: names for part, names in folders.items() if is_used.get(part)}
    chosen = choose_variant(components, variant, name)
    root = [file for file in folders.get("", ()) if file.endswith(".json") and variant_of(file) is None]
    return root + [f"{part}/{file}" for part, names in components.items() for file in select_weights(names, chosen)]


def _model_files(name: str, files: Iterable[str]) -> list[str]:
    """Return the files of a model of transformers, and of the modules of sentence-transformers in its subfolders."""
    folders = {folder: names for folder, names in _by_folder(files).items() if folder.split("/")[0] not in OTHER_BACKENDS}
    chosen = choose_variant({"": folders.get("", [])}, None, name)
    root = [file for file in select_weights(folders.get("", []), chosen) if _is_model_file(file)]
    others = [f"{folder}/{file}" for folder, names in folders.items() if folder for file in select_weights(names, None)]
    return root + others


def _is_model_file(file: str) -> bool:
    """Return whether a file at the root belongs to the model in the format of transformers, and not to another one."""
    return not file.endswith(".safetensors") or variant_of(file) is not None


def _by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for file in files:
        path = PurePosixPath(file)
        folders.setdefault("" if str(path.parent) == "." else str(path.parent), []).append(path.name)
    return folders


def download(name: str, select: Callable[[list[str], Callable[[str], Path]], list[str]]) -> tuple[Path, str]:
    """Download files of a repository. Without access to the Hub, they are read from the cache.

    Args:
        name: The name of the repository, with an optional `@revision`.
        select: Returns the needed files, for the readable files of the repository and a function that downloads one of them.

    Returns:
        The folder and its commit.

    Raises:
        InputError: If the repository cannot be read, or `select` raises it.
    """
    repository, _, revision = name.partition("@")
    options: dict[str, Any] = {"repo_id": repository, "revision": revision or None, "endpoint": constants.ENDPOINT}
    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repository, revision=revision or None, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if file.rfilename.endswith(READABLE)}
        if not sizes:
            raise InputError(f"model {name!r} has no files that can be read; its weights must be in safetensors")
        chosen = select(list(sizes), lambda file: Path(hf_hub_download(filename=file, **options)))
        new = {file: sizes[file] for file in chosen if not _is_cached(repository, file, info.sha)}
        progress = _Progress(name, new)
        patterns = [glob.escape(file) for file in chosen]
        folder = Path(snapshot_download(**options, allow_patterns=patterns, tqdm_class=progress.bar_class()))
        progress.end()
    except InputError:
        raise
    except Exception as error:  # the Hub client and its transport each raise their own types
        try:
            folder = _cached(options, select)
        except InputError:
            raise
        except Exception:
            raise InputError(_cause(name, repository, revision, error)) from error
    return folder, folder.name  # the cache names a snapshot by its commit


def _is_cached(repository: str, file: str, commit: str | None) -> bool:
    return isinstance(try_to_load_from_cache(repository, file, revision=commit), str)


def _cached(options: dict[str, Any], select: Callable[[list[str], Callable[[str], Path]], list[str]]) -> Path:
    """Return the folder of a snapshot in the cache. Any exception means that it is not there, or not complete."""
    options = options | {"local_files_only": True}
    files = [file.path for file in get_cached_repo_tree(options["repo_id"], revision=options["revision"])]
    readable = [file for file in files if file.endswith(READABLE)]
    chosen = select(readable, lambda file: Path(hf_hub_download(filename=file, **options)))
    return Path(snapshot_download(**options, allow_patterns=[glob.escape(file) for file in chosen]))


def _cause(name: str, repository: str, revision: str, error: Exception) -> str:
    """Return one line that says why a repository cannot be read and what helps."""
    start = f"model {name!r} cannot be downloaded from the Hugging Face Hub: "
    if isinstance(error, GatedRepoError):
        return start + (
            f"its authors ask for consent; accept the licence at {constants.ENDPOINT}/{repository} with your account, and set "
            "HF_TOKEN to a token of that account"
        )
    if isinstance(error, RevisionNotFoundError):
        return start + f"it has no revision {revision!r}; give a branch, a tag or a commit"
    if isinstance(error, RepositoryNotFoundError):
        return start + (
            f"there is no public repository {repository!r}; check the name, or set HF_TOKEN to a token that can read it if it is "
            "private"
        )
    return start + f"{one_line(error)}; check the name, the revision, your access and the connection, or give a local folder"


class _Progress:
    """Reports the progress of a download: a line at its start, one every `REPORT_INTERVAL` seconds, and one at its end.

    Args:
        name: The name of the model.
        sizes: The sizes in bytes of the files that are downloaded. Without files, nothing is reported.
    """

    def __init__(self, name: str, sizes: Mapping[str, int]) -> None:
        self.name, self.total, self.lock = name, sum(sizes.values()), threading.Lock()
        self.started = self.reported = time.monotonic()
        self.active = bool(sizes)
        if self.active:
            report(f"downloading {name}: {_size(self.total)} in {pluralize(len(sizes), 'file')}")

    def update(self, completed: float) -> None:
        """Report `completed` bytes, unless the last line is recent."""
        with self.lock:
            now = time.monotonic()
            if self.active and now - self.reported >= REPORT_INTERVAL:
                self.reported = now
                report(f"downloading {self.name}: {_size(min(completed, self.total))} of {_size(self.total)}")

    def end(self) -> None:
        """Report the end of the download."""
        if self.active:
            report(f"downloaded {self.name}: {_size(self.total)} in {time.monotonic() - self.started:.0f} s")

    def bar_class(progress) -> type[tqdm]:  # noqa: N805 (self is the bar below)
        """Return the class of bars with which the Hub client counts bytes. They are not displayed."""

        class Bar(tqdm):
            def __init__(self, *args: Any, **options: Any) -> None:
                self.counts_bytes, self.completed = options.get("unit") == "B", 0.0
                super().__init__(*args, **options | {"disable": True})

            def update(self, n: float | None = 1) -> None:
                self.completed += n or 0
                if self.counts_bytes:
                    progress.update(self.completed)

        return Bar


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

"""The files of a model that libraries may read: configurations without references to code, vocabularies, and safetensors."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers

from conjure.errors import InputError
from conjure.io.files import read_json

READABLE = (".json", ".txt", ".model", ".safetensors", ".jinja", ".tiktoken", ".spm", ".vocab", ".bpe", ".md", ".yaml")
UNSAFE_EXTENSIONS = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5")
TRAINING_FILES = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "scaler.pt")
OTHER_BACKENDS = ("onnx", "openvino", "coreml")  # folders that only other runtimes read

# Keys of configurations that make a library execute code of a repository, or ask whether it may
CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
# Keys of the classes that read such a configuration
CLASS_KEYS = ("tokenizer_class", "image_processor_type", "feature_extractor_type", "video_processor_type", "processor_class")
# Large files that name no code
DATA_FILES = ("tokenizer.json", "vocab.json", "added_tokens.json")


@contextlib.contextmanager
def readable_folder(folder: Path, model: str) -> Iterator[Path]:
    """Context manager that returns a folder from which a library cannot execute code.

    The classes of a library read the same files as before. If `folder` holds code, pickles, or configurations that refer to code,
    a temporary folder is returned: it links to the readable files, and its configurations lack the references. So no library
    finds anything to execute, or to ask about, whatever class reads the folder.

    Args:
        folder: The folder of a model, with components in its subfolders.
        model: The name of the model, for messages.

    Raises:
        InputError: If a configuration names a class that only the code of the model defines, or a file is not a regular file.
    """
    files = [directory / name for directory, names in _walk(folder) for name in names]
    for path in files:
        check_regular(path, model)
    configs = {path: config for path in files if (config := _without_code(path, model)) is not None}
    if not configs and not any(path.suffix in (".py", *UNSAFE_EXTENSIONS) for path in files):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="conjure-") as temporary:
        root = Path(temporary) / folder.resolve().name
        root.mkdir()
        for path in files:
            if path.suffix not in READABLE:
                continue
            link = root / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if path in configs:
                link.write_text(json.dumps(configs[path]))
            else:
                _link(path, link)
        yield root


def check_regular(path: Path, model: str) -> None:
    """Check that a file of a model can be read to its end: a pipe without a writer would block, and a device may have no end.

    Args:
        path: The file, which may be missing.
        model: The name of the model, for messages.

    Raises:
        InputError: If it is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"model {model!r} has a {path.name} that is not a regular file; give a complete folder")


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each directory in `folder` with its files, also behind symbolic links, but each directory only once."""
    seen: set[str] = set()
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(directory))
        subfolders[:] = [name for name in sorted(subfolders) if os.path.realpath(os.path.join(directory, name)) not in seen]
        yield Path(directory), sorted(names)


def _link(path: Path, link: Path) -> None:
    try:
        link.symlink_to(path.resolve())
    except OSError:  # Windows permits symbolic links to some users only
        shutil.copyfile(path, link)


def _without_code(path: Path, model: str) -> Any:
    """Return the content of a configuration without its references to code, or None if it has none."""
    if path.suffix != ".json" or path.name in DATA_FILES or path.name.endswith(".safetensors.index.json"):
        return None
    try:
        config = json.loads(path.read_bytes())
        cleaned = _clean(config)
    except (OSError, ValueError, RecursionError):
        return None  # no library can parse it either
    if cleaned == config:
        return None
    for key in CLASS_KEYS:  # a class of the library that does the same is not known
        cls = config.get(key)
        if isinstance(cls, str) and not (hasattr(transformers, cls) or hasattr(transformers, cls.removesuffix("Fast"))):
            raise InputError(f"model {model!r} needs its own code for {cls!r} ({path.parent.name}/{path.name}), which is not run")
    return cleaned


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if not _names_code(key, item)}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _names_code(key: str, value: Any) -> bool:
    is_kernel = key.endswith("attn_implementation") and isinstance(value, str) and "/" in value  # compiled code on the Hub
    return key in CODE_KEYS or is_kernel


def check_pickles(folder: Path, model: str) -> None:
    """Check that no part of a model, at any level of its folder, has its weights in pickled files only.

    Args:
        folder: The folder of a model of transformers or sentence-transformers.
        model: The name of the model, for messages.

    Raises:
        InputError: If a folder has a pickled checkpoint and no safetensors, or an adapter, whose base model is elsewhere.
    """
    for directory, names in _walk(folder):
        if not set(directory.relative_to(folder).parts).isdisjoint(OTHER_BACKENDS):
            continue
        _check_activation(directory / "config.json", model)
        if "adapter_config.json" in names:
            raise InputError(
                f"the model {model!r} is an adapter (adapter_config.json); merge it into its base model, and save that"
            )
        pickles = sorted(name for name in names if name.endswith(UNSAFE_EXTENSIONS) and name not in TRAINING_FILES)
        if pickles and not any(name.endswith(".safetensors") for name in names):
            raise InputError(
                f"the model {model!r} has weights in the pickle {str((directory / pickles[0]).relative_to(folder))!r}, "
                "which can run code; only safetensors are read: convert it with save_pretrained(folder, safe_serialization=True)"
            )


def _check_activation(path: Path, model: str) -> None:
    """Check that a layer of sentence-transformers has an activation function of torch, since others are replaced silently.

    Raises:
        InputError: If it has another one.
    """
    config = read_json(path, f"the file {path.name} of the model {model!r}") if path.is_file() else {}
    activation = config.get("activation_function")
    if isinstance(activation, str) and "." in activation and not activation.startswith("torch."):
        raise InputError(f"the model {model!r} has the activation function {activation!r}; only those of torch can be used")

"""Names in place of paths: visitors of the app do not see where models, runs and stores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def label_models(models: Sequence[str]) -> dict[str, str]:
    """Return the models by their labels: the names of folders without their paths, and other names unchanged.

    Args:
        models: Models as the operator gives them. Two folders of the same name get different labels.
    """
    labels: dict[str, str] = {}
    for model in dict.fromkeys(models):
        path = Path(model).expanduser()
        is_folder = model != "default" and (path.is_absolute() or path.exists())
        name = label = path.resolve().name if is_folder else model
        number = 2
        while label in labels:
            label = f"{name} ({number})"
            number += 1
        labels[label] = model
    return labels


def public_settings(settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the settings of a process without the paths of the operator's files: the names of files instead.

    Args:
        settings: `Process.settings()`.
        model: The label of the model.
    """
    public = {**settings, "model": model}
    for key in ("lora", "textual_inversion"):
        if key in public:
            public[key] = [{**change, "name": file_label(change["name"])} for change in public[key]]
    return public


def file_label(name: str) -> str:
    """Return the name of a file or folder without its path; another name, such as one of the Hub, unchanged."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.exists() else name


def replace_paths(message: str, models: Mapping[str, str], other_paths: Mapping[str, str]) -> str:
    """Return a message with names in place of paths, and `~` in place of the home folder.

    Args:
        message: Any text.
        models: The labels of models by their names, which are also replaced where they are relative paths.
        other_paths: The names of other files and folders by their paths.
    """
    folders = {**models, **other_paths}
    names = dict(models)
    names |= {str(Path(path).absolute()): name for path, name in folders.items()}
    names |= {str(Path(path).resolve()): name for path, name in folders.items()}
    if Path.home() != Path("/"):
        names[str(Path.home())] = "~"
    return replace_names(message, names)


def replace_names(text: str, names: Mapping[str, str]) -> str:
    """Return a text in which each key of `names` is replaced by its value, the longest keys first."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text

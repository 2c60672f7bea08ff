"""Names in place of paths: visitors of the app do not see where models, runs and stores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


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
    for path in sorted(names, key=len, reverse=True):
        message = message.replace(path, names[path])
    return message

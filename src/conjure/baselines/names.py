"""The names of all baselines, without the libraries that compute them, so that a name is checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from conjure.errors import InputError

WITHOUT_MODEL = ("encoder", "random", "jensen-shannon")
TEXT_MODEL = ("sentence", "cls", "mean", "trajectories")
IMAGE_SET = ("gaussian", "frechet", "mmd", "energy", "sliced-wasserstein")
ALLOWED = (*WITHOUT_MODEL, *(f"{kind}:MODEL" for kind in TEXT_MODEL), *(f"{kind}[:MODEL]" for kind in IMAGE_SET))


def check_baseline_names(names: Iterable[str]) -> None:
    """Check that baselines with these names exist.

    Args:
        names: The names, with the models after a colon, as in `conjure.make_baselines`.

    Raises:
        InputError: For an unknown name, also one without its model.
    """
    for name in names:
        kind, _, model = name.partition(":")
        is_known = name in WITHOUT_MODEL or name in IMAGE_SET or (bool(model) and kind in TEXT_MODEL + IMAGE_SET)
        if not is_known:
            raise InputError(f"unknown baseline {name!r}; allowed are {', '.join(ALLOWED)}")

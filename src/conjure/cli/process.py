"""From the options of a command to valid sampling arguments and a loaded process."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import conjure
from conjure.cli.console import silence, stderr


@dataclass(frozen=True)
class ProcessOptions:
    """The options of a command that define its process and its hardware; None selects the default of `conjure.load`."""

    model: str
    steps: int | None
    guidance: float | None = None
    scheduler: str | None = None
    unit: str | None = None
    height: int | None = None
    width: int | None = None
    device: str | None = None
    dtype: str | None = None
    variant: str | None = None
    compile: bool = False
    store: str | None = None
    workers: int | None = None
    ray: str | None = None

    def load(self) -> conjure.Process:
        """Load the process, with its store and its workers.

        Raises:
            InputError: The model, the store or the cluster cannot be used, or a setting is invalid.
        """
        with stderr.status("loading the model"):
            return self.load_silently()

    def load_silently(self) -> conjure.Process:
        """Load the process without a message, such as while a bar shows the progress. The errors are those of `load`."""
        # The imports create about a million objects that stay alive until the exit. Garbage collections over them, during the
        # imports and at the exit, would take a quarter of the run time of a short command.
        gc.disable()
        load = conjure.load
        gc.freeze()
        gc.enable()
        silence()
        settings = asdict(self)
        store, num_workers, ray = (settings.pop(name) for name in ("store", "workers", "ray"))
        workers = None
        if num_workers is not None or ray is not None:
            workers = conjure.Workers(
                num_workers, ray, {name: settings[name] for name in ("device", "compile", "variant") if settings[name]}
            )
            settings |= {"device": "cpu", "compile": False}  # the local process only provides settings and fingerprint
        opened_store = open_store(store)
        return load(**settings).set(store=opened_store, workers=workers)


def open_store(path: str | None) -> conjure.Store | None:
    """Return the store that `--store` names, or None without that option."""
    return None if path is None else conjure.Store(path)


def validated_sampling(texts: Iterable[str], unit: str | None, **sampling: Any) -> dict[str, Any]:
    """Validate texts and sampling arguments, which takes no model, and return the sampling arguments.

    Args:
        texts: All texts that the command compares.
        unit: The unit of the uniform weighting, which becomes the default unit of the process.
        **sampling: Keyword arguments of `conjure.distance`: samples, seed, divergence, weighting, ...

    Raises:
        InputError: An argument is invalid.
    """
    from conjure.similarity.options import SamplingOptions

    arguments = {"unit": unit, **sampling}
    SamplingOptions.create("output", **arguments).validate(texts)
    return sampling

"""Processes that are in memory, or that are loaded when they run and released afterwards."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache

from conjure.diffusion.loading import load
from conjure.diffusion.process import Process
from conjure.errors import InputError

ProcessLike = Process | str | PathLike[str] | Callable[[], Process]
"""A process, the name or folder of a model that `conjure.load` loads, or a function that returns a process."""

R = TypeVar("R")


class ProcessSource:
    """Provides a process to functions, one call at a time.

    A process that is given as a name or as a function is loaded for each call and released after it, so that another model fits
    into the memory of the device.

    Args:
        given: The process.
        name: What messages call it.

    Raises:
        InputError: If `given` is none of these.
    """

    def __init__(self, given: ProcessLike, name: str) -> None:
        if not isinstance(given, Process | str | PathLike) and not callable(given):
            raise InputError(
                f"{name} is {given!r}; must be a process, the name or folder of a model, or a function that returns a process"
            )
        self.given = given
        self.name = name

    def use(self, work: Callable[[Process], R]) -> R:
        """Return the result of `work` for the process. `work` must not keep a reference to it.

        Raises:
            InputError: If the process cannot be loaded, or is distributed to workers.
        """
        process = self._load()
        if process.workers is not None:
            raise InputError(f"{self.name} has workers, with which two processes cannot be compared; give it workers=None")
        try:
            return work(process)
        finally:
            del process
            if not isinstance(self.given, Process):
                clear_device_cache(garbage_collection=True)

    def _load(self) -> Process:
        if isinstance(self.given, Process):
            return self.given
        if isinstance(self.given, str | PathLike):
            return load(fspath(self.given))
        process = self.given()
        if not isinstance(process, Process):
            raise InputError(f"the function of {self.name} returned {process!r}; it must return a process")
        return process

"""The computations that run at the same time: those of visitors, and those that give way to them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from conjure.diffusion.jobs import ProgressCallback
from conjure.errors import InputError

JOB_TIMEOUT = 30  # seconds that a request waits for a free job; a cancelled job ends only after its current step
PAUSE = 0.1  # seconds until a computation that gave way to a visitor is started again


class CancelledError(Exception):
    """A visitor cancelled a computation."""


class Jobs:
    """A limited number of jobs.

    Args:
        number: The number of jobs that run at the same time.
    """

    def __init__(self, number: int) -> None:
        self._free = threading.BoundedSemaphore(number)
        self._waiting = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Context manager for one of the jobs. A cancelled job counts until it has really ended.

        Raises:
            InputError: No job became free in `JOB_TIMEOUT` seconds.
        """
        with self._lock:
            self._waiting += 1
        try:
            is_free = self._free.acquire(timeout=JOB_TIMEOUT)
        finally:
            with self._lock:
                self._waiting -= 1
        if not is_free:
            raise InputError("the server is busy with other requests; try again in a moment")
        try:
            yield
        finally:
            self._free.release()

    def run_when_idle(self, compute: Callable[[ProgressCallback], Iterable[object]]) -> None:
        """Run a computation to its end. Whenever another one waits for a job, it is cancelled and started again later.

        Args:
            compute: The computation, which is called with a progress callback and uses a job.
        """

        def give_way(*_: int) -> None:
            if self._waiting:
                raise CancelledError

        while True:
            try:
                for _ in compute(give_way):
                    give_way()
            except CancelledError:
                time.sleep(PAUSE)
            else:
                return

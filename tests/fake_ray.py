"""The part of Ray's interface that Conjure uses, in this process: workers are objects that run one call at a time.

Tests with it show what happens when workers die or fail, without the minutes that processes take to start. `test_ray_workers.py`
shows the same with real workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class WorkerDeathError(Exception):
    """Raised inside a worker to end it, as a signal would end its process."""


class RayError(Exception):
    """An error of Ray: a worker died."""


class RayTaskError(RayError):
    """An exception that was raised in a worker, which stays alive."""


class FakeRay:
    """A cluster.

    Args:
        cpus: The number of its CPUs.
        gpus: The number of its GPUs.

    Attributes:
        idle_waits: In how many calls of `wait` no worker is available yet.
        options: The options of the workers.
        workers: All workers that were started.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, cpus: int = 8, gpus: int = 0) -> None:
        self.resources = {"CPU": float(cpus), "GPU": float(gpus)}
        self.idle_waits = 0
        self.options: dict[str, Any] = {}
        self.workers: list[FakeActor] = []

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, cls: type) -> SimpleNamespace:
        def start(*args: Any) -> FakeActor:
            self.workers.append(FakeActor(cls, args))
            return self.workers[-1]

        def with_options(**options: Any) -> SimpleNamespace:
            self.options = options
            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=with_options)

    def wait(self, calls: Sequence[Call], timeout: float) -> tuple[list[Call], list[Call]]:
        """Run one call: a health check if there is one, else the middle one, so that results arrive in another order."""
        if self.idle_waits:
            self.idle_waits -= 1
            return [], list(calls)
        checks = [index for index, call in enumerate(calls) if call.name == "health_check"]
        index = checks[0] if checks else len(calls) // 2
        calls[index].run()
        return [calls[index]], [*calls[:index], *calls[index + 1 :]]

    def get(self, call: Call) -> Any:
        if call.error is not None:
            raise call.error
        return call.result

    def kill(self, worker: FakeActor) -> None:
        worker.is_alive = False


class FakeActor:
    """A worker, which is started again after its death."""

    def __init__(self, cls: type, args: tuple[Any, ...]) -> None:
        self.cls, self.args = cls, args
        self.instance: Any = None
        self.num_starts = 0
        self.is_alive = True

    def __getattr__(self, name: str) -> SimpleNamespace:
        def with_options(max_task_retries: int = 0) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda *args: Call(self, name, args, max_task_retries != 0))

        return SimpleNamespace(remote=with_options().remote, options=with_options)

    def method(self, name: str) -> Callable[..., Any]:
        """Return a method of the worker, which is started if it is not running."""
        if self.instance is None:
            self.num_starts += 1
            try:
                self.instance = self.cls(*self.args)
            except Exception as error:
                raise RayError(f"The actor died because its creation failed:\n{type(error).__name__}: {error}") from error
        return getattr(self.instance, name)


class Call:
    """A call of a method of a worker; one with `is_retried` runs again when the worker has died over it."""

    def __init__(self, worker: FakeActor, name: str, args: tuple[Any, ...], is_retried: bool) -> None:
        self.worker, self.name, self.args, self.is_retried = worker, name, args, is_retried
        self.result: Any = None
        self.error: RayError | None = None

    def run(self) -> None:
        try:
            self.result = self.worker.method(self.name)(*self.args)
        except RayError as error:
            self.error = error
        except WorkerDeathError as error:
            self.worker.instance = None
            if self.is_retried:
                self.run()
                return
            self.error = RayError(f"The actor died unexpectedly before finishing this task.\n{error}")
        except Exception as error:
            self.error = RayTaskError(f"{type(error).__name__}: {error}")

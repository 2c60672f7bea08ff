"""Runs jobs on many workers, each with the model loaded: processes on this machine, one per GPU, or a Ray cluster.

Jobs do not depend on each other, so they are sent in chunks to idle workers. The workers return the results to the calling
process; only this process writes to the store. If a worker or a node dies, its chunk is sent to another worker. Results do not
depend on the worker: before a worker computes, it checks that the fingerprint of its process equals that of the calling process.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from conjure.diffusion.batch_size import CPU_BATCH
from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob, TrajectoryResult, batch_end
from conjure.diffusion.process import Process
from conjure.engine.worker import ProcessSpec, Worker
from conjure.errors import InputError, NoWorkersWarning, TextTruncationWarning
from conjure.io.numbers import is_integer
from conjure.io.text import one_line
from conjure.user_warnings import warn_user

GPU_CHUNK_ROWS = 256  # keeps a GPU busy for seconds; a worker that dies loses at most one chunk
MAX_RETRIES = 3  # of one chunk, after the workers that ran it died
CONNECT_TIMEOUT = 30.0  # seconds without any worker before a warning


@dataclass(eq=False)
class Workers:
    """Workers that run the jobs of a process: `conjure.load(...).set(workers=conjure.Workers(4))`. Needs Ray.

    The workers start when they are first needed, and run until `close` or the end of the program. A program that is already
    connected to a Ray cluster uses that cluster.

    Attributes:
        count: The number of workers; None for one per GPU, or one per CPU core if there is no GPU.
        address: The address of a Ray cluster in the format of `ray.init` (`auto`, `HOST:6379`, `ray://HOST:10001`); None for
            this machine.
        load: Arguments of the workers' `conjure.load` besides those that define the process, such as `{"compile": True}` or
            `{"offload": "model"}`. With the device `cpu` they use no GPU.

    Raises:
        InputError: If `count` is not an integer >= 1.
    """

    count: int | None = None
    address: str | None = None
    load: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count is not None and not is_integer(self.count, 1):
            raise InputError(f"workers is {self.count!r}; must be an integer >= 1")

    def __str__(self) -> str:
        """Return the number of workers, their kind of device and their offloading. It is reported with results."""
        offload = f", offload {self.load['offload']}" if self.load.get("offload") else ""
        return f"{len(self.actors)} workers on {self.device_kind}{offload}"

    @cached_property
    def actors(self) -> list[Any]:
        """The running workers. The first access starts them.

        Raises:
            InputError: If the cluster cannot be reached or is too small.
        """
        ray = _import_ray()
        if not ray.is_initialized():
            _connect(self.address, self.count)
        resources = ray.cluster_resources()
        device = str(self.load["device"]).partition(":")[0] if self.load.get("device") else None  # Ray assigns which GPU
        cpus = int(resources.get("CPU", 0))
        gpus = int(resources.get("GPU", 0)) if device in (None, "cuda") else 0
        self.chunk_rows, self.device_kind = (GPU_CHUNK_ROWS, "GPUs") if gpus else (CPU_BATCH, "CPUs")
        count = self.count or gpus or cpus
        if not 1 <= count <= (gpus or cpus):
            raise InputError(
                f"{count} workers are asked for, but the Ray cluster has {gpus or cpus} {self.device_kind}; ask for fewer"
            )
        # Ray restarts a dead worker on a node with free resources; `run` sends its chunk to another worker
        worker_cls = ray.remote(Worker).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        # The device is passed explicitly: a worker that does not find its GPU then fails instead of computing on a CPU
        load = self.load | {"device": device or ("cuda" if gpus else "cpu")}
        return [worker_cls.remote(max(1, cpus // count), load) for _ in range(count)]

    def close(self) -> None:
        """End the workers. They start again when they are needed."""
        for actor in self.__dict__.pop("actors", ()):
            _import_ray().kill(actor)

    def run(
        self,
        process: Process,
        jobs: Sequence[TrajectoryJob],
        *,
        keep_latents: Sequence[TrajectoryJob] = (),
        progress: ProgressCallback | None = None,
    ) -> Iterator[list[TrajectoryResult]]:
        """Yield the results of `jobs` in chunks, in the order in which they are finished.

        An error is raised after the chunks that other workers are running have been finished and yielded.

        Args:
            process: The process.
            jobs: The jobs.
            keep_latents: The jobs whose latents at every step are returned too.
            progress: Called after every chunk.

        Raises:
            InputError: If a worker raises it for the process or a text, or if workers die repeatedly with the same jobs.

        Warns:
            TextTruncationWarning: If a text is truncated.
            NoWorkersWarning: If no worker is available.
        """
        ray, spec, actors = _import_ray(), ProcessSpec.from_process(process), self.actors
        waiting = deque(_chunks(jobs, process.batch_size or self.chunk_rows))
        free: deque[Any] = deque()
        busy: dict[Any, tuple[Any, Sequence[TrajectoryJob]]] = {}
        deaths: Counter[TrajectoryJob] = Counter()
        requested, done = set(keep_latents), 0
        failure: Exception | None = None

        def restart(actor: Any) -> Any:
            return actor.health_check.options(max_task_retries=-1).remote()  # returns when the worker has been restarted

        restarting = {restart(actor): actor for actor in actors}
        while waiting or busy:
            while waiting and free:
                actor, chunk = free.popleft(), waiting.popleft()
                busy[actor.run.remote(spec, chunk, [job for job in chunk if job in requested])] = actor, chunk
            completed, _ = ray.wait([*busy, *restarting], timeout=CONNECT_TIMEOUT)
            if not completed and not busy:
                message = f"no worker is available yet; {len(waiting)} chunks wait for the cluster to start one"
                warn_user(message, NoWorkersWarning)
            for reference in completed:
                if reference in restarting:
                    free.append(restarting.pop(reference))
                    continue
                actor, chunk = busy.pop(reference)
                try:
                    output = ray.get(reference)
                except ray.exceptions.RayError as death:
                    restarting[restart(actor)] = actor
                    deaths[chunk[0]] += 1
                    if failure is None and deaths[chunk[0]] <= MAX_RETRIES:
                        waiting.appendleft(chunk)
                        continue
                    # An error that every worker raises is a defect of Conjure, whose traceback must be visible
                    is_defect = isinstance(death, ray.exceptions.RayTaskError)
                    failure = failure or (death if is_defect else InputError(_worker_failure_message(chunk, death)))
                    waiting.clear()
                    continue
                free.append(actor)
                if isinstance(output, InputError):
                    failure = failure or output
                    waiting.clear()
                    continue
                results, truncations = output
                for truncation in truncations:
                    warn_user(truncation, TextTruncationWarning)
                yield results
                done += len(chunk)
                if progress:
                    progress(done * process.steps, len(jobs) * process.steps)
        if failure:
            raise failure


def _worker_failure_message(chunk: Sequence[TrajectoryJob], death: Exception) -> str:
    reason = str(death).strip().splitlines()[-1].strip()[:200]  # the lines above describe the worker and its node
    return (
        f"{MAX_RETRIES + 1} workers died over {chunk[0].text[:40]!r} and {len(chunk) - 1} other jobs, the last one with: "
        f"{reason}; if memory is short, set batch_size lower or use fewer workers"
    )


def _chunks(jobs: Sequence[TrajectoryJob], max_rows: int) -> Iterator[Sequence[TrajectoryJob]]:
    """Yield the jobs in order, in chunks of at most `max_rows` rows."""
    start = 0
    while start < len(jobs):
        end = batch_end(jobs, start, max_rows)
        yield jobs[start:end]
        start = end


def _connect(address: str | None, count: int | None) -> None:
    """Connect to the cluster at `address`, or start one on this machine."""
    ray = _import_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry of a cluster that is started here
    local_options = {} if address else {"num_cpus": max(count or 0, os.cpu_count() or 1), "include_dashboard": False}
    try:
        host, colon, port = (address or "").rpartition(":")
        if colon and "://" not in host:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()  # Ray would try for ten minutes
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **local_options)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error)
        if "\nTraceback" in reason:  # a traceback of the server, whose last line is the error
            reason = reason.strip().splitlines()[-1]
        raise InputError(
            f"cannot connect to the Ray cluster {address!r}: {one_line(reason or error)}; start one with ray start --head"
        ) from error


def _import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("workers need Ray: pip install '.[ray]' in a clone") from error
    return ray

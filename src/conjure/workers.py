"""Carries out sources on many workers, each with the model loaded: processes of this machine, one a GPU, or a Ray cluster.

Sources need nothing of each other, so they are sent out in parcels, to whichever worker is free, and what they give comes back to
one place, which alone writes it down. Whatever dies, a worker or a whole node, its parcel goes to another; numbers are the same
wherever they are computed, which the identity of the workers' process is made to agree to before anything is.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from diffusers import DiffusionPipeline

from conjure.errors import InputError, NoWorkersWarning, TextCutWarning
from conjure.memory import ON_CPU, Rows
from conjure.process import Process
from conjure.run import Measured, Progress, Source, end_of_batch, run

ON_GPU = 256  # rows of a parcel: enough to fill a GPU for seconds, little to lose with a worker
DEATHS = 3  # of workers, over one parcel, that are taken for chance
PATIENCE = 30.0  # seconds without any worker before that is said


@dataclass(frozen=True)
class Recipe:
    """By what a worker makes a process its own: where the model comes from, every setting, and the identity it must have."""

    model: str
    dtype: str
    scheduler: type
    config: dict[str, Any]
    settings: dict[str, Any]
    identity: str

    @classmethod
    def of(cls, process: Process) -> Recipe:
        """Errors: `InputError` for a pipeline that was handed over in memory, which no worker could load."""
        model, revision = process.model, process.revision
        if revision is not None:
            model = f"{model.partition('@')[0]}@{revision}"
        elif model != "default":
            if not Path(model).is_dir():
                raise InputError(
                    f"workers load the model by its name, but {model!r} was handed over as a pipeline; write it to a folder with "
                    "save_pretrained, and load that"
                )
            model = str(Path(model).resolve())
        names = ("steps", "guidance", "height", "width", "unit", "call", "alone", "rows")
        settings = {name: getattr(process, name) for name in names}
        dtype = str(process.pipeline.dtype).removeprefix("torch.")
        return cls(model, dtype, type(process.scheduler), dict(process.scheduler.config), settings, process.identity())

    def make(self, pipeline: DiffusionPipeline) -> Process:
        """The process, over a `pipeline` that is loaded. Errors: `InputError` where it is another one than was asked for."""
        scheduler = self.scheduler.from_config(self.config)  # type: ignore[attr-defined]
        process = Process(pipeline, scheduler, **self.settings)
        if process.identity() != self.identity:
            raise InputError(
                f"the model {self.model!r} is another one on the workers than here; give all the same files and versions "
                "of diffusers and transformers"
            )
        return process


class Worker:
    """What runs in a worker: it keeps the pipeline that it loaded last, since there may be no room for two."""

    def __init__(self, threads: int, load: dict[str, Any]) -> None:
        self.load = load
        self.pipeline: DiffusionPipeline | None = None
        self.loaded: tuple[str, str] | None = None
        self.failed = False
        self.processes: dict[tuple[str, int | None], tuple[Process, Rows]] = {}
        torch.set_num_threads(min(threads, os.cpu_count() or 1))

    def ready(self) -> None:
        """Come back, which shows that it lives; or end where something failed, after which a GPU may be of no use to the
        process that has it, so that Ray starts another."""
        if self.failed:
            os._exit(1)

    def run(
        self, recipe: Recipe, sources: Sequence[Source], pictures: Sequence[Source]
    ) -> tuple[list[Measured], list[str]] | InputError:
        """What `sources` give, and what was said of texts that are cut; or what a user is to be told."""
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", TextCutWarning)
                process, rows = self._process(recipe)
                measured = list(run(process, sources, pictures=pictures, rows=rows))
            return measured, list(dict.fromkeys(str(one.message) for one in told))
        except InputError as error:
            return InputError(str(error))
        except Exception:
            self.failed = True
            raise

    def _process(self, recipe: Recipe) -> tuple[Process, Rows]:
        from conjure.loading import load

        wish = recipe.identity, recipe.settings["rows"]  # which is no part of the identity, since it changes no number
        if wish not in self.processes:
            wanted = (recipe.model, recipe.dtype)
            if self.loaded != wanted:
                self.pipeline = self.loaded = None
                self.processes.clear()
                clear_device_cache(garbage_collection=True)
                self.pipeline = load(recipe.model, dtype=recipe.dtype, **self.load).pipeline
                self.loaded = wanted
            process = recipe.make(self.pipeline)
            self.processes[wish] = process, Rows(process.pipeline.device, process.rows)
        return self.processes[wish]


@dataclass(eq=False)
class Workers:
    """Workers to carry out the sources of a process: `conjure.load(...).set(workers=conjure.Workers(4))`. Needs Ray.

    count: how many; None for one a GPU, and where there is none one a core.
    address: of a Ray cluster, as `ray.init` takes it (`auto`, `HOST:6379`, `ray://HOST:10001`); None for this machine alone.
    A program that is connected to a cluster already stays there.
    load: what the workers' `conjure.load` is to be given besides the model and its dtype, as `{"compile": True}`; with the
    device `cpu` they leave the GPUs alone.

    They start when they are first needed and stay until `close`, or the end of the program.
    """

    count: int | None = None
    address: str | None = None
    load: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count is not None and (self.count is True or not (isinstance(self.count, int) and self.count >= 1)):
            raise InputError(f"workers is {self.count!r}; allowed are whole numbers from 1 on")

    def __str__(self) -> str:
        """How many there are, and on what they compute, for the record."""
        return f"{len(self.actors)} workers on {self.kind}"

    @cached_property
    def actors(self) -> list[Any]:
        """The workers, started. Errors: `InputError` for a cluster that cannot be reached or is too small."""
        ray = _ray()
        if not ray.is_initialized():
            _connect(self.address, self.count)
        total = ray.cluster_resources()
        device = str(self.load["device"]).partition(":")[0] if self.load.get("device") else None  # which GPU, Ray says
        cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0)) if device in (None, "cuda") else 0
        self.rows, self.kind = (ON_GPU, "GPUs") if gpus else (ON_CPU, "CPUs")
        count = self.count or gpus or cpus
        if not 1 <= count <= (gpus or cpus):
            raise InputError(f"{count} workers are asked for, but the Ray cluster has {gpus or cpus} {self.kind}; ask for fewer")
        # one that dies is started again, where there is room; what it was doing is given to another by `run`
        made = ray.remote(Worker).options(
            num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        # told, and not left to what each finds, so that none computes on a CPU because its PyTorch does not see its GPU
        load = self.load | {"device": device or ("cuda" if gpus else "cpu")}
        return [made.remote(max(1, cpus // count), load) for _ in range(count)]

    def close(self) -> None:
        """End the workers; they start again when they are needed."""
        for actor in self.__dict__.pop("actors", ()):
            _ray().kill(actor)

    def run(
        self, process: Process, sources: Sequence[Source], *, pictures: Sequence[Source] = (), progress: Progress | None = None
    ) -> Iterator[list[Measured]]:
        """What `conjure.run.run` gives, a parcel at a time, as they come, in whatever order.

        Errors: `InputError`, for what a worker refuses, and for sources over which worker after worker dies; and whatever fails
        on worker after worker. What the others are at is waited for and given before. Warns: `TextCutWarning`,
        `NoWorkersWarning`.
        """
        ray, recipe, actors = _ray(), Recipe.of(process), self.actors
        left = deque(_parcels(sources, process.rows or self.rows))
        free: deque[Any] = deque()
        busy: dict[Any, tuple[Any, Sequence[Source]]] = {}
        deaths: Counter[Source] = Counter()
        wanted, done = set(pictures), 0
        end: Exception | None = None

        def wake(actor: Any) -> Any:
            return actor.ready.options(max_task_retries=-1).remote()  # is answered once the worker has been started again

        waking = {wake(actor): actor for actor in actors}
        while left or busy:
            while left and free:
                actor, parcel = free.popleft(), left.popleft()
                busy[actor.run.remote(recipe, parcel, [source for source in parcel if source in wanted])] = actor, parcel
            come, _ = ray.wait([*busy, *waking], timeout=PATIENCE)
            if not come and not busy:
                told = f"no worker is there yet; {len(left)} parcels wait for the cluster to start one"
                warnings.warn(told, NoWorkersWarning, stacklevel=2)
            for ref in come:
                if ref in waking:
                    free.append(waking.pop(ref))
                    continue
                actor, parcel = busy.pop(ref)
                try:
                    given = ray.get(ref)
                except ray.exceptions.RayError as death:
                    waking[wake(actor)] = actor
                    deaths[parcel[0]] += 1
                    if end is None and deaths[parcel[0]] <= DEATHS:
                        left.appendleft(parcel)
                        continue
                    # a fault that each has is a mistake of ours, which is to be seen
                    fault = isinstance(death, ray.exceptions.RayTaskError)
                    end = end or (death if fault else InputError(_lost(parcel, death)))
                    left.clear()
                    continue
                free.append(actor)
                if isinstance(given, InputError):
                    end = end or given
                    left.clear()
                    continue
                measured, cuts = given
                for cut in cuts:
                    warnings.warn(cut, TextCutWarning, stacklevel=2)
                yield measured
                done += len(parcel)
                if progress:
                    progress(done * process.steps, len(sources) * process.steps)
        if end:
            raise end


def _lost(parcel: Sequence[Source], death: Exception) -> str:
    """What is said of a parcel that no worker survives."""
    why = str(death).strip().splitlines()[-1].strip()[:200]  # before it Ray tells which worker, and where
    return (
        f"{DEATHS + 1} workers died over {parcel[0].text[:40]!r} and {len(parcel) - 1} sources beside it, the last of: {why}; "
        "if memory is short, set rows lower or use fewer workers"
    )


def _parcels(sources: Sequence[Source], rows: int) -> Iterator[Sequence[Source]]:
    """`sources` in order, in parcels of as many `rows` at most."""
    start = 0
    while start < len(sources):
        end = end_of_batch(sources, start, rows)
        yield sources[start:end]
        start = end


def _connect(address: str | None, count: int | None) -> None:
    """Join the cluster at `address`, or start one that is this machine alone."""
    ray = _ray()
    own = {} if address else {"num_cpus": max(count or 0, os.cpu_count() or 1), "include_dashboard": False}
    try:
        host, colon, port = (address or "").rpartition(":")
        if colon and "://" not in host:
            socket.create_connection((host, int(port)), PATIENCE).close()  # Ray would try for ten minutes
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (RuntimeError, ValueError, OSError) as error:
        why = str(error)
        if "\nTraceback" in why:  # of the server's, which ends in what happened
            why = why.strip().splitlines()[-1]
        raise InputError(
            f"the Ray cluster {address!r} cannot be joined: {' '.join(why.split())[:200]}; start one with ray start --head"
        ) from error


def _ray() -> Any:
    """Ray, which comes with an extra. Errors: `InputError` where it is missing."""
    try:
        import ray
    except ImportError as error:
        raise InputError('workers need Ray; install it with: pip install "conjure[ray]"') from error
    return ray

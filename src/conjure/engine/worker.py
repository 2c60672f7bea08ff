"""The code that runs inside a Ray worker, and the description from which a worker rebuilds a process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from diffusers import DiffusionPipeline

from conjure.diffusion.batch_size import AdaptiveBatchSize
from conjure.diffusion.float32_precision import changed_float32_precisions, set_float32_precisions
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.load_options import LoadOptions
from conjure.diffusion.loading import load
from conjure.diffusion.process import Process
from conjure.diffusion.sources import pinned_name
from conjure.engine.runner import iter_results
from conjure.errors import InputError, TextTruncationWarning


@dataclass(frozen=True)
class ProcessSpec:
    """The description from which a worker rebuilds a process.

    Attributes:
        model: A name that `conjure.load` accepts on every node.
        dtype: The type of the weights.
        scheduler: The class of the scheduler.
        scheduler_config: The configuration of the scheduler.
        settings: The other settings of the process.
        load_options: How the model is loaded, with absolute paths. Offloading is the workers' own.
        float32_precisions: What differs in the precision of float32 products from what PyTorch starts with.
        fingerprint: The fingerprint that the rebuilt process must have.
    """

    model: str
    dtype: str
    scheduler: type
    scheduler_config: dict[str, Any]
    settings: dict[str, Any]
    load_options: LoadOptions
    float32_precisions: dict[str, str]
    fingerprint: str

    @classmethod
    def from_process(cls, process: Process) -> ProcessSpec:
        """Return the description of `process`.

        Raises:
            InputError: If `conjure.load` received a pipeline instead of a name, since no worker could load it.
        """
        model = pinned_name(process.model, process.revision)
        if process.revision is None and model != "default":
            if not Path(model).exists():
                raise InputError(
                    f"workers load the model by its name, but {model!r} was passed as a pipeline; write it to a folder with "
                    "save_pretrained, and load that"
                )
            model = str(Path(model).resolve())
        names = (
            "steps", "guidance", "height", "width", "media", "default_unit", "pipeline_kwargs", "batch_prompts", "batch_size",
        )  # fmt: skip
        settings = {name: getattr(process, name) for name in names}
        dtype = str(process.pipeline.dtype).removeprefix("torch.")
        return cls(
            model,
            dtype,
            type(process.scheduler),
            dict(process.scheduler.config),
            settings,
            replace(process.load_options.with_absolute_paths(), offload=None),
            changed_float32_precisions(),
            process.fingerprint(),
        )

    def build(self, pipeline: DiffusionPipeline) -> Process:
        """Return the process with a loaded pipeline, and set the precision of float32 products to that of the calling process.

        Raises:
            InputError: If the fingerprint of the process is not `fingerprint`.
        """
        scheduler = self.scheduler.from_config(self.scheduler_config)  # type: ignore[attr-defined]
        process = Process(pipeline, scheduler, load_options=self.load_options, **self.settings)
        set_float32_precisions(self.float32_precisions)
        if process.fingerprint() != self.fingerprint:
            raise InputError(
                f"the model {self.model!r} has another fingerprint on the workers than here; give all the same files and "
                "versions of diffusers and transformers"
            )
        return process


class Worker:
    """A worker. It keeps only the pipeline that it loaded last, since the memory may be too small for two.

    Args:
        threads: The number of threads of PyTorch.
        load_options: Arguments of `conjure.load` besides the model and its dtype.
    """

    def __init__(self, threads: int, load_options: dict[str, Any]) -> None:
        self.load_options = load_options
        self.pipeline: DiffusionPipeline | None = None
        self.loaded: tuple[str, str, LoadOptions] | None = None
        self.has_failed = False
        self.processes: dict[tuple[str, int | None], tuple[Process, AdaptiveBatchSize]] = {}
        torch.set_num_threads(min(threads, os.cpu_count() or 1))

    def health_check(self) -> None:
        """Return if the worker can run jobs; else exit, so that Ray restarts the worker.

        After an error, a GPU may be unusable for the operating-system process that used it.
        """
        if self.has_failed:
            os._exit(1)

    def run(
        self, spec: ProcessSpec, jobs: Sequence[TrajectoryJob], keep_latents: Sequence[TrajectoryJob]
    ) -> tuple[list[TrajectoryResult], list[str]] | InputError:
        """Run jobs.

        Args:
            spec: The description of the process.
            jobs: The jobs.
            keep_latents: The jobs whose latents at every step are returned too.

        Returns:
            The results and the messages about truncated texts, or an `InputError`, which the caller raises.
        """
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", TextTruncationWarning)
                process, batch_size = self._process(spec)
                results = list(iter_results(process, jobs, keep_latents=keep_latents, batch_size=batch_size))
            return results, list(dict.fromkeys(str(warning.message) for warning in caught))
        except InputError as error:
            return InputError(str(error))
        except Exception:
            self.has_failed = True
            raise

    def _process(self, spec: ProcessSpec) -> tuple[Process, AdaptiveBatchSize]:
        key = spec.fingerprint, spec.settings["batch_size"]  # the fingerprint does not cover the batch size
        if key not in self.processes:
            wanted = (spec.model, spec.dtype, spec.load_options)
            if self.loaded != wanted:
                self.pipeline = self.loaded = None
                self.processes.clear()
                clear_device_cache(garbage_collection=True)
                arguments = spec.load_options.arguments() | self.load_options
                self.pipeline = load(spec.model, dtype=spec.dtype, **arguments).pipeline
                self.loaded = wanted
            assert self.pipeline is not None
            process = spec.build(self.pipeline)
            self.processes[key] = process, AdaptiveBatchSize(process.device, process.batch_size)
        return self.processes[key]

"""What the web app computes, without its user interface: comparisons, matrices, drifts and finished runs, within limits.

Values of visitors are validated before anything is computed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from conjure.app import html
from conjure.app.answers import Answer, AnswerCache
from conjure.app.drift import OtherSettings, compute_drift
from conjure.app.labels import label_models, replace_paths
from conjure.app.limits import Limits
from conjure.app.runs import FinishedRuns
from conjure.app.thread_warnings import collect_warnings
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.loading import load
from conjure.diffusion.process import Process
from conjure.engine.store import Store
from conjure.errors import InputError
from conjure.explanation.explain import iter_explanations
from conjure.explanation.html import explanation_page
from conjure.similarity.matrices import matrix

EXAMPLES = (
    ("snow leopard", "bengal tiger"),
    ("dog", "animal"),
    ("a big red apple", "a small green apple"),
    ("a man is riding a horse", "a woman is riding a bicycle"),
)
JOB_TIMEOUT = 30  # seconds that a request waits for a free job; a cancelled job ends only after its current step


class CancelledError(Exception):
    """A visitor cancelled a computation."""


@dataclass
class Service:
    """The computations of the app.

    Attributes:
        models: The models that visitors can select, by name or folder; the first is the default.
        runs: A folder whose subfolders are runs of `conjure bench`.
        limits: Limits of the requests.
        load_arguments: Arguments of `conjure.load` for all models, such as the device.
        store: Where results are stored and looked up.
        labels: The model of each label that visitors see. The label of a folder is its name without the path.
    """

    models: Sequence[str] = ("default",)
    runs: Path | None = None
    limits: Limits = field(default_factory=Limits)
    load_arguments: Mapping[str, Any] = field(default_factory=dict)
    store: Store | None = None

    def __post_init__(self) -> None:
        self.labels = label_models(self.models)
        self._runs = FinishedRuns(self.runs)
        self._processes: dict[str, Process] = {}
        self._load_locks = {label: threading.Lock() for label in self.labels}
        self._answers = AnswerCache()
        self._jobs = threading.BoundedSemaphore(self.limits.concurrency)

    def process(self, model: object, steps: int) -> Process:
        """Return the process of a model, which is loaded on first use.

        Args:
            model: One of `labels`.
            steps: The number of denoising steps.

        Raises:
            InputError: The model is not one of `labels`, or cannot be loaded.
        """
        if not isinstance(model, str) or model not in self.labels:
            raise InputError(f"the model {str(model)[:80]!r} is not available here; allowed are {', '.join(self.labels)}")
        with self._load_locks[model]:
            if model not in self._processes:
                self._processes[model] = load(self.labels[model], **self.load_arguments)
        return self._processes[model].set(steps=steps, store=self.store)

    def without_paths(self, message: str) -> str:
        """Return a message for visitors, in which paths of the operator's models, runs, store and home are replaced by names."""
        other = {str(self.runs): "the runs"} if self.runs else {}
        other |= {str(self.store.path): "the store"} if self.store else {}
        return replace_paths(message, {model: label for label, model in self.labels.items() if label != model}, other)

    def compare(
        self,
        a: object,
        b: object,
        model: object,
        samples: object,
        steps: object,
        seed: object,
        progress: ProgressCallback | None = None,
    ) -> Iterator[Answer]:
        """Compare two texts and yield answers with more and more images.

        Args:
            a: The first text.
            b: The second text.
            model: One of `labels`.
            samples: The number of samples.
            steps: The number of denoising steps.
            seed: The seed of the noise.
            progress: Called after each denoising step; its exceptions end the computation.

        Yields:
            Intermediate answers, then the complete one, which is cached. If the cache contains it, it is the only one.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        a, b = self.limits.validated_text(a), self.limits.validated_text(b)
        num_samples, num_steps, num_seed = self.limits.validated_settings(samples, steps, seed)
        key = ("compare", a, b, str(model), num_samples, num_steps, num_seed)
        if cached := self._answers.get(key):
            yield cached
            return
        process = self.process(model, num_steps)
        warnings: list[str] = []
        explanation = None
        with self._job():
            explanations = iter_explanations(process, a, b, samples=num_samples, seed=num_seed, progress=progress)
            while True:
                with collect_warnings(warnings):  # the thread may change between two iterations of a generator
                    following = next(explanations, None)
                if following is None:
                    break
                explanation = following
                yield Answer(html.distance(explanation.estimate, warnings), html.trajectory_grid(explanation))
        assert explanation is not None
        estimate = explanation.estimate
        if self.labels[str(model)] != model:
            estimate = replace(estimate, process=estimate.process | {"model": model})  # the page shows it
        page = explanation_page(estimate, explanation.sample_images, explanation.words)
        yield self._answers.add(key, Answer(html.notes(warnings), html.iframe(page)))

    def matrix(
        self,
        lines: object,
        model: object,
        samples: object,
        steps: object,
        seed: object,
        progress: ProgressCallback | None = None,
    ) -> Answer:
        """Compare all pairs of texts.

        Args:
            lines: The texts, one per line.
            model: One of `labels`.
            samples: The number of samples.
            steps: The number of denoising steps.
            seed: The seed of the noise.
            progress: Called after each denoising step; its exceptions end the computation.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        texts = self.limits.validated_lines(lines)
        num_samples, num_steps, num_seed = self.limits.validated_settings(samples, steps, seed)
        key = ("matrix", *texts, str(model), num_samples, num_steps, num_seed)
        if cached := self._answers.get(key):
            return cached
        process = self.process(model, num_steps)
        warnings: list[str] = []
        with self._job(), collect_warnings(warnings):
            result = matrix(process, texts, samples=num_samples, seed=num_seed, progress=progress)
        return self._answers.add(key, Answer(html.notes(warnings), html.heat_map(result), result.to_csv()))

    def drift(
        self,
        lines: object,
        guidance: object,
        other_steps: object,
        dtype: object,
        negative_prompt: object,
        model: object,
        samples: object,
        steps: object,
        seed: object,
        progress: ProgressCallback | None = None,
    ) -> Answer:
        """Compare the process of a model with one of other settings, on the same texts.

        Args:
            lines: The texts, one per line; blank for a sample of the built-in texts.
            guidance: The guidance of the other process; None or blank for no change, as for the next three.
            other_steps: Its number of denoising steps.
            dtype: The data type of its weights.
            negative_prompt: Its negative prompt.
            model: One of `labels`.
            samples: The number of samples.
            steps: The number of denoising steps of the first process.
            seed: The seed of the noise.
            progress: Called after each denoising step; its exceptions end the computation.

        Raises:
            InputError: A value is invalid or above a limit, or the processes are the same.
        """
        texts = self.limits.validated_drift_lines(lines)
        num_samples, num_steps, num_seed = self.limits.validated_settings(samples, steps, seed)
        other = OtherSettings.validated(self.limits, guidance, other_steps, dtype, negative_prompt)
        key = ("drift", *texts, other, str(model), num_samples, num_steps, num_seed)
        if cached := self._answers.get(key):
            return cached
        process = self.process(model, num_steps)
        load_other = partial(load, self.labels[str(model)], **self.load_arguments)
        warnings: list[str] = []
        with self._job(), collect_warnings(warnings):
            result = compute_drift(process, other, load_other, texts, num_samples, num_seed, progress)
        labelled = {"model": model}  # the page shows it; the model is that of both processes
        result = replace(result, process_a=result.process_a | labelled, process_b=result.process_b | labelled)
        page = result.document(trajectories=False).to_html()
        return self._answers.add(key, Answer(html.drift_summary(result, warnings), html.iframe(page), result.to_csv()))

    def finished_runs(self) -> list[str]:
        """Return the names of the runs with a report."""
        return self._runs.names()

    def report(self, name: object) -> str:
        """Return the HTML report of a run.

        Raises:
            InputError: `name` is not one of `finished_runs`, or the run cannot be read.
        """
        return self._runs.report(name)

    def compute_examples(self) -> None:
        """Compute and cache the answers to the examples that are within the limits."""
        for a, b in EXAMPLES:
            with contextlib.suppress(InputError):
                for _ in self.compare(a, b, next(iter(self.labels)), *self.limits.default_sampling, 0):
                    pass

    @contextlib.contextmanager
    def _job(self) -> Iterator[None]:
        """Context manager for one of the jobs that run at the same time. A cancelled job counts until it has really ended."""
        if not self._jobs.acquire(timeout=JOB_TIMEOUT):
            raise InputError("the server is busy with other requests; try again in a moment")
        try:
            yield
        finally:
            self._jobs.release()

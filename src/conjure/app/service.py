"""What the web app computes, without its user interface, within limits: comparisons, matrices, rankings, drifts, finished runs.

Values of visitors are validated before anything is computed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from conjure.app import html
from conjure.app.answers import Answer, AnswerCache, Sampling, Settings
from conjure.app.comparison import TextComparison
from conjure.app.drift import OtherSettings, compute_drift
from conjure.app.jobs import Jobs
from conjure.app.labels import label_models, public_settings, replace_paths
from conjure.app.limits import Limits, VisitorInputError, visitor_values
from conjure.app.ranking import ranking_page
from conjure.app.runs import FinishedRuns
from conjure.app.thread_warnings import collect_warnings
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.loading import load
from conjure.diffusion.process import Process
from conjure.engine.store import Store
from conjure.errors import InputError
from conjure.io.text import shorten
from conjure.similarity.matrices import matrix
from conjure.similarity.nearest import nearest

EXAMPLES = (
    ("smiling face", "crying face"),
    ("dog", "animal"),
    ("a big red apple", "a small green apple"),
    ("a man is riding a horse", "a woman is riding a bicycle"),
)


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
        self._jobs = Jobs(self.limits.concurrency)

    def process(self, model: object, steps: int, guidance: float | None = None) -> Process:
        """Return the process of a model, which is loaded on first use.

        Args:
            model: One of `labels`.
            steps: The number of denoising steps.
            guidance: The guidance scale; None for that of the model.

        Raises:
            InputError: The model is not one of `labels`, cannot be loaded, or has no guidance.
        """
        model = self._validated_model(model)
        with self._load_locks[model]:
            if model not in self._processes:
                self._processes[model] = load(self.labels[model], **self.load_arguments)
        process = self._processes[model].set(steps=steps, store=self.store)
        return process if guidance is None else process.set(guidance=guidance)

    def public_message(self, error: InputError) -> str:
        """Return the message of an error for visitors, with names in place of the paths of models, runs, the store and home.

        An error in a value of the visitor is shown unchanged. A replaced path would confirm that the path exists.
        """
        if isinstance(error, VisitorInputError):
            return str(error)
        other = {str(self.runs): "the runs"} if self.runs else {}
        other |= {str(self.store.path): "the store"} if self.store else {}
        return replace_paths(str(error), {model: label for label, model in self.labels.items() if label != model}, other)

    def compare(
        self,
        a: object,
        b: object,
        settings: Settings,
        words: object = False,
        replacements: object = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[Answer]:
        """Compare two texts and yield answers with more and more images.

        Args:
            a: The first text.
            b: The second text.
            settings: The settings, as for all requests.
            words: Whether to measure the effects of words.
            replacements: Words to replace, as OLD=NEW, one per line; None or blank for none.
            progress: Called after each denoising step; its exceptions end the computation.

        Yields:
            Intermediate answers, then the complete one, which is cached. If the cache contains it, it is the only one.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        request = TextComparison.validated(self.limits, a, b, words, replacements)
        sampling = self._sampling(settings)
        key = ("compare", request, sampling)
        if cached := self._answers.get(key):
            yield cached
            return
        process = self._process(sampling)
        with self._jobs.job():
            for answer in request.answers(process, sampling, progress):
                yield answer
        self._answers.add(key, answer)

    def figure(
        self,
        a: object,
        b: object,
        settings: Settings,
        words: object = False,
        replacements: object = None,
        progress: ProgressCallback | None = None,
    ) -> str:
        """Return the figure of a comparison as the data URI of a PNG file. Arguments and errors are those of `compare`."""
        request = TextComparison.validated(self.limits, a, b, words, replacements)

        def compute(process: Process, sampling: Sampling, _: list[str]) -> Answer:
            return Answer("", request.figure(process, sampling, progress))

        return self._answer(("figure", request), settings, compute).body

    def matrix(self, lines: object, settings: Settings, progress: ProgressCallback | None = None) -> Answer:
        """Compare all pairs of texts.

        Args:
            lines: The texts, one per line.
            settings: The settings.
            progress: Called after each denoising step; its exceptions end the computation.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        texts = self.limits.validated_lines(lines)

        def compute(process: Process, sampling: Sampling, warnings: list[str]) -> Answer:
            with collect_warnings(warnings):
                result = matrix(process, texts, samples=sampling.samples, seed=sampling.seed, progress=progress)
            result = replace(result, process=public_settings(result.process, sampling.model))
            csv = result.to_csv()
            head = html.notes(warnings) + html.page_downloads("matrix", csv, result.heatmap())
            return Answer(head, html.iframe(result.to_html()), csv)

        return self._answer(("matrix", *texts), settings, compute)

    def nearest(self, text: object, lines: object, settings: Settings, progress: ProgressCallback | None = None) -> Answer:
        """Rank texts by their distance to one text. All of them have the same number of samples.

        Args:
            text: The text.
            lines: The candidates, one per line.
            settings: The settings.
            progress: Called after each denoising step; its exceptions end the computation.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        query, candidates = self.limits.validated_text(text), self.limits.validated_candidates(lines)
        top = len(candidates)  # so that no candidate is eliminated, and has fewer samples than the others

        def compute(process: Process, sampling: Sampling, warnings: list[str]) -> Answer:
            with collect_warnings(warnings):
                result = nearest(
                    process, query, candidates, top=top, samples=sampling.samples, seed=sampling.seed, progress=progress
                )
            csv = html.frame_csv(result.to_pandas())
            page = ranking_page(replace(result, process=public_settings(result.process, sampling.model)))
            return Answer(html.notes(warnings) + html.page_downloads("nearest", csv), html.iframe(page), csv)

        return self._answer(("nearest", query, *candidates), settings, compute)

    def drift(
        self,
        lines: object,
        guidance: object,
        steps: object,
        dtype: object,
        negative_prompt: object,
        settings: Settings,
        progress: ProgressCallback | None = None,
    ) -> Answer:
        """Compare the process of a model with one of other settings, on the same texts.

        Args:
            lines: The texts, one per line; blank for a sample of the built-in texts.
            guidance: The guidance of the other process; None or blank for no change, as for the next three.
            steps: Its number of denoising steps.
            dtype: The data type of its weights.
            negative_prompt: Its negative prompt.
            settings: The settings of the first process, and of both where they are not changed.
            progress: Called after each denoising step; its exceptions end the computation.

        Raises:
            InputError: A value is invalid or above a limit, or the processes are the same.
        """
        texts = self.limits.validated_drift_lines(lines)
        other = OtherSettings.validated(self.limits, guidance, steps, dtype, negative_prompt)

        def compute(process: Process, sampling: Sampling, warnings: list[str]) -> Answer:
            load_other = partial(load, self.labels[sampling.model], **self.load_arguments)
            with collect_warnings(warnings):
                result = compute_drift(process, other, load_other, texts, sampling.samples, sampling.seed, progress)
            process_a, process_b = (public_settings(side, sampling.model) for side in (result.process_a, result.process_b))
            result = replace(result, process_a=process_a, process_b=process_b)
            csv = result.to_csv()
            head = html.notes(warnings) + html.page_downloads("drift", csv)
            return Answer(head, html.iframe(result.document(trajectories=False).to_html()), csv)

        return self._answer(("drift", *texts, other), settings, compute)

    def finished_runs(self) -> list[str]:
        """Return the names of the runs with a report."""
        return self._runs.names()

    def table_of_runs(self) -> list[list[Any]]:
        """Return one row per finished run and dataset, see `FinishedRuns.table`."""
        return self._runs.table()

    def report(self, name: object) -> str:
        """Return the HTML report of a run.

        Raises:
            InputError: `name` is not one of `finished_runs`, or the run cannot be read.
        """
        return self._runs.report(name)

    def difference(self, first: object, second: object) -> str:
        """Return the HTML page of the differences between two runs.

        Raises:
            InputError: One of them is not one of `finished_runs`, cannot be read, or has no task in common with the other.
        """
        return self._runs.difference(first, second)

    def compute_examples(self) -> None:
        """Compute and cache the answers to the examples that are within the limits, while no visitor waits."""
        settings = (next(iter(self.labels)), *self.limits.default_sampling, 0, None)
        for a, b in EXAMPLES:
            with contextlib.suppress(InputError):
                self._jobs.run_when_idle(partial(self.compare, a, b, settings, False, None))

    def _sampling(self, settings: Settings) -> Sampling:
        model, samples, steps, seed, guidance = settings
        numbers = self.limits.validated_settings(samples, steps, seed)
        return Sampling(self._validated_model(model), *numbers, self.limits.validated_guidance("the guidance", guidance))

    @visitor_values()
    def _validated_model(self, model: object) -> str:
        if not isinstance(model, str) or model not in self.labels:
            raise InputError(f"the model {shorten(str(model))!r} is not available here; allowed are {', '.join(self.labels)}")
        return model

    def _process(self, sampling: Sampling) -> Process:
        return self.process(sampling.model, sampling.steps, sampling.guidance)

    def _answer(
        self, request: tuple[Any, ...], settings: Settings, compute: Callable[[Process, Sampling, list[str]], Answer]
    ) -> Answer:
        """Return the answer to a request, from the cache if it contains it.

        Args:
            request: What identifies the request, without its settings.
            settings: Its settings.
            compute: Returns the answer of a process with valid settings, and appends warnings to a list.
        """
        sampling = self._sampling(settings)
        key = (*request, sampling)
        if cached := self._answers.get(key):
            return cached
        process = self._process(sampling)
        with self._jobs.job():
            answer = compute(process, sampling, [])
        return self._answers.add(key, answer)

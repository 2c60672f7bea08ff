"""Evaluate a process on datasets of human ratings.

One set of trajectories gives the distance and all baselines of the paper (Liu and Soatto 2026, Table 1), because all of them are
computed from the same squared differences of predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from conjure.baselines.base import Baseline
from conjure.deprecation import renamed_keywords
from conjure.diffusion.batch_size import is_out_of_memory
from conjure.diffusion.interfaces import ResultCache
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.weightings import Weighting
from conjure.engine.store import Store
from conjure.errors import InputError
from conjure.evaluation.correlation import check_scores
from conjure.evaluation.datasets import Pairs, read
from conjure.evaluation.floors import add_floors, encoder_baseline, shuffle_texts
from conjure.evaluation.outlier_images import OutlierImages, outlier_images
from conjure.evaluation.pair_rows import check_choice
from conjure.evaluation.results import Evaluation, TaskResult
from conjure.evaluation.run_folder import STORE_NAME, open_run_folder, process_with_store, write_run_folder
from conjure.evaluation.task_statistics import compute_task_result
from conjure.evaluation.trajectories import run_trajectories
from conjure.io.files import import_pyarrow, keeping
from conjure.io.text import one_line
from conjure.io.version import package_version
from conjure.similarity.options import SamplingOptions
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache, non_finite_message

BASELINE_BATCH = 64  # pairs in one call of a baseline; an interrupted run loses at most these

PairDistances = Mapping[tuple[str, str], Float[np.ndarray, " samples"]]


@renamed_keywords(started="on_start")
def evaluate(
    process: Process,
    tasks: Sequence[Pairs | str],
    *,
    data: str | Path | None = None,
    max_pairs: int | None = None,
    shuffle: int | None = None,
    samples: int = 1,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    baselines: Sequence[Baseline] = (),
    floors: bool = True,
    out: str | Path | None = None,
    progress: ProgressCallback | None = None,
    on_start: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure the agreement of a process with human ratings.

    Args:
        process: The process: a model with its settings.
        tasks: Names of `conjure.evaluation.datasets.TASKS`, or pairs from `read_file` or `from_dataframe`.
        data: Folder of the named datasets; None reads them from the Hugging Face Hub, which has only the STS datasets and
            `sickr-all`.
        max_pairs: Use only the first pairs of each task, at most this many; None uses all.
        shuffle: Seed with which `max_pairs` random pairs of each task are chosen, instead of the first ones.
        samples: Number of Monte-Carlo samples k.
        seed: Seed of the noise.
        divergence: As in `conjure.distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        baselines: Other measures of the same pairs, from `conjure.make_baselines`.
        floors: Whether to measure what agreement the tasks allow without the images: that of the text encoder's cosine, and that
            of the process with shuffled texts, on at most 100 pairs of each task (`conjure.evaluation.floors`).
        out: Run folder: one Parquet and one CSV file per task, `summary.json`, the report and the files for the Hub. Unless the
            process has a store, the results of all trajectories are stored there too, so the same call resumes an interrupted
            run, and a call with more samples or other tasks reuses them.
        progress: Called after every denoising step.
        on_start: Called with a description of each part of the work, and a forecast of its run time, before it starts.

    Returns:
        Correlations with human ratings of each task.

    Raises:
        InputError: If an argument is not allowed, or the run folder cannot be written or contains a run of another process.
        OutputError: If the files of the result cannot be written; its attribute `result` is the result.

    Warns:
        TextTruncationWarning: If a text is truncated or contains unknown tokens.

    Reference:
        Liu and Soatto (2026), Table 1.
    """
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic,
    )  # fmt: skip
    check_choice(max_pairs, shuffle)
    task_pairs = [(read(task, data) if isinstance(task, str) else task).choose(max_pairs, shuffle) for task in tasks]
    _check_tasks(task_pairs)
    folder = None if out is None else Path(out)
    if folder is not None:
        import_pyarrow()
    options.validate(text for task in task_pairs for pair in task.texts for text in pair)
    warn_of_indistinct_texts(process, [pair for task in task_pairs for pair in task.texts])
    settings = process.settings()
    fingerprint = process.fingerprint() if folder is None and process.store is None else process.storable_fingerprint()
    if folder is not None:
        open_run_folder(folder, fingerprint, settings)
    with process_with_store(process, None if folder is None else folder / STORE_NAME) as stored_process:
        # baselines first: they are fast, and texts that they do not accept are reported before the long part
        baseline_distances = {
            baseline.name: _baseline_distances(baseline, task_pairs, stored_process.store, progress, on_start)
            for baseline in baselines
        }
        texts = [pair for task in task_pairs for pair in task.texts]
        cache = run_trajectories(stored_process, texts, options, final_latents=True, progress=progress, on_start=on_start)
        non_finite_texts = tuple(cache.non_finite_texts())
        results = {task.name: _evaluate_task(cache, task, non_finite_texts, options, baseline_distances) for task in task_pairs}
        if floors:
            encoder = encoder_baseline(process, baselines)
            encoder_distances = (
                baseline_distances.get("encoder")
                if encoder is None
                else _baseline_distances(encoder, task_pairs, stored_process.store, progress, on_start)
            )
            results = _with_floors(stored_process, results, encoder_distances, options, progress, on_start)
        images = OutlierImages() if folder is None else outlier_images(stored_process, cache, results)
    evaluation = Evaluation(
        tasks=results, config=options.config, process=settings, fingerprint=fingerprint, samples=samples, seed=int(seed),
        antithetic=antithetic, version=package_version(), non_finite_texts=non_finite_texts,
    )  # fmt: skip
    if folder is not None:
        with keeping(evaluation):
            write_run_folder(folder, evaluation, images)
    return evaluation


def _check_tasks(tasks: Sequence[Pairs]) -> None:
    """Check tasks before anything is computed.

    Raises:
        InputError: If there is no task, two have the same name, or no correlation is defined for the ratings of one.
    """
    names = [task.name for task in tasks]
    if not names:
        raise InputError("no task is given; give names of datasets, or pairs")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tasks have the name {name!r}; give different names, as in from_dataframe(frame, name='mine')")
    for task in tasks:
        check_scores(task.scores)


def _baseline_distances(
    baseline: Baseline,
    tasks: Sequence[Pairs],
    store: ResultCache | None,
    progress: ProgressCallback | None,
    on_start: Callable[[str], None] | None,
) -> PairDistances:
    """Return the distances of a baseline by pair; those in the store are not computed again."""
    pairs = list(dict.fromkeys(pair for task in tasks for pair in task.texts))
    stored = store.for_baseline(baseline.settings()) if isinstance(store, Store) else None
    distances = dict(stored.load()) if stored else {}
    missing = [pair for pair in pairs if pair not in distances]
    if on_start and missing:
        on_start(f"baseline {baseline.name}: {len(missing):,} of {len(pairs):,} pairs")
    for start in range(0, len(missing), BASELINE_BATCH):
        batch = missing[start : start + BASELINE_BATCH]
        batch_distances = _distances(baseline, batch)
        if stored:
            stored.add(batch, batch_distances)
        distances.update(zip(batch, batch_distances, strict=True))
        if progress:
            progress(start + len(batch), len(missing))
    return distances


def _distances(baseline: Baseline, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs samples"]:
    """Return the distances of a baseline.

    Raises:
        InputError: For any exception, since models that can be loaded may have weights or settings that do not work.
    """
    try:
        return baseline.distances(pairs)
    except InputError:
        raise
    except Exception as error:  # the classes of exceptions differ between libraries
        if is_out_of_memory(error):
            raise
        message = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"the baseline {baseline.name!r} has no distances: {message}; use another model") from error


def _evaluate_task(
    cache: TrajectoryCache,
    all_pairs: Pairs,
    non_finite_texts: Sequence[str],
    options: SamplingOptions,
    baseline_distances: Mapping[str, PairDistances],
) -> TaskResult:
    """Return the result of one task, without the pairs of `non_finite_texts`.

    Raises:
        InputError: If no correlation is defined for the remaining pairs.
    """
    pairs = all_pairs.without(non_finite_texts) if non_finite_texts else all_pairs
    try:
        check_scores(pairs.scores)
    except InputError as error:
        raise InputError(f"{non_finite_message(non_finite_texts)}; without them, in {pairs.title}: {error}") from error
    return compute_task_result(
        pairs,
        [cache.pair(*texts, options.samples) for texts in pairs.texts],
        options.config,
        antithetic=options.noise.antithetic,
        baseline_distances={
            name: np.stack([by_pair[texts] for texts in pairs.texts]) for name, by_pair in baseline_distances.items()
        },
        num_excluded=len(all_pairs) - len(pairs),
    )


def _with_floors(
    process: Process,
    results: Mapping[str, TaskResult],
    encoder_distances: PairDistances | None,
    options: SamplingOptions,
    progress: ProgressCallback | None,
    on_start: Callable[[str], None] | None,
) -> dict[str, TaskResult]:
    """Return the results of tasks with their floors. The trajectories of shuffled texts are run.

    Their results are stored like those of any other pair, because the distance of shuffled texts is that of two other texts.
    """
    shuffled = {name: shuffle_texts(result.pairs, options.noise.seed) for name, result in results.items()}
    pairs = [texts for task in shuffled.values() for texts in task.texts]
    cache = run_trajectories(
        process, pairs, replace(options, samples=1), kind=" with shuffled texts", final_latents=True, progress=progress,
        on_start=on_start,
    )  # fmt: skip
    return {name: add_floors(result, encoder_distances, cache, shuffled[name]) for name, result in results.items()}

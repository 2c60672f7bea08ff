"""Distances of a list of pairs without ratings, as a table. Trajectories, store and forecast are those of an evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.weightings import Weighting
from conjure.engine.store import Store
from conjure.engine.store_maintenance import summarize
from conjure.errors import InputError
from conjure.evaluation.distance_columns import SIMILARITY_COLUMNS, column_names, distance_columns, similarity_columns
from conjure.evaluation.distance_table import TABLE_SUFFIXES, DistanceTable
from conjure.evaluation.pair_files import DataFrame, PolarsDataFrame
from conjure.evaluation.run_folder import process_with_store
from conjure.evaluation.text_pairs import TextPairs, as_text_pairs
from conjure.evaluation.trajectories import run_trajectories
from conjure.io.files import check_output, import_pyarrow, keeping
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import run_metadata
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import non_finite_message


def distance_table(
    process: Process,
    pairs: TextPairs | DataFrame | PolarsDataFrame | Iterable[tuple[str, str]],
    *,
    samples: int = 3,
    seed: int = 0,
    divergences: Sequence[Divergence] = ("jeffreys",),
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    out: str | Path | None = None,
    raw_texts: bool = False,
    progress: ProgressCallback | None = None,
    on_start: Callable[[str], None] | None = None,
) -> DistanceTable:
    """Return the distances of many pairs as a table, with the other columns of the pairs.

    Args:
        process: The process: a model with its settings.
        pairs: Tuples of two texts, a data frame of pandas or polars, or pairs from `conjure.read_text_pairs`.
        samples: Number of Monte-Carlo samples k. Standard errors need at least two. From 10 pairs on, they are pooled over pairs.
        seed: Seed of the noise.
        divergences: The divergences, all from the same trajectories. The first one is the column `distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        out: A .csv, .jsonl or .parquet file for the table. Unless the process has a store, results are stored beside it in
            `OUT.store` until it is complete, so that the same call resumes an interrupted run. The store is kept if it also has
            results of other processes.
        raw_texts: Write texts unchanged to a .csv file, also those that a spreadsheet would run as formulas.
        progress: Called after every denoising step.
        on_start: Called with a description of the work, and a forecast of its run time, before it starts.

    Returns:
        The table, with one row per pair, in order. Its values equal those of `conjure.distance`, except for pooled errors.

    Raises:
        InputError: If an argument is not allowed, or a column of the pairs has the name of a column of the result.
        OutputError: If the table cannot be written; its attribute `result` is the table.

    Warns:
        TextTruncationWarning: If a text is truncated.
    """
    if isinstance(divergences, str) or not divergences or len(set(divergences)) != len(divergences):
        raise InputError(f"divergences is {divergences!r}; must be one or more different names, as in ('jeffreys', 'kl')")
    all_options = [
        SamplingOptions.create(
            process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
            reduction=reduction, antithetic=antithetic,
        )
        for divergence in divergences
    ]  # fmt: skip
    options, configs = all_options[0], [options.config for options in all_options]
    path = None if out is None else check_output(out, TABLE_SUFFIXES, "table")
    if path is not None and path.suffix.lower() == ".parquet":
        import_pyarrow()
    table = as_text_pairs(pairs)
    metadata = run_metadata(process, options)
    table.check_no_column(column_names(divergences))
    for checked_options in all_options:
        checked_options.validate(text for pair in table.texts for text in pair)
    warn_of_indistinct_texts(process, table.texts)
    store_path = None if path is None or process.store is not None else path.with_name(f"{path.name}.store")
    with process_with_store(process, store_path) as stored_process:
        cache = run_trajectories(
            stored_process, table.texts, options, final_latents="direct" in divergences, progress=progress, on_start=on_start
        )
        non_finite_texts = tuple(cache.non_finite_texts())
        finite = [i for i, pair in enumerate(table.texts) if not set(pair) & set(non_finite_texts)]
        if not finite:
            raise InputError(
                f"no pair has a distance: {non_finite_message(non_finite_texts)}; use a smaller guidance, or float32"
            )
        differences = [cache.pair(*table.texts[i], samples) for i in finite]
        store = stored_process.store
        holds_only_one = store_path is not None and isinstance(store, Store) and len(summarize(store)) <= 1
    finite_columns, errors = distance_columns(differences, configs)
    if metadata["scale"] and not set(SIMILARITY_COLUMNS) & set(table.all_columns):  # those of ratings are kept
        finite_columns |= similarity_columns(finite_columns, metadata["scale"])
    columns = {}
    for name, values in finite_columns.items():
        columns[name] = np.full(len(table), np.nan)
        columns[name][finite] = values
    result = DistanceTable(
        table, columns, tuple(divergences), {config.divergence: config.unit_label for config in configs}, samples=samples,
        pooled_pairs=errors.pooled_pairs, degrees_of_freedom=errors.degrees_of_freedom, non_finite_texts=non_finite_texts,
        **{name: value for name, value in metadata.items() if name not in ("divergence", "unit", "scale")},
    )  # fmt: skip
    if path is not None:
        with keeping(result):
            result.save(path, raw=raw_texts)
        if store_path is not None and holds_only_one:
            _remove_store(store_path)
    return result


def _remove_store(path: Path) -> None:
    """Remove a store whose results are in the table."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(f"{path.name}{suffix}").unlink()

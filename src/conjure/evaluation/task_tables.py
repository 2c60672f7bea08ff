"""The tables of the pairs of a task in a run folder: a Parquet file with everything, and a CSV file for spreadsheets."""

from __future__ import annotations

from pathlib import Path

from conjure.evaluation.results import TaskResult
from conjure.io.csv_files import csv_text
from conjure.io.files import import_pyarrow, parquet_bytes, write_output
from conjure.io.numbers import none_if_not_finite

LISTS = ("per_step", "samples")  # columns of lists, which the CSV file does not have


def write_task_tables(folder: Path, name: str, result: TaskResult) -> None:
    """Write one row per pair: texts, rating, subset, distance with its error, all divergences, steps, samples, baselines.

    Args:
        folder: The run folder.
        name: The name of the task, and of the files `NAME.parquet` and `NAME.csv`.
        result: The result.

    Raises:
        InputError: If a file cannot be written, or pyarrow is not installed.
    """
    pyarrow, _ = import_pyarrow()
    columns, errors = result.columns()
    columns |= {
        "raw_stderr": errors.raw_stderr,
        "per_step": [result.config.per_step(differences).total.mean(0).tolist() for differences in result.differences],
        "samples": result.distances.tolist(),
        **{f"baseline_{baseline}": comparison.distances.mean(1) for baseline, comparison in result.baselines.items()},
    }
    table = pyarrow.table(
        columns,
        metadata={
            "task": result.pairs.name,
            "data": result.pairs.sha256,
            "divergence": result.config.divergence,
            "weighting": result.config.weighting,
            "unit": result.config.unit_label,
            "stderr_pooled_pairs": str(errors.pooled_pairs),
            "stderr_degrees_of_freedom": str(errors.degrees_of_freedom),
        },
    )
    write_output(folder / f"{name}.parquet", parquet_bytes(table))
    scalars = {column: values for column, values in columns.items() if column not in LISTS}
    rows = zip(*(map(none_if_not_finite, values) for values in scalars.values()), strict=True)
    write_output(folder / f"{name}.csv", csv_text([list(scalars), *rows]).encode())

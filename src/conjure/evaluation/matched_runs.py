"""The pairs that runs have in common: their tasks, and the distances of all runs in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.errors import InputError
from conjure.evaluation.run_folder import Run
from conjure.evaluation.run_schema import TaskTable


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the folders of runs, or their paths if two names are equal."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def common_tasks(runs: Sequence[Run]) -> list[str]:
    """Return the names of the tasks that all runs have.

    Raises:
        InputError: If there is none.
    """
    common = [name for name in runs[0].tables if all(name in run.tables for run in runs)]
    if not common:
        names = " and ".join(", ".join(run.tables) for run in runs)
        raise InputError(f"the runs have no common task; they have {names}; run conjure bench on the same tasks")
    return common


def matched_distances(
    name: str, runs: Sequence[Run]
) -> tuple[Float[np.ndarray, " pairs"], list[Float[np.ndarray, "pairs samples"]]]:
    """Return the ratings of the pairs of a task, and their distances in each run, all in the order of the first run.

    Args:
        name: A task that all runs have.
        runs: The runs.

    Raises:
        InputError: If two runs have different pairs.
    """
    first = runs[0].tables[name]
    first_keys = _pair_keys(first)
    distances = []
    for run in runs:
        keys = _pair_keys(run.tables[name])
        if set(keys) != set(first_keys):
            raise InputError(
                f"the runs have different pairs for the task {name!r} ({len(first_keys)} and {len(keys)} pairs); run both on "
                "the same data, with the same --max-pairs"
            )
        rows = {key: row for row, key in enumerate(keys)}
        distances.append(np.array(run.tables[name].columns["samples"])[[rows[key] for key in first_keys]])
    return np.array(first.columns["score"]), distances


def _pair_keys(table: TaskTable) -> list[tuple[Any, ...]]:
    """Return what identifies each pair of a task: its texts, rating and subset, and how many equal pairs precede it."""
    num_equal: Counter[tuple[Any, ...]] = Counter()
    keys = []
    for pair in zip(*(table.columns[column] for column in ("text1", "text2", "score", "part")), strict=True):
        keys.append((*pair, num_equal[pair]))
        num_equal[pair] += 1
    return keys

"""What the files of a run must contain. They are checked when they are read, because they may be incomplete or changed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from conjure.diffusion.noise_levels import UNITS
from conjure.errors import InputError
from conjure.evaluation.pair_files import pairs_hash
from conjure.io.files import import_pyarrow
from conjure.io.text import one_line


class Rule(NamedTuple):
    """The allowed values of a key.

    Attributes:
        allowed: The allowed values in words.
        is_valid: Whether a value is allowed.
    """

    allowed: str
    is_valid: Callable[[Any], bool]


def _is_integer(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.allowed} or null", lambda value: value is None or rule.is_valid(value))


def _are_adapters(values: Any, key: str) -> bool:
    """Return whether values are adapters of a model: objects with a name, `key` and the hash of a file."""
    return isinstance(values, list) and all(
        isinstance(value, dict)
        and set(value) == {"name", key, "sha256"}
        and isinstance(value["name"], str)
        and isinstance(value["sha256"], str)
        and (_is_number(value[key]) if key == "weight" else isinstance(value[key], str))
        for value in values
    )


TEXT = Rule("a string", lambda value: isinstance(value, str))
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
COUNT = Rule("an integer >= 1", lambda value: _is_integer(value, 1))

PROCESS_RULES = {
    "model": TEXT,
    "revision": _or_null(TEXT),
    "pipeline": TEXT,
    "scheduler": TEXT,
    "scheduler_config": OBJECT,
    "steps": COUNT,
    "guidance": _or_null(Rule("a finite number", _is_number)),
    "height": _or_null(COUNT),
    "width": _or_null(COUNT),
    "default_unit": Rule(f"one of {', '.join(UNITS)}", lambda value: value in tuple(UNITS)),
    "batch_prompts": Rule("a boolean", lambda value: isinstance(value, bool)),
    "pipeline_kwargs": OBJECT,
    "dtype": TEXT,
}
# Entries that runs of earlier versions lack
LOAD_RULES = {
    "variant": _or_null(TEXT),
    "lora": Rule("a list of objects with name, weight and sha256", lambda value: _are_adapters(value, "weight")),
    "textual_inversion": Rule("a list of objects with name, token and sha256", lambda value: _are_adapters(value, "token")),
    "quantize": _or_null(TEXT),
    "offload": _or_null(TEXT),
}
SUMMARY_RULES = {
    "tasks": Rule("an object with at least one task", lambda value: isinstance(value, dict) and bool(value)),
    "process": OBJECT,
    "fingerprint": TEXT,
    "measure": OBJECT,
    "samples": COUNT,
    "seed": Rule("an integer >= 0", lambda value: _is_integer(value, 0)),
}
MEASURE_RULES = {"divergence": TEXT, "weighting": TEXT, "unit": TEXT}
TASK_RULES = {"title": TEXT, "data": TEXT}


def check_object(values: Any, rules: Mapping[str, Rule], what: str) -> None:
    """Check the values of an object. Other keys than those of the rules are allowed.

    Args:
        values: The object.
        rules: The allowed values of each required key.
        what: What the object is, for messages.

    Raises:
        InputError: If it is no object, a key is missing, or a value is not allowed.
    """
    if not isinstance(values, dict):
        raise InputError(f"{what} is not an object")
    for key, rule in rules.items():
        if key not in values:
            raise InputError(f"{what} has no {key}")
        if not rule.is_valid(values[key]):
            raise InputError(f"{key} in {what} is {str(values[key])[:40]!r}; must be {rule.allowed}")


def check_summary(summary: Any) -> None:
    """Check the content of a `summary.json` with the current keys.

    Raises:
        InputError: If it is not what a run contains.
    """
    check_object(summary, SUMMARY_RULES, "summary.json")
    check_object(summary["measure"], MEASURE_RULES, "the measure in summary.json")
    process = summary["process"]
    check_object(process, PROCESS_RULES, "the process in summary.json")
    check_object(process, {name: rule for name, rule in LOAD_RULES.items() if name in process}, "the process in summary.json")
    for name, task in summary["tasks"].items():
        if Path(name).name != name or "\0" in name:  # it is the name of a file in the folder
            raise InputError(f"summary.json has a task {name[:40]!r}, which is not a name of a file")
        check_object(task, TASK_RULES, f"the task {name!r} in summary.json")


class TaskTable(NamedTuple):
    """The pairs of a task and their distances, from the Parquet file of a run.

    Attributes:
        columns: The columns text1, text2, score, part (the subset) and samples.
        data_hash: Hash of texts, ratings and subsets (`Pairs.sha256`).
    """

    columns: dict[str, list[Any]]
    data_hash: str


def distances_hash(distances: Float[np.ndarray, "pairs samples"]) -> str:
    """Return the SHA-256 of distances."""
    array = np.ascontiguousarray(distances, dtype="<f8")
    return hashlib.sha256(f"{array.shape} ".encode() + array.tobytes()).hexdigest()


def read_table(path: Path, task: Mapping[str, Any], samples: int) -> TaskTable:
    """Read the Parquet file of a task.

    Args:
        path: The file.
        task: The task in the summary of the run.
        samples: Number of Monte-Carlo samples of the run.

    Raises:
        InputError: If the file cannot be read, a column is missing or has other values, or texts, ratings, subsets or distances
            do not match the hashes in the summary.
    """
    pyarrow, parquet = import_pyarrow()
    types = pyarrow.types
    column_rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "text1": ("strings", types.is_string),
        "text2": ("strings", types.is_string),
        "score": ("numbers of 64 bits", types.is_float64),
        "part": ("strings or null", lambda kind: types.is_string(kind) or types.is_null(kind)),
        "samples": ("lists of numbers of 64 bits", lambda kind: types.is_list(kind) and types.is_float64(kind.value_type)),
    }
    if path.exists() and not path.is_file():  # a pipe without a writer would block
        raise InputError(f"{path.name} is not a regular file")
    try:
        table = parquet.ParquetFile(path).read(columns=list(column_rules))
        for name, (allowed, is_valid) in column_rules.items():
            if table.column_names.count(name) != 1 or not is_valid(table.schema.field(name).type):
                raise InputError(f"{path.name} must have one column {name} of {allowed}")
        columns = table.to_pydict()
    except (OSError, UnicodeError, pyarrow.ArrowException) as error:
        raise InputError(f"{path.name} cannot be read: {one_line(error)}") from error
    for name in ("text1", "text2", "score"):
        if None in columns[name]:
            raise InputError(f"{path.name} has a row without {name}")
    rows = columns["samples"]
    if not all(row is not None and len(row) == samples and None not in row for row in rows):
        raise InputError(f"{path.name} must have {samples} samples in each row")
    if not rows or not np.isfinite(np.array(rows)).all() or not np.isfinite(columns["score"]).all():
        raise InputError(f"{path.name} must have at least one row, and finite scores and samples")
    subset = None if all(part is None for part in columns["part"]) else tuple(columns["part"])
    found = pairs_hash(tuple(columns["text1"]), tuple(columns["text2"]), columns["score"], subset)
    if found != task["data"]:
        raise InputError(f"{path.name} has other pairs than the run, because their hash differs from that in summary.json")
    recorded = task.get("distances_sha256", distances_hash(np.array(rows)))  # earlier versions recorded no hash of distances
    if recorded != distances_hash(np.array(rows)):
        raise InputError(f"{path.name} has other distances than the run, because their hash differs from that in summary.json")
    return TaskTable(columns, found)

"""Distances of many pairs as a table: one row per pair, with the columns of the input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.intervals import few_samples_note, pooled_note
from conjure.divergence.reference_scale import UNCALIBRATED
from conjure.evaluation.distance_columns import SIMILARITY_COLUMNS
from conjure.evaluation.text_pairs import TextPairs
from conjure.io.csv_files import csv_text
from conjure.io.documents import rows_to_html
from conjure.io.files import check_output, import_pandas, import_pyarrow, parquet_bytes, write_output
from conjure.io.formatting import format_value, pluralize
from conjure.io.numbers import none_if_not_finite
from conjure.io.text import quote_and_wrap
from conjure.plotting.charts import BAR_COLOR
from conjure.plotting.output import axes_or_new
from conjure.similarity.trajectory_cache import non_finite_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
MAX_TEXT = 40  # characters of a text in the short description


@dataclass(frozen=True)
class DistanceTable:
    """The distances of many pairs.

    Attributes:
        pairs: The pairs, with the columns of their table.
        columns: The columns of the result by name: `distance`, `stderr`, `ci95_low`, `ci95_high`, `forward`, `backward`, and for
            each further divergence its name, alone and before `_stderr`, `_ci95_low` and `_ci95_high`; if the process is
            calibrated also `similarity`, `similarity_ci95_low` and `similarity_ci95_high`. NaN where a value is unknown: errors
            with one sample, and all values of pairs with a text of `non_finite_texts`.
        divergences: The divergences; the first one is `distance`.
        units: The unit of each divergence.
        samples: Number of Monte-Carlo samples k.
        weighting: The weighting of the steps.
        antithetic: Whether the two texts of a pair start from opposite noise.
        seed: Seed of the noise.
        pooled_pairs: Number of pairs whose variances were pooled for `stderr`; 0 if none were.
        degrees_of_freedom: The degrees of freedom of `stderr`.
        non_finite_texts: Texts for which the model's predictions are not finite.
        process: Settings of the process.
        fingerprint: Fingerprint of the process.
        version: Version of the package.
    """

    pairs: TextPairs
    columns: dict[str, Float[np.ndarray, " pairs"]]
    divergences: tuple[str, ...]
    units: dict[str, str]
    samples: int
    weighting: str
    antithetic: bool
    seed: int
    pooled_pairs: int
    degrees_of_freedom: float
    non_finite_texts: tuple[str, ...]
    process: dict[str, Any]
    fingerprint: str
    version: str

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on pairs without a distance, on the errors, and on missing similarities."""
        missing = f"{non_finite_message(self.non_finite_texts)}; their distances are empty" if self.non_finite_texts else None
        notes = (missing, pooled_note(self.pooled_pairs), few_samples_note(self.samples), self._similarity_note())
        return tuple(note for note in notes if note is not None)

    def _similarity_note(self) -> str | None:
        if "similarity" in self.columns:
            return None
        taken = sorted(set(SIMILARITY_COLUMNS) & set(self.pairs.all_columns))
        return f"the column {taken[0]!r} is that of the input; rename it to get similarities" if taken else UNCALIBRATED

    def metadata(self) -> dict[str, Any]:
        """Return how the distances were computed, as plain data for JSON."""
        names = ("divergences", "units", "samples", "weighting", "antithetic", "seed", "pooled_pairs", "degrees_of_freedom",
                 "notes", "process", "fingerprint", "version")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one mapping from column to value per pair; None where a value is unknown."""
        columns = self.pairs.all_columns
        results = [
            dict(zip(self.columns, values, strict=True)) for values in zip(*map(_plain, self.columns.values()), strict=True)
        ]
        return [
            {column: None if _is_nan(value := row.get(column)) else value for column in columns} | result
            for row, result in zip(self.pairs.rows, results, strict=True)
        ]

    def to_pandas(self) -> DataFrame:
        """Return one row per pair as a pandas data frame.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self.to_rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a histogram of the distances, and return the axes of matplotlib. Pairs without a distance are left out.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        axes, distances = axes_or_new(ax), self.columns["distance"]
        axes.hist(distances[np.isfinite(distances)], bins="auto", color=BAR_COLOR)
        axes.set(xlabel=f"{self.divergences[0]}, {self.units[self.divergences[0]]}", ylabel="pairs")
        return axes

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self.to_rows())

    def to_csv(self, *, raw: bool = False) -> str:
        """Return one row per pair as comma-separated values; unknown values are empty.

        Args:
            raw: Write texts unchanged. Otherwise a text that a spreadsheet would run as a formula gets an apostrophe before it.
        """
        rows = self.to_rows()
        return csv_text([list(rows[0]), *(row.values() for row in rows)], raw=raw)

    def to_jsonl(self) -> str:
        """Return one row per pair as JSON Lines; unknown and infinite values are null."""
        return "".join(json.dumps(_jsonable(row), allow_nan=False, default=str) + "\n" for row in self.to_rows())

    def to_parquet(self) -> bytes:
        """Return a Parquet file with one row per pair. Its metadata has the key `conjure`: JSON of `metadata()`.

        Raises:
            InputError: If pyarrow is not installed.
        """
        pyarrow, _ = import_pyarrow()
        rows = self.to_rows()
        table = pyarrow.table(
            {column: _arrow_array(pyarrow, [row[column] for row in rows]) for column in rows[0]},
            metadata={"conjure": json.dumps(self.metadata(), default=str)},
        )
        return parquet_bytes(table)

    def save(self, path: str | Path, *, raw: bool = False) -> None:
        """Write the table to a .csv, .jsonl or .parquet file.

        Args:
            path: The file.
            raw: As in `to_csv`.

        Raises:
            InputError: If the suffix is another one, the file cannot be written, or pyarrow is not installed for Parquet.
        """
        path = check_output(path, TABLE_SUFFIXES, "table")
        match path.suffix.lower():
            case ".parquet":
                content = self.to_parquet()
            case ".jsonl":
                content = self.to_jsonl().encode()
            case _:
                content = self.to_csv(raw=raw).encode()
        write_output(path, content, make_folders=False)

    def __str__(self) -> str:
        first, *others = self.divergences
        lines = [f"{pluralize(len(self), 'pair')}, {first}, {self.units[first]}{''.join(f'; {name}' for name in others)}"]
        distances = self.columns["distance"]
        if np.isfinite(distances).any():
            ends = [(word, index(distances)) for word, index in (("smallest", np.nanargmin), ("largest", np.nanargmax))]
            for word, i in ends:
                texts = " and ".join(quote_and_wrap(text, MAX_TEXT) for text in self.pairs.texts[i])
                lines.append(f"  {word} {format_value(distances[i], self.columns['stderr'][i])}: {texts}")
        lines.append(f"  {pluralize(self.samples, 'sample')}, seed {self.seed}; {summarize_settings(self.process)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _plain(values: Float[np.ndarray, " pairs"]) -> list[float | None]:
    return [none_if_not_finite(value) for value in values.tolist()]


def _jsonable(value: Any) -> Any:
    """Return a value of a table with None for each NaN and infinity within it, which JSON does not define."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(part) for part in value]
    return none_if_not_finite(value)


def _arrow_array(pyarrow: Any, values: list[Any]) -> Any:
    """Return values as a column; values of different types as their texts, and nested values as JSON."""
    if any(isinstance(value, Mapping | list | tuple) for value in values):
        return pyarrow.array([None if value is None else json.dumps(_jsonable(value), default=str) for value in values])
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.array([None if value is None else str(value) for value in values])

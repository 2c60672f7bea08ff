"""The report of a drift: its settings, tables, notes and images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from conjure.diffusion.load_options import describe_changes
from conjure.diffusion.media import KIND_NAMES
from conjure.divergence.intervals import MIN_POOLED_PAIRS, few_samples_note
from conjure.io.documents import Document, Table
from conjure.io.formatting import pluralize
from conjure.process_drift.tables import group_table, summary_table

if TYPE_CHECKING:
    from conjure.process_drift.results import Drift

SAMPLING_NOTE = "Both processes make the same predictions, but their final latents differ: they differ only in how they sample."


def drift_document(drift: Drift, max_rows: int | None, images: Mapping[str, bytes]) -> Document:
    """Return the tables and the notes of a result as a document.

    Args:
        drift: The result.
        max_rows: The largest number of rows in the table of texts; None for all.
        images: PNG files by their titles.
    """
    shown = drift.texts if max_rows is None else drift.texts[:max_rows]
    has_relative = not math.isnan(drift.texts[0].relative.value)
    settings = [
        f"{drift.labels[0]} against {drift.labels[1]}; {_shared_settings(drift)}"
        f"{pluralize(drift.samples, 'sample')}, seed {drift.seed}; conjure {drift.version}",
        "; ".join(f"{name}: {outcome}" for name, outcome in drift.checks.items()),
    ]
    kind = KIND_NAMES[drift.kind]
    if has_relative:
        settings.append(
            "Relative: the divergence, divided by the distance between the text and the empty text under process A. Nats: the "
            f"mean of the Kullback-Leibler divergences of both directions. Final {kind}, relative: the squared distance between "
            "the final latents of both processes from the same noise, divided by that between the text and the empty text."
        )
    if drift.only_sampling_differs:
        settings.append(SAMPLING_NOTE)
    columns = ("text", f"divergence, {drift.unit}", "95% CI", "relative", "95% CI", "nats", f"final {kind}, relative")
    title = "Texts, from the largest divergence to the smallest"
    tables = [Table(title, columns, [text.to_cells() for text in shown]), summary_table(drift.summary)]
    if drift.groups:
        tables.insert(0, group_table(drift.groups, None if has_relative else drift.unit))
    return Document("Drift", settings, tables, " ".join(_notes(drift, len(shown))), images)


def _shared_settings(drift: Drift) -> str:
    """Return the main settings in which both processes agree, with a semicolon after them."""
    a, b = drift.process_a, drift.process_b
    names = {"model": "model ", "scheduler": "", "steps": "T = "}
    shared = [f"{label}{a[name]}" for name, label in names.items() if a[name] == b[name]]
    changes = describe_changes(b)
    shared += [change for change in describe_changes(a) if change in changes]
    return ", ".join(shared) + "; " if shared else ""


def _notes(drift: Drift, shown: int) -> list[str]:
    above = sum(text.is_above_noise for text in drift.texts)
    notes = [
        f"The numerical noise of the processes, measured with batches of another size, is at most {drift.noise:.1g}. "
        f"For {above} of {pluralize(len(drift.texts), 'text')}, the divergence is larger than this noise."
    ]
    if shown < len(drift.texts):
        notes.append(f"{pluralize(len(drift.texts) - shown, 'more text')} in the output file (--out).")
    if drift.samples > 1 and len(drift.texts) >= MIN_POOLED_PAIRS:
        notes.append(f"The standard errors are pooled over {len(drift.texts)} texts.")
    if (note := few_samples_note(drift.samples)) is not None:
        notes.append(f"{note[0].upper()}{note[1:]}.")
    return notes

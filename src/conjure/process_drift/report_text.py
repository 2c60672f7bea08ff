"""The sentences of the report of a drift: its settings, the terms of its tables, and notes on its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conjure.diffusion.load_options import describe_changes
from conjure.diffusion.media import KIND_NAMES
from conjure.divergence.intervals import MIN_POOLED_PAIRS, few_samples_note
from conjure.io.formatting import pluralize
from conjure.plotting.media import MediaKind
from conjure.process_drift.text_drift import TextDrift

SAMPLING_NOTE = "Both processes make the same predictions, but their final latents differ: they differ only in how they sample."


def shared_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Return the main settings in which two processes agree, with a semicolon after them."""
    names = {"model": "model ", "scheduler": "", "steps": "T = "}
    shared = [f"{label}{a[name]}" for name, label in names.items() if a[name] == b[name]]
    changes = describe_changes(b)
    shared += [change for change in describe_changes(a) if change in changes]
    return ", ".join(shared) + "; " if shared else ""


def column_terms(kind: MediaKind) -> str:
    """Return what the columns of relative values and nats mean."""
    return (
        "Relative: the divergence, divided by the distance between the text and the empty text under process A. Nats: the mean "
        f"of the Kullback-Leibler divergences of both directions. Final {KIND_NAMES[kind]}, relative: the squared distance "
        "between the final latents of both processes from the same noise, divided by that between the text and the empty text."
    )


def error_notes(texts: Sequence[TextDrift], noise: float, num_shown: int) -> str:
    """Return the notes below the tables: on the numerical noise, on texts that are not shown, and on standard errors.

    Args:
        texts: All texts.
        noise: The numerical noise of the processes.
        num_shown: The number of texts in the table.
    """
    samples, num_above = len(texts[0].samples), sum(text.is_above_noise for text in texts)
    notes = [
        f"The numerical noise of the processes, measured with batches of another size, is at most {noise:.1g}. "
        f"For {num_above} of {pluralize(len(texts), 'text')}, the divergence is larger than this noise."
    ]
    if num_shown < len(texts):
        notes.append(f"{pluralize(len(texts) - num_shown, 'more text')} in the output file (--out).")
    if samples > 1 and len(texts) >= MIN_POOLED_PAIRS:
        notes.append(f"The standard errors are pooled over {len(texts)} texts.")
    if (note := few_samples_note(samples)) is not None:
        notes.append(f"{note[0].upper()}{note[1:]}.")
    return " ".join(notes)

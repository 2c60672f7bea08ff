"""The sentences of the report of a drift: its result, its settings, the terms of its tables, and notes on its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conjure.diffusion.load_options import describe_changes
from conjure.diffusion.media import KIND_NAMES
from conjure.divergence.intervals import few_samples_note, pool_errors
from conjure.divergence.terms import process_terms
from conjure.io.formatting import pluralize
from conjure.io.text import capitalize_first
from conjure.plotting.media import MediaKind
from conjure.process_drift.statistics import Summary
from conjure.process_drift.text_drift import TextDrift

SAMPLING_NOTE = "Both processes make the same predictions, but their final latents differ: they differ only in how they sample."


def shared_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Return the main settings in which two processes agree, with a semicolon after them."""
    names = {"model": "model ", "scheduler": "", "steps": "T = "}
    shared = [f"{label}{a[name]}" for name, label in names.items() if a[name] == b[name]]
    changes = describe_changes(b)
    shared += [change for change in describe_changes(a) if change in changes]
    return ", ".join(shared) + "; " if shared else ""


def verdict(summary: Mapping[str, Summary], unit: str) -> str:
    """Return in one sentence how much two processes differ on average.

    Args:
        summary: The distributions of the values over texts.
        unit: The unit of the divergence.
    """
    is_relative = "relative" in summary
    shown = summary["relative" if is_relative else "divergence"]
    mean = shown.mean.as_percentage() if is_relative else shown.mean
    amount = f"{mean}% of the distance between a text and the empty text" if is_relative else f"{mean}, {unit}"
    interval = f"; 95% CI: {mean.interval}{'%' if is_relative else ''}" if mean.interval else ""
    return f"Process B differs from process A by {amount} (mean over {pluralize(shown.texts, 'text')}{interval})."


def glossary(process: Mapping[str, Any], unit: str) -> dict[str, str]:
    """Return the explanations of the terms of the report, by term.

    Args:
        process: The settings of process A.
        unit: The unit of the divergence.
    """
    compared = "the images that both processes predict" if "pixels" in unit else "the predictions of both processes"
    return {
        "trajectory": "The sequence of images from pure noise to the final image. Each process has one for each text.",
        "divergence": f"The squared difference between {compared} for the same noisy image, summed over the elements of the "
        "image and averaged over steps. The results for the trajectories of A and of B are added.",
        "sample": "The trajectories that start from one random noise. Another sample starts from other noise.",
        "±": "The standard error. In the table of texts it is the error of a mean over samples. In the first sentence, the "
        "summary and the table of groups, it is the error of a mean over texts. The 95% CI is the 95% confidence interval.",
        "empty text": "The prompt without words. It does not restrict the image.",
        "nats": "The unit of a Kullback-Leibler divergence between the distributions of the trajectories of both processes.",
        **process_terms(process),
        "latent shape": "The model computes with latents, which are compressed images: values by channel, row and column.",
        "autoencoder": "The part of the model that encodes images as latents, and decodes latents to images.",
        "prediction type": "What the model predicts from a noisy latent: the noise (epsilon), the latent without noise (x0; "
        "diffusers calls it sample), or a linear combination of both (v_prediction, flow).",
    }


def column_terms(kind: MediaKind) -> str:
    """Return what the columns of relative values and nats mean."""
    return (
        "Relative: the divergence, divided by the distance between the text and the empty text under process A (both squared). "
        "Nats: the mean of the Kullback-Leibler divergences of both directions. "
        f"Final {KIND_NAMES[kind]}, relative: the squared distance between the final latents of both processes, which start from "
        "the same noise, divided by that between the text and the empty text."
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
    if pooled := pool_errors(np.array([text.samples for text in texts])).pooled_pairs:
        notes.append(f"The standard errors are pooled over {pooled} texts.")
    if (note := few_samples_note(samples)) is not None:
        notes.append(f"{capitalize_first(note)}.")
    return " ".join(notes)

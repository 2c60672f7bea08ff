"""Explanations of the terms on the pages of results, for readers who see them for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIVERGENCE_TERMS = {
    "jeffreys": "The distance is the Jeffreys divergence: it is computed along the trajectories of both texts, so that their "
    "order does not matter.",
    "kl": "The distance is the Kullback-Leibler divergence: it is computed along the trajectories of the first text only, so "
    "that the order of the texts matters.",
    "initial": "The distance is the Jeffreys divergence of the first step only, which starts from pure noise.",
    "final": "The distance is the Jeffreys divergence of the last step only.",
    "direct": "The distance compares the ends of the trajectories of both texts, which start from the same noise.",
}
SAMPLING_TERMS = {
    "sample": "The trajectories that start from one random noise, one for each text. Another sample starts from other noise.",
    "±": "The standard error: how far the mean over samples is typically from its value for infinitely many samples. The 95% CI "
    "is the 95% confidence interval of this value. With few samples, its half-width is more than twice the standard error.",
}
SIMILARITY_TERM = (
    "The share of pairs of unrelated texts that are farther apart than this pair. It needs a calibration: the distances of 300 "
    "pairs of unrelated texts, computed with the same model and settings."
)


def process_terms(process: Mapping[str, Any]) -> dict[str, str]:
    """Return the explanations of the settings that the summary of a process contains, by term.

    Args:
        process: What `Process.settings` returns.
    """
    scheduler = str(process["scheduler"])
    counts_from_noise = process.get("scheduler_config", {}).get("invert_sigmas")  # Mochi
    extreme = "smallest" if counts_from_noise else "largest"
    terms = {
        "step": f"A step of denoising. Its timestep t is the noise level as a number: t is {extreme} at the first step, which "
        "starts from pure noise.",
        scheduler: "The scheduler: the algorithm that defines the noise levels, and computes each noisy image from the last one.",
    }
    if process["guidance"] is not None:
        terms["guidance"] = "The guidance scale: how strongly the image follows the text."
    return terms


def distance_terms(divergence: str, unit: str, process: Mapping[str, Any], *, is_calibrated: bool) -> dict[str, str]:
    """Return the explanations of the terms of a page with distances between texts, by term.

    Args:
        divergence: One of `divergences.DIVERGENCES`.
        unit: The unit of the distances, `DivergenceConfig.unit_label`.
        process: What `Process.settings` returns.
        is_calibrated: Whether the page has similarities.
    """
    terms = {
        "trajectory": "The sequence of images from pure noise to the final image of one text. At each of them, predictions are "
        "made for both texts.",
        divergence: DIVERGENCE_TERMS[divergence],
        unit: _unit_term(divergence, unit),
        **SAMPLING_TERMS,
    }
    return terms | ({"similarity": SIMILARITY_TERM} if is_calibrated else {}) | process_terms(process)


def _unit_term(divergence: str, unit: str) -> str:
    if unit.startswith("nats"):
        directions = " The distance is the mean of both directions." if divergence == "jeffreys" else ""
        per = " It is divided by the number of elements of a prediction." if unit != "nats" else ""
        return f"The unit of a Kullback-Leibler divergence between the distributions of trajectories.{directions}{per}"
    combined = "averaged" if unit.startswith("mean") else "summed"
    if divergence == "direct":
        return f"The unit of the distance: squared differences between final latents, {combined} over their elements."
    steps = "" if divergence in ("initial", "final") else ", and averaged over steps"
    directions = "" if divergence == "kl" else " The results for the trajectories of both texts are added."
    return (
        "The unit of the distance: squared differences between the predictions for both texts, "
        f"{combined} over the elements of a prediction{steps}.{directions}"
    )

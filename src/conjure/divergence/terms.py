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
    "sample": "Trajectories that start from the same random noise, one for each text. Another sample starts from other noise.",
    "±": "The standard error: how far the mean over samples is typically from its value for infinitely many samples. The 95% CI "
    "is the 95% confidence interval of this value. With few samples it is much wider than two standard errors on either side.",
}
SIMILARITY_TERM = (
    "The share of pairs of unrelated texts that are farther apart than this pair. It is known for processes that are calibrated: "
    "a model with these settings, for which the distances of 300 unrelated pairs were computed."
)


def process_terms(process: Mapping[str, Any]) -> dict[str, str]:
    """Return the explanations of the settings that the summary of a process contains, by term.

    Args:
        process: What `Process.settings` returns.
    """
    terms = {
        "step": "A step of denoising. Its timestep t says how much noise there is: t is largest at the first step, which starts "
        "from pure noise.",
        str(process["scheduler"]): "The scheduler: it chooses the noise levels, and computes each noisy image from the last one.",
    }
    if process["guidance"] is not None:
        terms["guidance"] = "How strongly the model follows the text (classifier-free guidance). At 1 it has no effect."
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
        "trajectory": "The noisy images, from pure noise to the final image, through which the model generates an image for a "
        "text. At each of them, the model also makes its prediction for the other text.",
        divergence: DIVERGENCE_TERMS[divergence],
        unit: _unit_term(divergence, unit),
        **SAMPLING_TERMS,
    }
    return terms | ({"similarity": SIMILARITY_TERM} if is_calibrated else {}) | process_terms(process)


def _unit_term(divergence: str, unit: str) -> str:
    if unit.startswith("nats"):
        return "The unit of the distance, as a Kullback-Leibler divergence between the distributions of trajectories."
    combined = "averaged" if unit.startswith("mean") else "summed"
    if divergence == "direct":
        return f"The unit of the distance: squared differences between final latents, {combined} over their values."
    return (
        "The unit of the distance: squared differences between the predictions for both texts, "
        f"{combined} over the values of a prediction, and summed over steps."
    )

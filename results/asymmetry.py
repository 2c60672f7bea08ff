"""Experiment: does the distance between a hyponym and its hypernym ("poodle", "dog") have a preferred direction?

The asymmetry of a pair is (forward - backward) / (forward + backward): forward is the divergence along the trajectories of the
hyponym, backward the divergence along those of its hypernym. As a control, each hyponym is also paired with the hypernym of
another one. An asymmetry that remains in the control is a property of the words, not of their relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

import conjure
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.process import Process
from conjure.io.documents import Document, Table

CONDITIONS = {"related": "hyponym and its hypernym", "control": "hyponym and another hypernym"}
NUM_EXTREMES = 6
# Hypernym -> its hyponyms, all concrete enough to be drawn; each hyponym occurs once. Compiled for this experiment.
HYPONYMS = {
    "animal": "dog", "dog": "poodle", "cat": "kitten", "horse": "pony", "sheep": "lamb", "bird": "eagle penguin", "fish": "salmon shark",
    "insect": "bee beetle", "reptile": "snake", "tree": "oak pine", "flower": "rose tulip", "fruit": "apple banana cherry",
    "vegetable": "carrot potato", "food": "bread pizza", "dessert": "cake", "drink": "tea wine", "vehicle": "car truck bus",
    "boat": "sailboat canoe", "aircraft": "helicopter", "furniture": "chair bed", "tool": "hammer saw", "shape": "circle square",
    "instrument": "guitar violin drum", "clothing": "shirt sock dress", "building": "castle church hotel", "jewelry": "ring necklace",
    "sport": "soccer tennis", "person": "doctor farmer baby", "weapon": "sword", "cutlery": "knife", "colour": "red",
    "weather": "rain snow", "landscape": "mountain beach",
}  # fmt: skip
PAIRS = tuple((hyponym, hypernym) for hypernym, hyponyms in HYPONYMS.items() for hyponym in hyponyms.split())


def control_pairs(pairs: Sequence[tuple[str, str]], seed: int = 0) -> list[tuple[str, str]]:
    """Return the hyponyms of `pairs`, each with a hypernym of another pair.

    The hypernyms are permuted until no pair is related, neither directly nor over two levels.
    """
    rng = np.random.default_rng(seed)
    hypernym_of = dict(pairs)
    while True:
        permuted = rng.permutation([hypernym for _, hypernym in pairs]).tolist()
        candidate = list(zip(hypernym_of, permuted, strict=True))
        if all(
            hypernym_of[hyponym] != hypernym and hypernym_of.get(hypernym_of[hyponym]) != hypernym and hyponym != hypernym
            for hyponym, hypernym in candidate
        ):
            return candidate


def measure(process: Process, samples: int = 5, progress: ProgressCallback | None = None) -> dict[str, Any]:
    """Return the asymmetries of the related pairs and of the control pairs, as plain data for JSON.

    Args:
        process: The model and its sampler.
        samples: The number of noise samples per pair.
        progress: Receives the number of finished units of work and their total.
    """
    result: dict[str, Any] = {"samples": samples, "process": process.settings(), "fingerprint": process.fingerprint()}
    for condition, pairs in zip(CONDITIONS, (list(PAIRS), control_pairs(PAIRS)), strict=True):
        estimates = conjure.distances(process, pairs, samples=samples, progress=progress)
        values = np.array([estimate.asymmetry / estimate.distance for estimate in estimates])
        significant = [estimate.asymmetry_ci95[0] > 0 or estimate.asymmetry_ci95[1] < 0 for estimate in estimates]
        result[condition] = {
            **_mean_with_interval(values),
            "wilcoxon_p": float(wilcoxon(values).pvalue),
            "num_positive": int((values > 0).sum()),
            "num_significant": int(sum(significant)),
            "pairs": [
                {
                    "texts": estimate.texts,
                    "forward": estimate.forward,
                    "backward": estimate.backward,
                    "asymmetry": float(value),
                    "is_significant": is_significant,
                }
                for estimate, value, is_significant in zip(estimates, values, significant, strict=True)
            ],
        }
    related, control = ({pair["texts"][0]: pair["asymmetry"] for pair in result[condition]["pairs"]} for condition in CONDITIONS)
    result["difference_from_control"] = _mean_with_interval(
        np.array([related[hyponym] - control[hyponym] for hyponym in related])
    )
    return result


def _mean_with_interval(values: np.ndarray) -> dict[str, Any]:
    """Return the mean and its 95% bootstrap interval."""
    resampled_means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return {"mean": float(values.mean()), "ci95": np.quantile(resampled_means, [0.025, 0.975]).tolist()}


def render_page(result: dict[str, Any]) -> str:
    """Return docs/asymmetry.md for what `measure` returned."""
    means = []
    for condition, label in CONDITIONS.items():
        group = result[condition]
        means.append(
            [label, str(len(group["pairs"])), f"{group['mean']:+.3f}", _format_signed_interval(group["ci95"]),
             f"{group['wilcoxon_p']:.2g}", str(group["num_positive"]), str(group["num_significant"])]
        )  # fmt: skip
    pairs = sorted(result["related"]["pairs"], key=lambda pair: pair["asymmetry"])
    extremes = [
        [*pair["texts"], f"{pair['forward']:.3g}", f"{pair['backward']:.3g}", f"{pair['asymmetry']:+.2f}",
         "yes" if pair["is_significant"] else ""]
        for pair in [*pairs[:NUM_EXTREMES], *pairs[-NUM_EXTREMES:]]
    ]  # fmt: skip
    process = result["process"]
    return Document(
        "Asymmetry: hyponyms and hypernyms",
        [
            "The distance is symmetric, but it is the sum of two divergences that are not. This experiment asks whether the divergence "
            "along the trajectories of “dog” differs from the divergence along those of “animal”. The asymmetry of a pair is "
            "(forward - backward) / (forward + backward): forward along the hyponym, backward along the hypernym. In the control, each "
            "hyponym is paired with the hypernym of another one.",
            f"Model {process['model']}, {process['scheduler']}, T = {process['steps']}, guidance {process['guidance']:g}, "
            f"k = {result['samples']}, fingerprint {result['fingerprint'][:12]}. The {len(PAIRS)} pairs were compiled for this "
            "experiment. The interval of a mean is a bootstrap interval over pairs; p is from Wilcoxon's signed-rank test. The asymmetry "
            "of a pair is called significant if its 95% interval over samples excludes 0.",
        ],
        [
            Table("Means", ["condition", "pairs", "mean", "95% CI", "p", "above 0", "significant"], means),
            Table(
                f"The {NUM_EXTREMES} smallest and the {NUM_EXTREMES} largest asymmetries",
                ["hyponym", "hypernym", "forward", "backward", "asymmetry", "significant"],
                extremes,
            ),
        ],
        _conclusion(result["related"], result["difference_from_control"]),
    ).to_markdown()


def _conclusion(related: dict[str, Any], difference: dict[str, Any]) -> str:
    """Return the sentences that the intervals support."""
    sentences = []
    if _contains_zero(related):
        sentences.append(
            "On average over these pairs, neither direction is significantly larger, although single pairs are asymmetric: the 95% "
            f"interval of the mean contains 0 (signed-rank test: p = {related['wilcoxon_p']:.2g})."
        )
    sentences.append(
        f"The mean difference between the two conditions, hyponym by hyponym, is {difference['mean']:+.3f} "
        f"({_format_signed_interval(difference['ci95'])})."
    )
    if _contains_zero(difference):
        sentences.append(
            "The mean asymmetry of the related pairs does not differ significantly from that of the control pairs. The asymmetry of "
            "single pairs can therefore be a property of the single words: general words lead to other images than specific ones. It "
            "is no evidence that the model represents which word is the hypernym of which."
        )
    else:
        sentences.append("The relation of the two words therefore contributes to the asymmetry, in addition to the single words.")
    sentences.append(
        "Measured by `results/asymmetry.py`, which `make results` runs; the numbers are in `results/asymmetry.json`."
    )
    return " ".join(sentences)


def _format_signed_interval(interval: Sequence[float]) -> str:
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _contains_zero(mean: dict[str, Any]) -> bool:
    return bool(mean["ci95"][0] <= 0 <= mean["ci95"][1])

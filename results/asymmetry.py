"""Is what a general word conjures judged otherwise by a special one than the other way round? An experiment on kinds of things.

For a thing and its kind ("poodle", "dog") the asymmetry is (forward - backward) / (forward + backward): above 0 where the kind is
surprised by what the thing conjures more than the thing by what the kind conjures. As a control the same words are paired
across, each thing with the kind of another: what remains there belongs to the words, not to their relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

import conjure
from conjure.document import Document, Table
from conjure.process import Process
from conjure.run import Progress

NAMES = ("thing and kind", "thing and another's kind")
# of our own making; things and kinds that can be pictured, each thing once
KINDS = {
    "animal": "dog", "dog": "poodle", "cat": "kitten", "horse": "pony", "sheep": "lamb", "bird": "eagle penguin", "fish": "salmon shark",
    "insect": "bee beetle", "reptile": "snake", "tree": "oak pine", "flower": "rose tulip", "fruit": "apple banana cherry",
    "vegetable": "carrot potato", "food": "bread pizza", "dessert": "cake", "drink": "tea wine", "vehicle": "car truck bus",
    "boat": "sailboat canoe", "aircraft": "helicopter", "furniture": "chair bed", "tool": "hammer saw", "shape": "circle square",
    "instrument": "guitar violin drum", "clothing": "shirt sock dress", "building": "castle church hotel", "jewelry": "ring necklace",
    "sport": "soccer tennis", "person": "doctor farmer baby", "weapon": "sword", "cutlery": "knife", "colour": "red",
    "weather": "rain snow", "landscape": "mountain beach",
}  # fmt: skip
PAIRS = tuple((thing, kind) for kind, things in KINDS.items() for thing in things.split())


def across(pairs: Sequence[tuple[str, str]], seed: int = 0) -> list[tuple[str, str]]:
    """The same things, each with the kind of another, in an order drawn until no thing has a kind of its own."""
    rng = np.random.default_rng(seed)
    kinds = dict(pairs)
    while True:
        drawn = rng.permutation([kind for _, kind in pairs]).tolist()
        mixed = list(zip(kinds, drawn, strict=True))
        if all(kinds[thing] != kind and kinds.get(kinds[thing]) != kind and thing != kind for thing, kind in mixed):
            return mixed


def measure(process: Process, samples: int = 5, progress: Progress | None = None) -> dict[str, Any]:
    """Both lists of pairs, `samples` samples each."""
    told: dict[str, Any] = {"samples": samples, "process": process.settings(), "identity": process.identity()}
    for name, pairs in zip(NAMES, (list(PAIRS), across(PAIRS)), strict=True):
        found = conjure.distances(process, pairs, samples=samples, progress=progress)
        values = np.array([one.asymmetry / one.distance for one in found])
        sure = [one.asymmetry_ci95[0] > 0 or one.asymmetry_ci95[1] < 0 for one in found]
        told[name] = {
            **_mean(values),
            "wilcoxon_p": float(wilcoxon(values).pvalue),
            "positive": int((values > 0).sum()),
            "sure": int(sum(sure)),
            "pairs": [
                {"texts": one.texts, "forward": one.forward, "backward": one.backward, "asymmetry": float(value), "sure": known}
                for one, value, known in zip(found, values, sure, strict=True)
            ],
        }
    own, other = ({one["texts"][0]: one["asymmetry"] for one in told[name]["pairs"]} for name in NAMES)
    told["beyond the control"] = _mean(np.array([own[thing] - other[thing] for thing in own]))
    return told


def _mean(values: np.ndarray) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval."""
    resampled = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return {"mean": float(values.mean()), "ci95": np.quantile(resampled, [0.025, 0.975]).tolist()}


def page(told: dict[str, Any]) -> str:
    """docs/asymmetry.md"""
    whole = [
        [name, str(len(one["pairs"])), f"{one['mean']:+.3f}", f"{one['ci95'][0]:+.3f} to {one['ci95'][1]:+.3f}",
         f"{one['wilcoxon_p']:.2g}", str(one["positive"]), str(one["sure"])]
        for name in NAMES for one in [told[name]]
    ]  # fmt: skip
    first = sorted(told[NAMES[0]]["pairs"], key=lambda one: one["asymmetry"])
    each = [
        [
            *one["texts"],
            f"{one['forward']:.3g}",
            f"{one['backward']:.3g}",
            f"{one['asymmetry']:+.2f}",
            "yes" if one["sure"] else "",
        ]
        for one in [*first[:6], *first[-6:]]
    ]
    used = told["process"]
    return Document(
        "Asymmetry: things and their kinds",
        [
            "The distance is symmetric, but it is made of two divergences that are not. Does what “dog” conjures surprise “animal” as "
            "much as what “animal” conjures surprises “dog”? Asymmetry is (forward - backward) / (forward + backward), forward along the "
            "thing, backward along its kind. The control pairs the same words across.",
            f"Model {used['model']}, {used['scheduler']}, T = {used['steps']}, guidance {used['guidance']:g}, k = {told['samples']}, "
            f"identity {told['identity'][:12]}. {len(PAIRS)} pairs of our own making; the mean's interval is a bootstrap over pairs, the "
            "test Wilcoxon's signed ranks; an asymmetry of a pair is sure where its 95 % interval over samples leaves out 0.",
        ],
        [
            Table("Means", ["pairs", "number", "mean", "95 %", "p", "above 0", "sure"], whole),
            Table("The six at either end", ["thing", "kind", "forward", "backward", "asymmetry", "sure"], each),
        ],
        _reading(told[NAMES[0]], told["beyond the control"]),
    ).markdown()


def _reading(related: dict[str, Any], beyond: dict[str, Any]) -> str:
    """What the figures allow one to say."""
    said = ""
    if _holds_zero(related):
        said = (
            "No direction is surely the larger over these pairs, though single pairs are asymmetric: the mean's interval holds 0 (signed "
            f"ranks: p = {related['wilcoxon_p']:.2g}). "
        )
    said += (
        f"Thing by thing the two lists differ by {beyond['mean']:+.3f} ({beyond['ci95'][0]:+.3f} to {beyond['ci95'][1]:+.3f}), "
    )
    if _holds_zero(beyond):
        said += (
            "so the control leans as much: what asymmetry there is belongs to the words (general ones conjure other pictures than special "
            "ones) and is no sign that the model knows which is the kind of which."
        )
    else:
        said += "so the relation of the two words has a part in it, beyond the words themselves."
    return f"{said} Measured by `results/asymmetry.py`, which `make results` runs; the numbers are in `results/asymmetry.json`."


def _holds_zero(mean: dict[str, Any]) -> bool:
    """Whether 0 lies in its interval."""
    return bool(mean["ci95"][0] <= 0 <= mean["ci95"][1])

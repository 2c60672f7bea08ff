"""Groups of texts: which of them a change affects more or less than the others, and the built-in groups."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from conjure.divergence.intervals import nonnegative_interval
from conjure.io.numbers import none_if_not_finite
from conjure.process_drift.statistics import Mean
from conjure.process_drift.text_drift import TextDrift

SIGNIFICANCE = 0.05
MIN_TEXTS = 2  # of a group, and of the other groups together


@dataclass(frozen=True)
class GroupDrift:
    """How far two processes differ on a group of texts, compared with the texts of all other groups.

    Attributes:
        name: The name of the group.
        texts: The number of its texts with a value.
        mean: The mean over its texts of `relative`. Where pixels are compared, no text has a relative value, and it is the mean
            of `divergence`.
        ratio: The geometric mean over its texts, divided by that over the texts of all other groups. NaN if a text does not
            differ at all, or there are too few texts.
        ratio_ci95: The 95% interval of `ratio` over texts (Welch's t on logarithms).
        p_value: The p-value of the hypothesis that `ratio` is 1, adjusted for the number of groups (Benjamini-Hochberg).
    """

    name: str
    texts: int
    mean: Mean
    ratio: float
    ratio_ci95: tuple[float, float]
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the group differs from the others, at a false discovery rate of 5%."""
        return self.p_value < SIGNIFICANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is unknown."""
        return {
            "name": self.name,
            "texts": self.texts,
            "mean": self.mean.to_dict(),
            "ratio": none_if_not_finite(self.ratio),
            "ratio_ci95": None if math.isnan(self.ratio_ci95[0]) else list(self.ratio_ci95),
            "p_value": none_if_not_finite(self.p_value),
            "is_significant": self.is_significant,
        }


def built_in_texts() -> dict[str, list[str]]:
    """Return the built-in texts by group: objects, scenes, attributes, actions, styles, counts, negations and relations."""
    return json.loads((files("conjure") / "process_drift" / "texts.json").read_text(encoding="utf-8"))


def compare_groups(texts: Sequence[TextDrift], groups: Mapping[str, Sequence[str]]) -> tuple[GroupDrift, ...]:
    """Compare each group of texts with all others, from the largest to the smallest mean.

    Texts without a relative value are left out if other texts have one, and so is a group of nothing but such texts.

    Args:
        texts: The texts of all groups.
        groups: The texts of each group, by name.

    Reference:
        Benjamini and Hochberg (1995), "Controlling the false discovery rate".
    """
    from scipy import stats

    relative = {text.text: text.relative.value for text in texts if not math.isnan(text.relative.value)}
    values = relative or {text.text: text.divergence.value for text in texts}
    known = {name: [text for text in members if text in values] for name, members in groups.items()}
    groups = {name: members for name, members in known.items() if members}
    tests: dict[str, tuple[float, tuple[float, float], float]] = {}
    for name, members in groups.items():
        inside = np.array([values[text] for text in members])
        outside = np.array([value for text, value in values.items() if text not in set(members)])
        if min(len(inside), len(outside)) < MIN_TEXTS or not (np.concatenate([inside, outside]) > 0).all():
            continue
        test = stats.ttest_ind(np.log(inside), np.log(outside), equal_var=False)
        low, high = test.confidence_interval(0.95)
        ratio = math.exp(np.log(inside).mean() - np.log(outside).mean())
        tests[name] = ratio, (math.exp(low), math.exp(high)), float(test.pvalue)
    adjusted = stats.false_discovery_control([p_value for *_, p_value in tests.values()]) if tests else []
    p_values = dict(zip(tests, map(float, adjusted), strict=True))
    result = []
    for name, members in groups.items():
        mean = Mean(*nonnegative_interval(np.array([values[text] for text in members])))
        ratio, ci95, _ = tests.get(name, (math.nan, (math.nan, math.nan), math.nan))
        result.append(GroupDrift(name, len(members), mean, ratio, ci95, p_values.get(name, math.nan)))
    return tuple(sorted(result, key=lambda group: group.mean.value, reverse=True))

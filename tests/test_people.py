"""Agreement with people: the orderings that the paper shows hold on the model that ships with the package."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

import conjure
from conjure.divergence import DIVERGENCES, contributions
from conjure.run import run
from conjure.similarity import pair, seen


@pytest.mark.parametrize(
    ("one", "near", "far"),
    [("puppy", "poodle", "shark"), ("red apple", "green apple", "airplane"), ("sad face", "crying face", "pizza")],
)
def test_near_is_nearer_than_far(default, one, near, far):
    assert conjure.distance(default, one, near).ci95[1] < conjure.distance(default, one, far).ci95[0]


def test_jeffreys_is_above_initial_timestep_and_direct_output(default, judgements):
    """Liu and Soatto 2026, Table 1: rank correlation with people, here on an even sample of STS-B dev."""
    rows = [row for row in judgements("stsb.tsv") if row["split"] == "dev"][::10]
    sources = [source for row in rows for source in pair(row["sentence1"], row["sentence2"], samples=1, seed=0)]
    measured = list(run(default, sources))
    values: dict[str, list[float]] = {divergence: [] for divergence in DIVERGENCES}
    for number in range(len(rows)):
        whole = seen(default, measured[2 * number : 2 * number + 2], "uniform")
        for divergence in DIVERGENCES:
            values[divergence].append(float(contributions(whole, divergence).total.sum()))
    people = np.array([float(row["score"]) for row in rows])
    agreement = {name: spearmanr(-np.array(distances), people).statistic for name, distances in values.items()}
    assert agreement["jeffreys"] > 0.5
    assert agreement["jeffreys"] > agreement["initial"]
    assert agreement["jeffreys"] > agreement["direct"]

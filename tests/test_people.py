"""Agreement with people: the orderings that the paper shows hold on the model that ships with the package."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

import conjure
from conjure.divergence import DIVERGENCES, Measure
from conjure.estimate import Noise
from conjure.similarity import Results, sources_of


@pytest.mark.parametrize(
    ("one", "near", "far"),
    [("puppy", "poodle", "shark"), ("red apple", "green apple", "airplane"), ("sad face", "crying face", "pizza")],
)
def test_near_is_nearer_than_far(default, one, near, far):
    close, apart = (conjure.distance(default, one, other, samples=8) for other in (near, far))
    assert close.ci95[1] < apart.ci95[0]


def test_jeffreys_is_above_initial_timestep_and_direct_output(default, judgements):
    """Liu and Soatto 2026, Table 1: rank correlation with people, here on an even sample of STS-B dev."""
    rows = [row for row in judgements("stsb.tsv") if row["split"] == "dev"][::10]
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    results = Results(default, Noise())
    results.measure(default, sources_of(pairs, range(1), Noise()), finals=True)
    seen = [results.seen(*texts, samples=1) for texts in pairs]
    values = {name: [Measure(name, unit=default.unit).contributions(one).total.sum() for one in seen] for name in DIVERGENCES}
    people = np.array([float(row["score"]) for row in rows])
    agreement = {name: spearmanr(-np.array(distances), people).statistic for name, distances in values.items()}
    assert agreement["jeffreys"] > 0.8
    assert agreement["jeffreys"] > agreement["initial"]
    assert agreement["jeffreys"] > agreement["direct"]

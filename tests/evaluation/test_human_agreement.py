"""Agreement with human ratings: the default model shows the orderings that the paper reports."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

import conjure
from conjure.diffusion.seeding import NoiseSeeds
from conjure.divergence.divergences import DIVERGENCES, DivergenceConfig
from conjure.similarity.sampling import jobs_for_pairs
from conjure.similarity.trajectory_cache import TrajectoryCache


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [("puppy", "poodle", "shark"), ("red apple", "green apple", "airplane"), ("sad face", "crying face", "pizza")],
)
def test_similar_texts_have_smaller_distances(default_process, text, near, far):
    small, large = (conjure.distance(default_process, text, other, samples=8) for other in (near, far))
    assert small.ci95[1] < large.ci95[0]


@pytest.mark.slow
def test_jeffreys_agrees_better_than_initial_timestep_and_direct_output(default_process, human_ratings):
    """Liu and Soatto 2026, Table 1: rank correlation with human ratings, here on every tenth pair of STS-B dev."""
    check_order_of_divergences(default_process, human_ratings, every=10, minimum=0.8)


def test_jeffreys_agrees_better_on_a_small_sample(default_process, human_ratings):
    """The same in five steps on every fiftieth pair, where the correlation is less precise."""
    check_order_of_divergences(default_process.set(steps=5), human_ratings, every=50, minimum=0.7)


def check_order_of_divergences(process, human_ratings, every, minimum):
    rows = [row for row in human_ratings("stsb.tsv") if row["split"] == "dev"][::every]
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    cache = TrajectoryCache(process, NoiseSeeds())
    cache.compute(jobs_for_pairs(pairs, range(1), NoiseSeeds()), final_latents=True)
    differences = [cache.pair(*texts, samples=1) for texts in pairs]
    scores = np.array([float(row["score"]) for row in rows])
    spearman = {}
    for name in DIVERGENCES:
        config = DivergenceConfig(name, unit=process.default_unit)
        spearman[name] = spearmanr(-np.array([config.per_sample(pair)[0] for pair in differences]), scores).statistic
    assert spearman["jeffreys"] > minimum
    assert spearman["jeffreys"] > spearman["initial"]
    assert spearman["jeffreys"] > spearman["direct"]

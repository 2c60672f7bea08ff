"""How two processes arrange the same texts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

import conjure
from conjure.errors import InputError
from conjure.process_drift.arrangement import bootstrap_over_texts, compare_arrangements, compare_matrices, mantel_p

TEXTS = ["dog", "cat", "house", "boat", "moon"]


@pytest.fixture(scope="module")
def process(tiny_sd) -> conjure.Process:
    return conjure.load(tiny_sd, steps=2, guidance=2.0)


def squared_distances(points: np.ndarray) -> np.ndarray:
    return squareform(pdist(points, "sqeuclidean"))


def test_a_process_arranges_texts_like_itself(process):
    result = compare_arrangements(process, process, TEXTS, samples=1)
    assert result.correlation == pytest.approx(1)
    assert result.disparity == pytest.approx(0, abs=1e-9)
    assert all(pair.rank_a == pair.rank_b for pair in result.moved)
    assert result.ci95 == pytest.approx((1, 1))
    assert result.p_value < 0.05
    assert len(result.moved) == 10


def test_models_without_common_latents_are_compared(process, tiny_sd):
    large = conjure.load(tiny_sd, steps=2, guidance=3.0, height=64, width=64)
    loads: list[str] = []

    def load() -> conjure.Process:
        loads.append("B")
        return large

    result = compare_arrangements(process, load, TEXTS, samples=1)
    expected = spearmanr(*(m.distance[np.triu_indices(5, 1)] for m in (result.matrix_a, result.matrix_b))).statistic
    assert result.correlation == pytest.approx(expected)
    assert loads == ["B"]
    assert result.matrix_b.distance == pytest.approx(conjure.matrix(large, TEXTS, samples=1).distance)
    assert json.loads(json.dumps(result.to_dict(), default=str))["labels"][0].startswith("A: guidance 2")
    assert "Mantel" in result.document().to_markdown()


def test_moved_pairs_are_found(process):
    points = np.random.default_rng(0).normal(size=(5, 2))
    original = conjure.matrix(process, TEXTS, samples=1)
    first = replace(original, distance=squared_distances(points))
    distance = first.distance.copy()
    distance[0, 1] = distance[1, 0] = 100 * distance.max()
    result = compare_matrices(first, replace(first, distance=distance))
    nearest = first.distance[0, 1] == np.sort(first.distance[np.triu_indices(5, 1)])[-1]
    assert nearest or result.moved[0].texts == ("dog", "cat")
    assert nearest or result.moved[0].rank_b == 100
    # a rotated and scaled map has no disparity
    rotated = points @ np.array([[0.0, -3.0], [3.0, 0.0]])
    assert compare_matrices(first, replace(first, distance=squared_distances(rotated))).disparity == pytest.approx(0, abs=1e-9)


def test_p_values_are_uniform_without_a_correlation(monkeypatch):
    monkeypatch.setattr("conjure.process_drift.arrangement.PERMUTATIONS", 199)
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 2, 8, 3))
    p_values = [mantel_p(squared_distances(a), squared_distances(b), seed=0) for a, b in points]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.1) <= 0.18
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_correlated_matrices_have_a_small_p_value():
    points = np.random.default_rng(2).normal(size=(12, 2))
    noisy = points + 0.2 * np.random.default_rng(3).normal(size=(12, 2))
    assert mantel_p(squared_distances(points), squared_distances(noisy), seed=0) == 1e-4


def test_intervals_cover_the_correlation_of_many_texts():
    """Texts are drawn from a population of points, whose correlation a large sample gives."""
    rng = np.random.default_rng(4)

    def triangles(num_texts: int) -> tuple[np.ndarray, np.ndarray]:
        points = rng.normal(size=(num_texts, 3))
        return pdist(points), pdist(points + 0.7 * rng.normal(size=(num_texts, 3)))

    expected = spearmanr(*triangles(600)).statistic
    intervals = [np.percentile(bootstrap_over_texts(*triangles(25), 25, seed), [2.5, 97.5]) for seed in range(60)]
    assert np.mean([low <= expected <= high for low, high in intervals]) >= 0.85


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["dog", "cat", "moon"], "at least 4"),
        (["dog"] * 4, "occurs twice"),
        ("dogs", "give a list of texts"),
        (["a", "b", "c", " "], "blank"),
    ],
)
def test_invalid_texts_are_refused(texts, message):
    with pytest.raises(InputError, match=message):
        compare_arrangements(lambda: pytest.fail("loaded"), lambda: pytest.fail("loaded"), texts)


def test_equal_texts_arrange_nothing(process):
    texts = tuple("abcd")
    matrix = replace(conjure.matrix(process, texts, samples=1), distance=np.zeros((4, 4)))
    with pytest.raises(InputError, match="distance 0"):
        compare_matrices(matrix, matrix)


def test_matrices_of_other_texts_are_refused(process):
    first = conjure.matrix(process, TEXTS[:2], samples=1)
    with pytest.raises(InputError, match="different texts"):
        compare_matrices(first, replace(first, texts=("x", "y")))

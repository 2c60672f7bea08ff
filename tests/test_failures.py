"""Where model and people part: the residuals are ranks, the kinds are what they say, and the pairs are the farthest ones."""

from __future__ import annotations

import numpy as np
import pytest

from conjure.benchmarks import Pairs, from_rows
from conjure.failures import farthest, groups, residuals


def pairs_of(*rows: tuple[str, str, float], part: list[str] | None = None) -> Pairs:
    plain = [{"a": a, "b": b, "score": score, "part": part[i] if part else ""} for i, (a, b, score) in enumerate(rows)]
    return from_rows(plain, "test", name="test", title="test", texts=("a", "b"), part="part" if part else None)


def test_residuals_are_ranks_apart():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    distances = np.array([[5.0], [4.0], [3.0], [2.0], [1.0]])
    assert residuals(distances, scores).tolist() == [0] * 5
    swapped = distances[[4, 1, 2, 3, 0]]  # the least alike to people is the most alike to the model
    assert residuals(swapped, scores).tolist() == [100, 0, 0, 0, -100]
    assert farthest(swapped, scores) == ([0], [4])


def test_the_farthest_come_first():
    rng = np.random.default_rng(0)
    scores, distances = rng.normal(size=200), rng.normal(size=(200, 3))
    similar, different = farthest(distances, scores, 15)
    off = residuals(distances, scores)
    assert off[similar].tolist() == sorted(off, reverse=True)[:15]
    assert off[different].tolist() == sorted(off)[:15]
    assert abs(off.mean()) < 1e-9


KINDS = [
    (("a man plays", "a man does not play"), "negation", "in one"),
    (("he isn't here", "nobody is here"), "negation", "in both"),
    (("he isn’t here", "he sings"), "negation", "in one"),
    (("a note", "a notable thing"), "negation", "in neither"),
    (("two dogs", "three dogs"), "numbers", "different"),
    (("two dogs in 1999", "in 1999 two cats"), "numbers", "the same"),
    (("a weight", "freight"), "numbers", "none"),
    (("thirteen of forty", "it is ninety"), "numbers", "different"),
]


@pytest.mark.parametrize(("texts", "kind", "name"), KINDS)
def test_kinds_of_pairs(texts, kind, name):
    other = {"negation": ("no and none", "not at all"), "numbers": ("17 of 20", "eighteen of 30")}[kind]
    if name in ("in both", "different"):
        other = ("plain words", "and no others" if kind == "numbers" else "and others")
    filler = [(f"{other[0]} {chr(97 + i)}", other[1], float(i % 5)) for i in range(12)]
    pairs = pairs_of(*[(*texts, float(i)) for i in range(11)], *filler)
    found = {(one.kind, one.name): one for one in groups(pairs, np.arange(len(pairs), dtype=float)[:, None])}
    assert found[kind, name].pairs == 11


def test_a_group_that_is_taken_for_too_similar():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 5, 300)
    negated = np.arange(300) % 3 == 0
    rows = [(f"it is {i}", f"it is not {i}" if no else f"it is {i} too", score)
            for i, (no, score) in enumerate(zip(negated, scores, strict=True))]  # fmt: skip
    distances = (-scores + 0.3 * rng.normal(size=300) - 2 * negated)[:, None]
    found = {(one.kind, one.name): one for one in groups(pairs_of(*rows, part=["x", "y", "z"] * 100), distances)}
    biased, others = found["negation", "in one"], found["negation", "in neither"]
    assert biased.bias95[0] > 10 > 0 > others.bias95[1]
    assert biased.agreement is not None
    assert biased.agreement.spearman > 0.9
    assert found["part", "x"].pairs == 100
    assert found["part", "x"].bias == pytest.approx(biased.bias)
    assert biased.summary()["bias"] == pytest.approx(biased.bias, abs=0.01)


def test_groups_too_small_or_without_variation():
    pairs = pairs_of(*[("a b", "c d", float(i)) for i in range(30)])
    assert groups(pairs, np.arange(30.0)[:, None]) == []  # all pairs are of one kind
    rows = [("no", "yes", 1.0)] * 12 + [("a", "b", float(i)) for i in range(12)]
    found = {(one.kind, one.name): one for one in groups(pairs_of(*rows), np.arange(24.0)[:, None])}
    assert found["negation", "in one"].agreement is None
    assert found["negation", "in one"].summary()["spearman"] is None

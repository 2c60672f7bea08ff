"""Residuals are differences of ranks, groups contain the pairs of their kind, and the listed pairs have the largest residuals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conjure.evaluation.error_analysis import Group, groups, largest_residuals, residuals
from conjure.evaluation.pair_files import Pairs, from_rows


def make_pairs(*rows: tuple[str, str, float], subsets: list[str] | None = None) -> Pairs:
    table = [{"a": a, "b": b, "score": score, "subset": subsets[i] if subsets else ""} for i, (a, b, score) in enumerate(rows)]
    return from_rows(
        table, "test", name="test", title="test", text_columns=("a", "b"), subset_column="subset" if subsets else None
    )


def groups_by_name(pairs: Pairs, distances: np.ndarray) -> dict[tuple[str, str], Group]:
    return {(group.kind, group.name): group for group in groups(pairs, distances[:, None])}


def test_residuals_are_differences_of_ranks():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    distances = np.array([[5.0], [4.0], [3.0], [2.0], [1.0]])
    assert residuals(distances, scores).tolist() == [0] * 5
    swapped = distances[[4, 1, 2, 3, 0]]  # the pair with the lowest rating has the smallest distance
    assert residuals(swapped, scores).tolist() == [100, 0, 0, 0, -100]
    assert largest_residuals(swapped, scores) == ([0], [4])


def test_largest_residuals_come_first():
    rng = np.random.default_rng(0)
    scores, distances = rng.normal(size=200), rng.normal(size=(200, 3))
    overestimated, underestimated = largest_residuals(distances, scores, 15)
    values = residuals(distances, scores)
    assert values[overestimated].tolist() == sorted(values, reverse=True)[:15]
    assert values[underestimated].tolist() == sorted(values)[:15]
    assert abs(values.mean()) < 1e-9


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
    filler = {"negation": ("no and none", "not at all"), "numbers": ("17 of 20", "eighteen of 30")}[kind]
    if name in ("in both", "different"):
        filler = ("plain words", "and no others" if kind == "numbers" else "and others")
    filler_rows = [(f"{filler[0]} {chr(97 + i)}", filler[1], float(i % 5)) for i in range(12)]
    pairs = make_pairs(*[(*texts, float(i)) for i in range(11)], *filler_rows)
    assert groups_by_name(pairs, np.arange(len(pairs), dtype=float))[kind, name].pairs == 11


def test_group_whose_similarity_is_overestimated():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 5, 300)
    negated = np.arange(300) % 3 == 0
    rows = [(f"it is {i}", f"it is not {i}" if no else f"it is {i} too", score)
            for i, (no, score) in enumerate(zip(negated, scores, strict=True))]  # fmt: skip
    distances = -scores + 0.3 * rng.normal(size=300) - 2 * negated
    by_name = groups_by_name(make_pairs(*rows, subsets=["x", "y", "z"] * 100), distances)
    biased, others = by_name["negation", "in one"], by_name["negation", "in neither"]
    assert biased.bias_ci95[0] > 10 > 0 > others.bias_ci95[1]
    residual = residuals(distances[:, None], scores)[negated]
    interval = stats.ttest_1samp(residual, 0).confidence_interval(0.95)
    assert biased.bias_ci95 == pytest.approx((interval.low, interval.high))
    assert biased.agreement is not None
    assert biased.agreement.spearman > 0.9
    assert by_name["subset", "x"].pairs == 100
    assert by_name["subset", "x"].bias == pytest.approx(biased.bias)
    assert biased.summary()["bias"] == pytest.approx(biased.bias, abs=0.01)
    with pytest.warns(DeprecationWarning, match="Group.bias95 was renamed to Group.bias_ci95"):
        assert biased.bias95 == biased.bias_ci95


def test_groups_that_are_too_small_or_have_no_variation():
    pairs = make_pairs(*[("a b", "c d", float(i)) for i in range(30)])
    assert groups(pairs, np.arange(30.0)[:, None]) == []  # all pairs are of one kind
    rows = [("no", "yes", 1.0)] * 12 + [("a", "b", float(i)) for i in range(12)]
    by_name = groups_by_name(make_pairs(*rows), np.arange(24.0))
    assert by_name["negation", "in one"].agreement is None
    assert by_name["negation", "in one"].summary()["spearman"] is None


def test_groups_are_compared_with_the_text_encoder():
    """In pairs with a negation the encoder is better, and in the others the process; the difference is that of correlations."""
    rng = np.random.default_rng(2)
    scores, noise = rng.uniform(0, 5, 200), rng.normal(size=(200, 1))
    negated = np.arange(200) % 2 == 0
    rows = [(f"it is {i}", f"it is {'not' if no else 'only'} {i}", score)
            for i, (no, score) in enumerate(zip(negated, scores, strict=True))]  # fmt: skip
    distances, encoder = (-scores[:, None] + 5 * is_noisy[:, None] * noise for is_noisy in (negated, ~negated))
    pairs = make_pairs(*rows)
    by_name = {group.name: group for group in groups(pairs, distances, encoder) if group.kind == "negation"}
    for name, mask in (("in one", negated), ("in neither", ~negated)):
        group = by_name[name]
        assert group.agreement is not None
        assert group.encoder is not None
        assert group.difference is not None
        assert group.encoder.spearman == pytest.approx(stats.spearmanr(-encoder[mask, 0], scores[mask]).statistic)
        assert group.difference.spearman == pytest.approx(group.agreement.spearman - group.encoder.spearman)
        assert group.summary()["encoder"]["difference"]["ci95"] == pytest.approx([100 * end for end in group.difference.ci95])
        assert group.difference.ci95[1] < 0 if name == "in one" else group.difference.ci95[0] > 0
    constant = np.where(negated[:, None], 1.0, encoder)  # equal distances in one group, where no correlation is defined
    summaries = {group.name: group.summary() for group in groups(pairs, distances, constant) if group.kind == "negation"}
    assert summaries["in one"]["encoder"] is None
    assert summaries["in neither"]["encoder"] == by_name["in neither"].summary()["encoder"]
    assert {group.summary()["encoder"] for group in groups(pairs, distances)} == {None}

"""Comparisons in each subset equal comparisons of the pairs of this subset alone."""

from __future__ import annotations

import numpy as np
import pytest

import conjure
from conjure.evaluation.correlation import agreement, difference
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.pair_files import from_rows
from conjure.evaluation.paired_comparison import compare_subsets

SUBSETS = ["noun"] * 24 + ["verb"] * 22 + ["flat"] * 4 + ["other"] * 2


def test_subsets_are_compared_alone():
    rng = np.random.default_rng(0)
    first, second, scores = rng.random((52, 2)), rng.random((52, 3)), rng.random(52)
    scores[46:50] = 0.5  # no correlation is defined, nor is it for two pairs
    order = rng.permutation(52)
    compared = compare_subsets(first[order], second[order], scores[order], [SUBSETS[i] for i in order])
    assert list(compared) == ["noun", "verb"]
    for name, comparison in compared.items():
        rows = [i for i in order if SUBSETS[i] == name]
        parts = first[rows], second[rows], scores[rows]
        assert comparison.pairs == len(rows)
        assert comparison.agreements == (agreement(parts[0], parts[2]), agreement(parts[1], parts[2]))
        assert comparison.difference == difference(*parts)


@pytest.mark.parametrize("subsets", [[None] * 48, ["noun"] * 48])
def test_datasets_without_subsets(subsets):
    rng = np.random.default_rng(0)
    assert compare_subsets(rng.random((48, 1)), rng.random((48, 1)), rng.random(48), subsets) == {}


def test_subsets_of_two_runs(default_process, tmp_path):
    texts = ("puppy", "shark", "apple", "train", "house")
    rows = [
        {"a": a, "b": b, "score": (3 * i + 5 * j) % 11, "pos": "noun" if j < 4 else "verb"}
        for i, a in enumerate(texts)
        for j, b in enumerate(texts)
        if i < j
    ]
    pairs = from_rows(rows, "rows", name="own", title="Own", text_columns=("a", "b"), subset_column="pos")
    for steps in (1, 2):
        evaluate(default_process.set(steps=steps), [pairs], samples=1, out=tmp_path / str(steps))
    comparison = conjure.diff(tmp_path / "1", tmp_path / "2")
    subsets = comparison.summary()["tasks"]["own"]["subsets"]
    assert {name: subset["pairs"] for name, subset in subsets.items()} == {"noun": 6, "verb": 4}
    (table,) = (table for table in comparison.document().tables if table.title == "Subsets")
    assert [row[:3] for row in table.rows] == [["Own", "noun", "6"], ["Own", "verb", "4"]]
    difference = subsets["verb"]["difference"]["spearman"]
    assert table.rows[1][5] == f"{difference:+.1f}"

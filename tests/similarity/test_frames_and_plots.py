"""Results as data frames and on axes of matplotlib have the numbers of the results."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import conjure
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.io.documents import rows_to_html
from rated_pairs import write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


def assert_notebook_table(result: Any) -> None:
    """Check that the table of a result in a notebook has the columns and the rows of its data frame."""
    frame, page = result.to_pandas(), result._repr_html_()
    heads = re.findall(r"<th[^>]*>([^<]*)</th>", page)
    assert set(heads) <= set(frame.columns)
    assert {column for column in frame.columns if (frame[column].notna() & (frame[column] != "")).any()} == set(heads)
    assert page.count("<tr>") == 1 + min(len(frame), 20)


def test_steps_of_a_distance(fast_process):
    estimate = conjure.distance(fast_process, "dog", "wolf", samples=2)
    frame = estimate.to_pandas()
    assert frame["contribution"].sum() == pytest.approx(estimate.distance)
    assert list(zip(frame["ci95_low"], frame["ci95_high"], strict=True)) == list(estimate.per_step_ci95)
    axes: Any = estimate.plot()
    assert [bar.get_height() for bar in axes.patches] == list(estimate.per_step)
    assert axes.get_ylabel() == estimate.unit
    assert estimate.plot(axes) is axes


def test_neighbours(fast_process):
    result = conjure.nearest(fast_process, "dog", ["wolf", "puppy", "train"], samples=4)
    frame = result.to_pandas()
    assert frame["text"].tolist() == [neighbour.text for neighbour in result.ranked]
    assert frame["ci95_low"].tolist() == [neighbour.ci95[0] for neighbour in result.ranked]
    assert frame["similarity"].dtype == float
    axes: Any = result.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"“{text}”" for text in frame["text"]]
    assert list(axes.lines[0].get_xdata()) == frame["distance"].tolist()
    assert axes.get_ylim() == (2.5, -0.5)  # the nearest is on top
    assert_notebook_table(result)


def test_effects_of_words(fast_process):
    result = conjure.attribute(fast_process, "a red fox", "a grey wolf", samples=1)
    frame = result.to_pandas()
    assert frame["change"].tolist() == [effect.change for effect in result.effects]
    assert np.isnan(frame["ci95_high"]).all()
    axes: Any = result.plot()
    assert list(axes.lines[0].get_xdata()) == frame["change"].tolist()
    assert axes.get_yticklabels()[1].get_text() == "without “red” in “a red fox”"
    assert_notebook_table(result)


def test_matrices(fast_process):
    matrix = conjure.matrix(fast_process, ["dog", "wolf", "train"], samples=1)
    axes: Any = matrix.plot()
    order = list(matrix.order)
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix.distance[np.ix_(order, order)])
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"“{matrix.texts[i]}”" for i in order]


def test_evaluations_and_their_comparison(fast_process, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "own.tsv"))
    evaluations = [
        evaluate(fast_process.set(guidance=guidance), [pairs], samples=2, floors=False, out=tmp_path / f"guidance{guidance}")
        for guidance in (2, 3)
    ]
    (evaluation, _), (result, *_) = evaluations, evaluations[0].tasks.values()
    for shown in (evaluation, result):
        assert_notebook_table(shown)
    axes: Any = evaluation.plot()
    assert list(axes.lines[0].get_xdata()) == evaluation.to_pandas()["spearman"].tolist()
    comparison = conjure.diff(tmp_path / "guidance2", tmp_path / "guidance3")
    assert_notebook_table(comparison)
    axes = comparison.plot()
    assert list(axes.lines[0].get_xdata()) == comparison.to_pandas()["difference"].tolist()
    assert axes.get_xlabel() == "guidance2 minus guidance3, Spearman x100"
    assert_notebook_table(conjure.diff_runs([tmp_path / "guidance2", tmp_path / "guidance3"]))
    assert_notebook_table(conjure.ablate(fast_process, [pairs], {"prior": []}, samples=1))


def test_tables_of_distances(fast_process):
    table = conjure.distance_table(fast_process, [("dog", "wolf"), ("dog", "train"), ("sun", "moon")], samples=1)
    assert_notebook_table(table)
    axes: Any = table.plot()
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert axes.get_xlabel() == "jeffreys, squared norm of noise"


def test_drifts(fast_process):
    drift = conjure.drift(fast_process, fast_process.set(guidance=3), ["dog", "train"], samples=2)
    assert_notebook_table(drift)
    axes: Any = drift.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"“{text.text}”" for text in drift.texts]
    assert list(axes.lines[0].get_xdata()) == [text.divergence.value for text in drift.texts]


def test_rows_of_a_notebook():
    rows = [{"text": "<b>", "value": 1234.5678, "error": float("nan"), "count": i} for i in range(23)]
    page = rows_to_html("first line\n  second <line>", rows)
    assert page.startswith("<p>first line<br>second &lt;line&gt;</p>")
    assert "&lt;b&gt;" in page
    assert "error" not in page  # a column without values
    assert (page.count("<tr>"), ">1235<" in page, "and 3 more rows" in page) == (21, True, True)
    assert "<table>" in rows_to_html("nothing", [])

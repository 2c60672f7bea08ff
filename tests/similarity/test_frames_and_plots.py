"""Results as data frames and on axes of matplotlib have the numbers of the results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import conjure


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


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


def test_effects_of_words(fast_process):
    result = conjure.attribute(fast_process, "a red fox", "a grey wolf", samples=1)
    frame = result.to_pandas()
    assert frame["change"].tolist() == [effect.change for effect in result.effects]
    assert np.isnan(frame["ci95_high"]).all()


def test_matrices(fast_process):
    matrix = conjure.matrix(fast_process, ["dog", "wolf", "train"], samples=1)
    axes = matrix.plot()
    order = list(matrix.order)
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix.distance[np.ix_(order, order)])
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"“{matrix.texts[i]}”" for i in order]

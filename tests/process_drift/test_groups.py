"""Groups of texts: which of them a change affects more than the others."""

from __future__ import annotations

import json
import math
from itertools import chain

import numpy as np
import pytest
from scipy import stats

import conjure
from conjure.errors import InputError
from conjure.process_drift.groups import built_in_texts, compare_groups
from conjure.process_drift.statistics import Mean
from conjure.process_drift.text_drift import MEANS, TextDrift


def text_drift(text: str, relative: float, divergence: float = 1.0) -> TextDrift:
    means = {name: Mean(relative if name == "relative" else divergence) for name in MEANS}
    return TextDrift(text, **means, is_above_noise=True, per_step=(), per_step_ci95=(), samples=(divergence,))


def groups_of(values: dict[str, list[float]]) -> tuple[list[TextDrift], dict[str, list[str]]]:
    groups = {name: [f"{name} {i}" for i in range(len(numbers))] for name, numbers in values.items()}
    return [text_drift(f"{name} {i}", value) for name, numbers in values.items() for i, value in enumerate(numbers)], groups


def test_there_are_500_built_in_texts_in_eight_groups():
    groups = built_in_texts()
    texts = list(chain.from_iterable(groups.values()))
    assert len(groups) == 8
    assert (len(texts), len(set(texts))) == (500, 500)
    assert all(text == text.strip() and len(text) <= 60 for text in texts)
    assert min(map(len, groups.values())) >= 60


def test_a_group_that_changed_more_is_found():
    rng = np.random.default_rng(0)
    values = {name: list(scale * rng.lognormal(0, 0.3, 60)) for name, scale in (("a", 0.02), ("b", 0.03), ("c", 0.02))}
    texts, groups = groups_of(values)
    first, *others = compare_groups(texts, groups)
    assert (first.name, first.texts, first.is_significant) == ("b", 60, True)
    assert first.ratio_ci95[0] < 1.5 < first.ratio_ci95[1]
    assert first.mean.value == pytest.approx(np.mean(values["b"]))
    assert [group.ratio < 1 for group in others] == [True, True]
    logs = {name: np.log(numbers) for name, numbers in values.items()}
    raw = [stats.ttest_ind(logs[x], [*logs[y], *logs[z]], equal_var=False).pvalue for x, y, z in ("abc", "bac", "cab")]
    adjusted = dict(zip("abc", stats.false_discovery_control(raw), strict=True))
    assert {group.name: group.p_value for group in (first, *others)} == pytest.approx(adjusted)


def test_equal_groups_are_seldom_significant():
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(100):
        texts, groups = groups_of({name: list(rng.lognormal(0, 0.5, 12)) for name in "abcd"})
        found += any(group.is_significant for group in compare_groups(texts, groups))
    assert found <= 11  # the expected share is at most 5%


def test_groups_without_a_ratio():
    texts, groups = groups_of({"a": [0.1], "b": [0.2, 0.3]})
    (b, a) = compare_groups(texts, groups)
    assert (b.name, math.isnan(b.ratio), math.isnan(a.p_value), a.is_significant) == ("b", True, True, False)
    assert json.dumps(a.to_dict(), allow_nan=False)
    texts, groups = groups_of({"a": [0.0, 0.0], "b": [0.0, 0.0]})
    assert all(math.isnan(group.ratio) for group in compare_groups(texts, groups))


def test_pixels_have_no_relative_value():
    texts = [text_drift(text, math.nan, value) for text, value in (("x", 1.0), ("y", 3.0), ("z", 5.0))]
    assert [group.mean.value for group in compare_groups(texts, {"a": ["x", "y"], "b": ["z"]})] == [5.0, 2.0]


def test_texts_without_a_relative_value_are_left_out():
    """Such a text, for example one without tokens, does not change the quantity in which the others are compared."""
    texts = [text_drift(f"{name} {i}", relative, 20.0) for name, i, relative in
             (("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.06), ("b", 1, math.nan), ("c", 0, math.nan))]  # fmt: skip
    groups = {"a": ["a 0", "a 1"], "b": ["b 0", "b 1"], "c": ["c 0"]}
    found = [(group.name, group.texts, group.mean.value) for group in compare_groups(texts, groups)]
    assert found == [("a", 2, pytest.approx(0.2)), ("b", 1, 0.06)]


@pytest.mark.filterwarnings("ignore::conjure.IndistinctTextWarning")
def test_report_of_groups_with_a_text_without_tokens(default_process):
    process = default_process.set(steps=2)
    result = conjure.drift(process, process.set(guidance=3.0), {"a": ["dog", "cat"], "b": ["\u200d", "boat"]}, samples=1)
    assert [text.text for text in result.texts if math.isnan(text.relative.value)] == ["\u200d"]
    assert "mean over 3 texts" in result.verdict
    table = result.document().tables[0]
    assert table.columns[2] == "mean relative, %"
    relative = {text.text: text.relative for text in result.texts}
    assert {row[0]: row[1:3] for row in table.rows}["b"] == ["1", str(relative["boat"].as_percentage())]


def test_drift_of_groups(tiny_sd):
    process = conjure.load(tiny_sd, steps=2, guidance=2.0)
    groups = {"animals": ["dog", "cat"], "things": ["house", "boat"]}
    result = conjure.drift(process, process.set(guidance=3.0), groups, samples=1)
    assert {group.name for group in result.groups} == set(groups)
    assert result.document().tables[0].title.startswith("Groups")
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False, default=str))["groups"][0]["texts"] == 2
    with pytest.raises(InputError, match="the group 'empty' has no texts"):
        conjure.drift(process, process, {"empty": []})
    with pytest.raises(InputError, match="occurs twice"):
        conjure.drift(process, process, {"a": ["dog"], "b": ["dog"]})


def test_built_in_texts_are_the_default(monkeypatch, tiny_sd):
    monkeypatch.setattr("conjure.process_drift.compute.built_in_texts", lambda: {"a": ["dog", "cat"], "b": ["house", "boat"]})
    process = conjure.load(tiny_sd, steps=2, guidance=2.0)
    assert {text.text for text in conjure.drift(process, process, samples=1).texts} == {"dog", "cat", "house", "boat"}

"""`print` of every result is a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import conjure
from conjure.evaluation.datasets import read_file
from conjure.process_drift.arrangement import compare_arrangements
from rated_pairs import write_pairs

TEXTS = [f"thing number {i}" for i in range(12)]


@pytest.fixture(scope="module")
def results(tiny_sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    process = conjure.load(tiny_sd, steps=2)
    pairs = read_file(write_pairs(folder / "own.tsv"))
    for guidance in (2, 3):
        evaluation = conjure.evaluate(process.set(guidance=guidance), [pairs], samples=2, out=folder / str(guidance))
    few: dict[str, Any] = {"samples": 2}
    return {
        "process": process,
        "pairs": pairs,
        "estimate": conjure.distance(process, *TEXTS[:2], **few),
        "distance table": conjure.distance_table(process, [(TEXTS[0], TEXTS[1])] * 30, **few),
        "evaluation": evaluation,
        "task": evaluation.tasks["own"],
        "comparison": conjure.diff(folder / "2", folder / "3"),
        "ablation": conjure.ablate(process, [pairs], {"prior": None, "weighting": None}),
        "matrix": conjure.matrix(process, TEXTS[:4], **few),
        "neighbours": conjure.nearest(process, TEXTS[0], TEXTS[1:], samples=2),
        "attribution": conjure.attribute(process, " ".join(TEXTS[:6]), TEXTS[7], **few),
        "explanation": conjure.explain(process, *TEXTS[:2], **few, words=True),
        "drift": conjure.drift(process, process.set(guidance=9), TEXTS[:3], **few),
        "arrangement": compare_arrangements(process, process.set(guidance=9), TEXTS[:4], **few),
    }


def test_print_is_short(results):
    for name, result in results.items():
        for text in (str(result), repr(result)):
            assert 1 <= text.count("\n") + 1 <= 15, name
            assert len(text) < 1500, name
            assert "array(" not in text, name
            assert "tensor(" not in text, name


def test_descriptions_name_the_numbers(results):
    estimate = results["estimate"]
    assert str(estimate) in repr(estimate)
    assert TEXTS[0] in repr(estimate)
    assert "guidance" in str(results["process"])
    agreement = results["evaluation"].tasks["own"].agreement
    assert f"own: Spearman x100 {100 * agreement.spearman:.1f} (95% CI: " in str(results["evaluation"])
    assert f"1. “{results['neighbours'].ranked[0].text}”" in str(results["neighbours"])
    assert f"{results['arrangement'].correlation:.3f}" in str(results["arrangement"])
    assert Path(str(results["comparison"]).split(" minus ")[0]).name == "2"
    assert "prior" in str(results["ablation"])


def test_a_repeated_word_is_named_with_its_number(results):
    labels = [effect.label for effect in results["attribution"].effects]
    assert labels[0] == "without “thing” (word 1)"
    assert labels[3] == "without “thing” (word 4)"
    assert labels[-1] == "without “7”"

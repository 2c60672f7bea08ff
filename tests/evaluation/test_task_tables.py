"""The tables of pairs that a run folder contains, and the choice of some pairs of a task."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from pyarrow import parquet

import conjure
from conjure import InputError
from conjure.evaluation.datasets import read_file
from rated_pairs import RATED_PAIRS, numbered_pairs, write_pairs


def test_tables_have_every_divergence(default_process, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "own.tsv"))
    process = default_process.set(steps=2)
    conjure.evaluate(process, [pairs], samples=2, out=tmp_path / "run")
    rows = parquet.read_table(tmp_path / "run" / "own.parquet").to_pylist()
    cells = list(csv.DictReader((tmp_path / "run" / "own.csv").read_text().splitlines()))
    assert len(rows) == len(cells) == len(RATED_PAIRS)
    for divergence in ("kl", "initial", "final", "direct"):
        expected = conjure.distances(process, pairs.texts, samples=2, divergence=divergence)
        for row, cell, estimate in zip(rows, cells, expected, strict=True):
            assert row[divergence] == pytest.approx(estimate.distance, rel=1e-5)
            assert row[f"{divergence}_stderr"] == pytest.approx(estimate.stderr, rel=1e-3)
            assert (float(cell[divergence]), cell["text1"]) == (row[divergence], row["text1"])
    assert {"samples", "per_step"} & set(cells[0]) == set()
    assert row["ci95_low"] <= row["distance"] <= row["ci95_high"]


def test_a_smaller_choice_is_part_of_a_larger_one():
    pairs = conjure.evaluation.datasets.from_dataframe(Records(numbered_pairs(50)))
    few, more = (pairs.choose(number, 3).texts for number in (5, 12))
    assert set(few) < set(more) < set(pairs.texts)
    assert few != pairs.choose(5, 4).texts
    assert more == [pair for pair in pairs.texts if pair in set(more)]  # in order
    assert pairs.choose(5).texts == pairs.texts[:5]
    assert pairs.choose(None).texts == pairs.texts


class Records:
    """A data frame with the method of polars."""

    def __init__(self, rows):
        self.rows = [{"text1": first, "text2": second, "score": score} for first, second, score in rows]

    def to_dicts(self):
        return self.rows


def test_evaluate_and_bench_choose_the_same_pairs(default_process, tmp_path, conjure_command):
    path = write_pairs(tmp_path / "own.tsv")
    evaluation = conjure.evaluate(default_process.set(steps=1), [read_file(path)], max_pairs=4, shuffle=2)
    arguments = ("--data", path, "--steps", 1, "--max-pairs", 4, "--shuffle", 2, "--out", tmp_path / "run")
    assert conjure_command("bench", *arguments)[0] == 0
    rows = parquet.read_table(tmp_path / "run" / "own.parquet").to_pylist()
    assert [(row["text1"], row["text2"]) for row in rows] == evaluation.tasks["own"].pairs.texts
    assert evaluation.tasks["own"].pairs.texts != read_file(path).texts[:4]
    choices: dict[str, dict[str, Any]] = {"integer >= 3": {"max_pairs": 2}, "give their number": {"shuffle": 1}}
    for message, choice in choices.items():
        with pytest.raises(InputError, match=message):
            conjure.evaluate(default_process, [read_file(path)], **choice)

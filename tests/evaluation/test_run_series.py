"""Many runs are compared with the first, with the numbers of the comparison of two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.run_folder import Run
from conjure.evaluation.run_series import RunSeries
from rated_pairs import write_pairs

TEXTS = ("puppy", "poodle", "shark", "red apple", "green apple", "train", "the sun")
ROWS = [(a, b, float((3 * i + 5 * j) % 11)) for i, a in enumerate(TEXTS) for j, b in enumerate(TEXTS) if i < j]
NAMES = ("checkpoint-1000", "checkpoint-20", "checkpoint-300")


@pytest.fixture(scope="module")
def runs(default_process, tmp_path_factory):
    """The folders of three runs of the same pairs, with one, two and three steps of denoising."""
    folder = tmp_path_factory.mktemp("runs")
    pairs = read_file(write_pairs(folder / "own.tsv", ROWS))
    for steps, name in enumerate(NAMES, 1):
        evaluate(default_process.set(steps=steps), [pairs], out=folder / name, floors=False)
    return [folder / name for name in NAMES]


def test_numbers_are_those_of_two_runs(runs):
    series = conjure.diff_runs(runs)
    task = series.tasks["own"]
    for i in (1, 2):
        expected = conjure.diff(runs[i], runs[0]).tasks["own"]
        assert task.differences[i - 1] == expected.difference
        assert (task.agreements[i], task.agreements[0]) == expected.agreements
    frame = series.to_pandas()
    assert frame["run"].tolist() == list(NAMES)
    assert frame["step"].tolist() == [1000, 20, 300]
    assert np.isnan(frame["difference"][0])
    assert frame["difference"][2] == pytest.approx(frame["spearman"][2] - frame["spearman"][0], abs=0.011)
    assert str(series).startswith("3 runs against checkpoint-1000, Spearman x100\n  own: ")


def test_the_chart_runs_over_the_steps_of_training(runs, tmp_path):
    axes = conjure.diff_runs(runs).plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["20", "300", "1000"]
    assert axes.get_xlabel() == "step of training"
    assert conjure.diff_runs(runs).plot(axes) is axes
    named = [shutil.copytree(run, tmp_path / name) for run, name in zip(runs, "abc", strict=True)]
    axes = conjure.diff_runs(named).plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.get_xlabel() == "run"


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("base0", "checkpoint-500", "step1000"), [0, 500, 1000]),
        (("bench-5feceb66ffc8", "bench-6b86b273ff34", "bench-d4735e3a265e"), None),  # the default folders of conjure bench
        (("cfg-1.5", "cfg-3.0", "cfg-7.25"), None),
        (("step-1-ema", "step-2-ema", "step-3-ema"), None),
        (("a-1", "b-1", "c-2"), None),
    ],
)
def test_steps_are_integers_at_the_end_of_the_names(names, steps):
    runs = [Run(Path("runs") / name, {}, {}) for name in names]
    assert RunSeries(runs, {}).steps == steps


def test_diff_command(conjure_command, runs, tmp_path):
    page = tmp_path / "diff.html"
    code, out, err = conjure_command("diff", *runs, "--out", page)
    assert (code, err) == (0, f"wrote {page}\n")
    assert "Comparison of 3 runs" in out
    assert "minus checkpoint-1000</th>" in page.read_text()
    assert "<td>checkpoint-300</td>" in page.read_text()
    assert page.read_text().count("data:image/png;base64") == 1
    code, out, _ = conjure_command("diff", *runs, "--json")
    assert (code, json.loads(out)) == (0, conjure.diff_runs(runs).summary())


def test_invalid_runs(conjure_command, runs):
    for arguments, message in (
        (runs[:1], "give at least two run folders"),
        ((*runs, "--images", 1, "--out", "x.html"), "images can only be generated for two runs; 3 are given"),
    ):
        code, out, err = conjure_command("diff", *arguments)
        assert (code, out, err.count("\n"), message in err) == (2, "", 1, True)
    for folders in (runs[:1], str(runs[0])):
        with pytest.raises(InputError, match="at least two runs"):
            conjure.diff_runs(folders)

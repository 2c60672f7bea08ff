"""One setting at a time: each cell is what that process gives alone, and one run gives all that needs no other."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from scipy import stats

import conjure
from conjure import InputError
from conjure.benchmarks import read_file
from conjure.divergence import Measure
from conjure.evaluation import evaluate
from conjure.run import run_batches

THINGS = ("puppy", "poodle", "shark", "red apple", "green apple", "train")
ROWS = [(a, b, float((3 * i + 5 * j) % 7)) for i, a in enumerate(THINGS) for j, b in enumerate(THINGS) if i < j]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "own.tsv"
    path.write_text("one\ttwo\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in ROWS))
    return read_file(path)


@pytest.fixture(scope="module")
def quick(default):
    return default.set(steps=3)


def spearman(pairs, values):
    return stats.spearmanr(-np.array(values), pairs.scores).statistic


def test_cells_are_what_each_process_gives(quick, pairs):
    over: dict[str, list[object]] = {"steps": [2, 3], "guidance": [1.5], "scheduler": ["ddim"], "model": ["default"]}
    found = {(cell.axis, cell.value): cell for cell in conjure.ablate(quick, [pairs], over).cells}
    assert set(found) == {("steps", "2"), ("steps", "3"), ("guidance", "1.5"), ("scheduler", "ddim"), ("model", "default")}
    for key, process in {
        ("steps", "2"): quick.set(steps=2), ("guidance", "1.5"): quick.set(guidance=1.5),
        ("scheduler", "ddim"): quick.set(scheduler="ddim"), ("model", "default"): quick,
    }.items():  # fmt: skip
        alone = [one.distance for one in conjure.distances(process, pairs.texts, samples=1)]
        assert found[key].found["own"].spearman == pytest.approx(spearman(pairs, alone)), key
        assert found[key].identity == process.identity()


def test_one_run_gives_priors_samples_and_weightings(quick, pairs):
    ablation = conjure.ablate(quick, [pairs], {"prior": None, "samples": None, "weighting": None}, samples=2)
    found = {(cell.axis, cell.value): cell.found["own"].spearman for cell in ablation.cells}
    for k in (1, 2):
        alone = [one.distance for one in conjure.distances(quick, pairs.texts, samples=k)]
        assert found["samples", str(k)] == pytest.approx(spearman(pairs, alone))
    first, *_, last = conjure.distance(quick, *pairs.texts[0]).timesteps
    whole = ("prior", f"{first:.0f} to {last:.0f}", "jeffreys")
    for axis, value, divergence in (
        ("single step", f"{first:.0f}", "initial"), ("single step", f"{last:.0f}", "final"), whole
    ):  # fmt: skip
        alone = [one.distance for one in conjure.distances(quick, pairs.texts, samples=2, divergence=divergence)]
        assert found[axis, value] == pytest.approx(spearman(pairs, alone))
    assert [axis for axis, _ in found][:6] == ["prior"] * 3 + ["single step"] * 3
    for unit in ("epsilon", "x0", "score", "velocity", "output"):
        alone = [one.distance for one in conjure.distances(quick.set(unit=unit), pairs.texts, samples=2)]
        assert found["weighting", unit] == pytest.approx(spearman(pairs, alone))
    alone = [one.distance for one in conjure.distances(quick, pairs.texts, samples=2, weighting="girsanov")]
    assert found["weighting", "nats"] == pytest.approx(spearman(pairs, alone))


def test_nothing_is_computed_twice(quick, pairs, tmp_path, monkeypatch):
    """The folder of a run of bench is used, and a second call computes nothing."""
    evaluate(quick, [pairs], out=tmp_path / "run")
    walked = []

    def counting(process, left, **options):
        walked.append(len(left))
        return run_batches(process, left, **options)

    monkeypatch.setattr("conjure.similarity.run_batches", counting)
    over: dict[str, list[int] | None] = {"steps": [2, 3], "prior": None}
    for expected in ([0, len(THINGS), 0], [0, 0, 0]):
        walked.clear()
        conjure.ablate(quick, [pairs], over, out=tmp_path / "run")
        assert walked == expected
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"] == quick.identity()


def test_ablate_command(conjure_command, pairs, tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text("one\ttwo\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in ROWS))
    arguments = (
        "--data",
        path,
        "--steps",
        2,
        "--out",
        tmp_path / "out",
        "--over",
        "steps=2",
        "--over",
        "steps=3",
        "--over",
        "prior",
    )
    code, told, err = conjure_command("ablate", *arguments, "--json")
    cells = json.loads(told)["cells"]
    assert (code, "steps 3" in err) == (0, True)
    assert [cell["value"] for cell in cells if cell["axis"] == "steps"] == ["2", "3"]
    written = list(csv.DictReader((tmp_path / "out" / "ablation.csv").open()))
    assert [float(row["spearman"]) for row in written] == [cell["spearman"] for cell in cells]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "ablation.json", "ablation.md", "ablation.html", "steps.png", "prior.png", "single-step.png"
    }  # fmt: skip
    assert (tmp_path / "out" / "ablation.html").read_text().count("data:image/png") == 3
    code, told, _ = conjure_command("ablate", *arguments)
    assert (code, "## " in (tmp_path / "out" / "ablation.md").read_text(), "steps" in told) == (0, True, True)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({}, "nothing is varied; allowed are steps"),
        ({"colour": None}, "unknown axis 'colour'; allowed are steps, guidance"),
        ({"prior": [1]}, "takes no values, since one run gives all of them"),
        ({"size": None}, "needs values, as in size=512,768"),
        ({"model": None}, "needs values, as in model=MODEL,MODEL"),
        ({"steps": ["many"]}, "'many' is no value of steps; allowed are whole numbers"),
        ({"steps": [0]}, "steps is 0; allowed"),
        ({"steps": [2.9]}, "2.9 is no value of steps; allowed are whole numbers"),
        ({"guidance": [-1]}, "guidance is -1"),
        ({"scheduler": ["nope"]}, "unknown scheduler 'nope'"),
    ],
)
def test_what_cannot_be_varied(quick, pairs, over, message, monkeypatch):
    monkeypatch.setattr("conjure.ablation.evaluate", None)  # refused before anything is run
    with pytest.raises(InputError, match=message):
        conjure.ablate(quick, [pairs], over)


def test_measures_without_a_unit_are_left_out(pairs):
    """A noise model has no x0 at pure noise: the axis goes on without it, while the same measure alone is an error."""
    from gaussian import gaussian, process_of

    texts = {text: gaussian(float(i)) for i, text in enumerate(THINGS)}
    ablation = conjure.ablate(process_of(texts, "flow", steps=4), [pairs], {"weighting": None})
    assert {cell.value for cell in ablation.cells} == {"epsilon", "x0", "score", "velocity", "output", "nats"}
    assert Measure(unit="x0").unit == "x0"

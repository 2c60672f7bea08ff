"""Two runs side by side: the difference is that of their tables, and the pictures are those of the models that ran."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from scipy import stats

import conjure
from conjure import InputError
from conjure.benchmarks import read_file
from conjure.comparison import pictures_of
from conjure.evaluation import evaluate

THINGS = ("puppy", "poodle", "shark", "red apple", "green apple", "train", "the sun", "a house")
ROWS = [(a, b, float((3 * i + 5 * j) % 11)) for i, a in enumerate(THINGS) for j, b in enumerate(THINGS) if i < j]


@pytest.fixture(scope="module")
def runs(default, tmp_path_factory):
    """Runs of the same pairs: the default model with two and with three steps."""
    place = tmp_path_factory.mktemp("runs")
    (place / "own.tsv").write_text("one\ttwo\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in ROWS))
    for steps in (2, 3):
        evaluate(default.set(steps=steps), [read_file(place / "own.tsv")], samples=2, out=place / str(steps))
    return place


def test_diff_is_that_of_the_tables(runs):
    found = conjure.diff(runs / "2", runs / "3").tasks["own"]
    tables = [parquet.read_table(runs / name / "own.parquet").to_pydict() for name in ("2", "3")]
    people = np.array(tables[0]["score"])
    each = [stats.spearmanr(-np.array(table["distance"]), people).statistic for table in tables]
    assert [one.spearman for one in found.agreements] == pytest.approx(each)
    assert found.difference.spearman == pytest.approx(each[0] - each[1])
    assert found.difference.ranks == pytest.approx(stats.spearmanr(*(table["distance"] for table in tables)).statistic)
    ranks = [stats.rankdata(-np.array(table["distance"])) for table in tables]
    moves = abs(ranks[0] - ranks[1]) * 100 / (len(people) - 1)
    first = found.moved[0]
    assert abs(first.ranks[0] - first.ranks[1]) == pytest.approx(moves.max())
    assert len(found.moved) == min(20, len(people))


def test_a_run_against_itself(runs):
    comparison = conjure.diff(runs / "2", runs / "2")
    found = comparison.tasks["own"].difference
    assert (found.spearman, found.ci95, found.ranks) == (0, (0, 0), pytest.approx(1))
    assert found.p == 1
    assert comparison.tasks["own"].moved == []
    assert "moved" not in comparison.document().markdown()
    assert "Ranks of pairs" not in comparison.document().markdown()
    assert pictures_of(comparison, 2) == {}


def test_diff_command(conjure_command, runs, tmp_path):
    code, told, _ = conjure_command("diff", runs / "2", runs / "3", "--json")
    summary = json.loads(told)
    assert (code, set(summary["tasks"]["own"])) == (0, {"title", "pairs", "spearman", "ci95", "difference", "moved"})
    page = tmp_path / "diff.html"
    code, told, err = conjure_command("diff", runs / "2", runs / "3", "--pictures", 2, "--out", page)
    assert (code, "Two runs" in told, err) == (0, True, f"wrote {page}\n")
    assert "first less second" in page.read_text()
    assert page.read_text().count("data:image/png;base64") == 2
    assert "http" not in page.read_text()


def test_pictures_are_those_of_both_models(runs, default, monkeypatch):
    shown = []

    def contact_sheet(pictures, rows, columns):
        shown.append((pictures, columns))
        return b""

    monkeypatch.setattr("conjure.render.contact_sheet", contact_sheet)
    comparison = conjure.diff(runs / "2", runs / "3")
    pictures_of(comparison, 1)
    (pictures, texts), = shown  # fmt: skip
    seed = conjure.estimate.noise_seed(0, 0)
    for row, steps in zip(pictures, (2, 3), strict=True):
        expected = default.set(steps=steps).run(list(texts), [seed] * 2, "np")
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_runs_that_cannot_be_compared(runs, default, conjure_command, tmp_path):
    def refused(first, second, *more):
        code, out, err = conjure_command("diff", first, second, *more)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "holds no finished run" in refused(runs / "2", tmp_path)
    pairs = read_file(runs / "own.tsv")
    evaluate(default.set(steps=2), [pairs.head(5)], out=tmp_path / "fewer")
    assert "other pairs under the name 'own' (28 and 5)" in refused(runs / "2", tmp_path / "fewer")
    shutil.copy(runs / "own.tsv", tmp_path / "another.tsv")
    evaluate(default.set(steps=2), [read_file(tmp_path / "another.tsv")], out=tmp_path / "named")
    assert "share no task; they have own and another" in refused(runs / "2", tmp_path / "named")
    assert "allowed are names that end with .html or .md" in refused(runs / "2", runs / "3", "--out", "x.txt")
    assert "need a page to stand in" in refused(runs / "2", runs / "3", "--pictures", 2)
    shutil.copytree(runs / "2", tmp_path / "broken")
    (tmp_path / "broken" / "own.parquet").write_bytes(b"no table")
    assert "holds no finished run" in refused(runs / "3", tmp_path / "broken")


def test_a_model_that_is_no_longer_there(runs, tmp_path):
    shutil.copytree(runs / "2", tmp_path / "changed")
    path = tmp_path / "changed" / "summary.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["identity"], "0" * 64))
    with pytest.raises(InputError, match="'default' is not the one that ran in .*changed"):
        pictures_of(conjure.diff(tmp_path / "changed", runs / "3"), 1)

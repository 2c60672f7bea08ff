"""Benchmarks: the data are what they should be, nothing finished is lost or computed twice, and the statistics are right."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SIMILARITY
from pyarrow import parquet
from scipy import stats

import conjure
from conjure import InputError
from conjure.agreement import agreement, difference, reliability
from conjure.benchmarks import SEVEN, TASKS, of_frame, read, read_file, read_tasks
from conjure.evaluation import evaluate
from conjure.report import markdown, page
from conjure.run import run

OWN = [
    ("puppy", "poodle", 9.0), ("puppy", "shark", 3.5), ("red apple", "green apple", 8.0), ("red apple", "train", 1.0),
    ("the sun", "the moon", 5.0), ("a house", "a train", 2.0), ("puppy", "a house", 1.5), ("shark", "a blue whale", 7.5),
]  # fmt: skip


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text("one\ttwo\tscore\n" + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in OWN), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def quick(default):
    return default.set(steps=2)


# data


@pytest.mark.skipif(not SIMILARITY.is_dir(), reason="human judgements are not at hand")
@pytest.mark.parametrize("name", TASKS)
def test_sets_are_what_their_readme_says(name):
    pairs = read(name, SIMILARITY)
    assert len(pairs) == TASKS[name].pairs
    low, high = TASKS[name].scores
    assert low <= pairs.scores.min() < pairs.scores.max() <= high
    assert (pairs.part is None) == (TASKS[name].part is None)


@pytest.mark.skipif(not SIMILARITY.is_dir(), reason="human judgements are not at hand")
def test_protocols():
    assert sum(TASKS[name].pairs for name in SEVEN) == 18850 == sum(len(read(name, SIMILARITY)) for name in SEVEN)
    assert Counter(read("simlex999", SIMILARITY).part) == {"adjective": 111, "noun": 666, "verb": 222}
    plain, stopped = read("sickr", SIMILARITY), read("sickr-stop", SIMILARITY)
    assert all(text.endswith(".") for text in stopped.first)
    assert [text.rstrip(".") for text in stopped.first] == [text.rstrip(".") for text in plain.first]
    assert len(read("sickr-all", SIMILARITY)) == 9927
    assert plain.sha256 != stopped.sha256
    assert [task.name for task in read_tasks("seven,rg65,stsb", SIMILARITY, 3)] == [*SEVEN, "rg65"]
    assert [len(task) for task in read_tasks(None, SIMILARITY, 5)] == [5] * 9


def test_own_file(own):
    pairs = read_file(own)
    assert pairs.texts == [(a, b) for a, b, _ in OWN]
    assert pairs.scores.tolist() == [score for *_, score in OWN]
    assert pairs.head(3).sha256 != pairs.sha256


def test_frames(own):
    """What pandas gives is read like a file."""
    frame = SimpleNamespace(to_dict=lambda kind: [{"text1": a, "text2": b, "score": score} for a, b, score in OWN])
    assert of_frame(frame).texts == read_file(own).texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'score'"),
        ("one\ttwo\tscore\n", "has no column 'score'|has no pairs"),
        ("one\ttwo\trating\na\tb\t1\n", "has no column 'score'; it has one, two, rating"),
        ("one\tscore\na\t1\n", "two of texts and 'score' are needed"),
        ("one\ttwo\tscore\na\tb\thigh\n", "row 2: the score is 'high'; allowed are numbers"),
        ("one\ttwo\tscore\na\tb\tnan\n", "row 2: the score is 'nan'"),
        ("one\ttwo\tscore\na\tb\t1\n \tb\t1\n", "row 3: one is blank"),
        ("one\ttwo\tscore\na\tb\n", "row 2: 2 columns instead of 3; separate them by tabs"),
    ],
)
def test_bad_files(tmp_path, conjure_command, text, message):
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_file(path)
    code, out, err = conjure_command("bench", "--data", path, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_sets_that_are_not_what_they_should_be(tmp_path):
    (tmp_path / "rg65.tsv").write_text("word1\tword2\tscore\ngem\tjewel\t3.9\n")
    with pytest.raises(InputError, match="gives 1 pairs of RG65 instead of 65; get it again"):
        read("rg65", tmp_path)
    (tmp_path / "rg65.tsv").write_text("word1\tword2\tscore\ngem\tjewel\t9\n")
    with pytest.raises(InputError, match="allowed are numbers from 0 to 4"):
        read("rg65", tmp_path)
    with pytest.raises(InputError, match=r"simlex999.tsv' cannot be read"):
        read("simlex999", tmp_path)
    (tmp_path / "stsb.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t1\n")
    with pytest.raises(InputError, match="no column 'split'"):
        read("stsb", tmp_path)
    with pytest.raises(InputError, match="unknown task 'nope'; allowed are sts12"):
        read("nope", tmp_path)
    with pytest.raises(InputError, match="RG65 .* is not on the Hub"):
        read("rg65")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "/no/such/place"), "neither a folder of sets nor a file"),
        (("--tasks", "stsb,nope", "--data", "."), "cannot be read"),
        (("--tasks", ",", "--data", "."), "no task is named"),
        (("--limit", 2, "--data", "."), "limit is 2; allowed"),
        (("--tasks", "rg65"), "not on the Hub in this form"),
    ],
)
def test_bad_arguments(conjure_command, arguments, message):
    code, out, err = conjure_command("bench", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_sets_from_the_hub(monkeypatch):
    """With the pinned revision, and checked like any other."""
    asked = []

    def load_dataset(name, revision, split):
        asked.append((name, revision, split))
        return [{"sentence1": f"text {i}", "sentence2": "other", "score": float(i % 6)} for i in range(1379)]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(read("stsb")) == 1379
    assert asked == [("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", "test")]
    with pytest.raises(InputError, match="gives 1379 pairs of STS12 instead of 3108"):
        read("sts12")

    def fails(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fails))
    with pytest.raises(InputError, match="cannot be fetched from the Hub: no network.*--data"):
        read("stsb")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="need the package datasets"):
        read("stsb")


# runs


def test_bench_command(conjure_command, own, tmp_path, quick):
    out = tmp_path / "run"
    code, told, err = conjure_command("bench", "--data", own, "--out", out, "--steps", 2, "--samples", 2, "--json")
    summary = json.loads(told)
    task = summary["tasks"]["own"]
    assert code == 0
    assert {"spearman", "ci95", "pairs", "reliability"} <= set(task)
    texts = len({text for pair in OWN for text in pair[:2]})
    assert f"8 pairs, {2 * texts} of {2 * texts} trajectories to walk" in err  # a text that stands in many pairs walks once
    assert json.loads((out / "summary.json").read_text()) == summary
    rows = parquet.read_table(out / "own.parquet").to_pylist()
    assert [(row["text1"], row["text2"], row["score"]) for row in rows] == OWN
    again = stats.spearmanr([-row["distance"] for row in rows], [row["score"] for row in rows]).statistic
    assert task["spearman"] == pytest.approx(100 * again, abs=0.01)
    for row in (rows[0], rows[7]):
        alone = conjure.distance(quick, row["text1"], row["text2"], samples=2)
        assert row["distance"] == pytest.approx(alone.distance, rel=1e-5)
        assert row["stderr"] == pytest.approx(alone.stderr, rel=1e-3)
        assert (row["forward"], row["backward"]) == (pytest.approx(alone.forward), pytest.approx(alone.backward))
        assert row["per_step"] == pytest.approx(alone.per_step, rel=1e-4)
        assert row["samples"] == pytest.approx(alone.samples, rel=1e-5)
    for divergence in ("kl", "initial", "final", "direct"):
        values = [conjure.distance(quick, a, b, samples=2, divergence=divergence).distance for a, b, _ in OWN]
        agreed = stats.spearmanr(-np.array(values), [score for *_, score in OWN]).statistic
        assert task["divergences"][divergence]["spearman"] == pytest.approx(100 * agreed, abs=0.01)
    code, told, _ = conjure_command("bench", "--data", own, "--out", out, "--steps", 2, "--samples", 2)
    assert (code, "own" in told, "Spearman" in told) == (0, True, True)
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def counted(monkeypatch):
    sources = []

    def counting(process, left, **options):
        sources.append(len(left))
        return run(process, left, **options)

    monkeypatch.setattr("conjure.evaluation.run", counting)
    return sources


def test_a_run_goes_on_where_it_was_stopped(quick, own, tmp_path, monkeypatch):
    pairs = read_file(own)
    whole = evaluate(quick, [pairs], samples=2)

    class StopError(Exception):
        pass

    def stop(done, total):
        if done > total / 2:
            raise StopError

    narrow = quick.set(rows=12)  # four sources a batch
    with pytest.raises(StopError):
        evaluate(narrow, [pairs], samples=2, out=tmp_path / "run", progress=stop)
    sources, texts = counted(monkeypatch), len({text for pair in pairs.texts for text in pair})
    rest = evaluate(narrow, [pairs], samples=2, out=tmp_path / "run")
    assert 0 < sources[0] < 2 * texts
    np.testing.assert_allclose(rest.tasks["own"].distances, whole.tasks["own"].distances, rtol=1e-5)
    evaluate(narrow, [pairs.head(4)], samples=1, out=tmp_path / "run")
    more = evaluate(narrow, [pairs], samples=3, out=tmp_path / "run")
    assert sources[1:] == [0, texts]  # what is there is used, for fewer pairs and more samples
    np.testing.assert_allclose(more.tasks["own"].distances[:, :2], whole.tasks["own"].distances, rtol=1e-5)


def test_killed_and_continued(own, tmp_path):
    """kill -9 at any moment: what was finished is there, and the same command ends with the numbers of an undisturbed run."""
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tother thing {i}\t{i % 7}\n" for i in range(60)))

    def command(out):
        return [sys.executable, "-m", "conjure", "bench", "--data", str(own), "--out", str(tmp_path / out), "--steps", "2"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, held = tmp_path / "killed" / "store.sqlite", 0
    while process.poll() is None and not held:
        time.sleep(0.02)
        if store.exists():
            try:
                held = sqlite3.connect(store).execute("SELECT count(*) FROM judged").fetchone()[0]
            except sqlite3.Error:
                continue
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert held
    subprocess.run(command("killed"), check=True, capture_output=True)
    one, other = (parquet.read_table(tmp_path / name / "own.parquet").to_pylist() for name in ("whole", "killed"))
    assert [row["distance"] for row in other] == pytest.approx([row["distance"] for row in one], rel=1e-5)


def test_another_process_never_meets_these_rows(quick, own, tmp_path):
    pairs = read_file(own).head(3)
    evaluate(quick, [pairs], out=tmp_path / "run")
    with pytest.raises(InputError, match="holds a run with steps 2 instead of 3; name another by --out"):
        evaluate(quick.set(steps=3), [pairs], out=tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    other = evaluate(quick.set(steps=3), [pairs], out=tmp_path / "run")  # even in one store
    np.testing.assert_allclose(
        other.tasks["own"].distances, evaluate(quick.set(steps=3), [pairs]).tasks["own"].distances, rtol=1e-5
    )


def test_folders_that_cannot_be_used(quick, own, tmp_path):
    pairs = read_file(own).head(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        evaluate(quick, [pairs], out=tmp_path / "file" / "run")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot be used as a store of results"):
        evaluate(quick, [pairs], out=broken)


def test_antithetic_and_nats(quick, own):
    pairs = read_file(own)
    result = evaluate(quick, [pairs], samples=2, antithetic=True).tasks["own"]
    assert set(result.divergences) == {"jeffreys", "kl", "initial", "final"}
    assert result.distances[1].tolist() == pytest.approx(
        conjure.distance(quick, *pairs.texts[1], samples=2, antithetic=True).samples, rel=1e-5
    )
    nats = evaluate(quick, [pairs], weighting="girsanov").tasks["own"]
    assert set(nats.divergences) == {"jeffreys"}
    assert np.isnan(nats.reliability)
    assert nats.summary()["reliability"] is None


def test_report(quick, own):
    pairs = replace(read_file(own), title="<b>a|b</b>")
    evaluation = evaluate(quick, [pairs], samples=2)
    assert "| <b>a\\|b</b> | 8 |" in markdown(evaluation)
    assert "<td>&lt;b&gt;a|b&lt;/b&gt;</td><td>8</td>" in page(evaluation)
    assert "http" not in page(evaluation)


@pytest.mark.skipif(not SIMILARITY.is_dir(), reason="human judgements are not at hand")
def test_the_paper_stands_beside_whole_sets_only(quick):
    part = evaluate(quick, [read("rg65", SIMILARITY).head(4)])
    whole = evaluate(quick, [read("rg65", SIMILARITY)])
    assert "60.2" in markdown(whole)
    assert "60.2" not in markdown(part)


# statistics


def test_agreement_is_scipy_s():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 300).astype(float)  # with ties
    distances = -scores + rng.normal(size=300)
    found = agreement(distances[:, None], scores)
    known = stats.spearmanr(-distances, scores)
    assert (found.spearman, found.p) == (pytest.approx(known.statistic), pytest.approx(known.pvalue))
    assert found.pearson == pytest.approx(stats.pearsonr(-distances, scores).statistic)
    assert found.ci95[0] < found.spearman < found.ci95[1]
    half = 1.96 * (1 - found.spearman**2) / 300**0.5  # of a correlation in large samples
    assert found.ci95[1] - found.ci95[0] == pytest.approx(2 * half, rel=0.35)


def test_a_random_scorer_agrees_with_nobody():
    rng = np.random.default_rng(1)
    found = agreement(rng.normal(size=(1000, 1)), rng.normal(size=1000))
    assert abs(found.spearman) < 0.1
    assert found.ci95[0] < 0 < found.ci95[1]


def test_samples_widen_the_interval():
    """All pairs share the noise of a sample, so resampling samples is part of the error."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=200)
    noisy = -scores[:, None] + rng.normal(size=(200, 2)) * 0.5 + 2 * rng.normal(size=(200, 2)) * (np.arange(200) % 2)[:, None]
    both, one = agreement(noisy, scores), agreement(noisy.mean(1, keepdims=True), scores)
    assert both.spearman == one.spearman
    assert both.ci95[1] - both.ci95[0] > one.ci95[1] - one.ci95[0]


@pytest.mark.parametrize(
    ("distances", "scores", "message"),
    [
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], "1 of 3 distances are not numbers"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "all distances are 1"),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], "all scores are 4"),
        ([1.0, 2.0], [4.0, 5.0], "give at least 3"),
    ],
)
def test_what_does_not_correlate(distances, scores, message):
    with pytest.raises(InputError, match=message):
        agreement(np.array(distances)[:, None], np.array(scores))


def test_reliability_is_that_of_the_simulation():
    """Truth of variance 1 under noise of variance 1 a sample: k samples have the reliability k / (k + 1)."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(3000, 1))
    for samples in (2, 3, 8):
        known, ceiling = reliability(truth + rng.normal(size=(3000, samples)))
        assert known == pytest.approx(samples / (samples + 1), abs=0.04)
        assert ceiling == pytest.approx(known**0.5)
    assert np.isnan(reliability(truth)[0])


def test_paired_difference():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=400)
    good, bad = (-scores[:, None] + rng.normal(size=(400, 1)) * noise for noise in (0.5, 2.0))
    whole, (low, high), p = difference(good, bad, scores)
    assert 0 < low < whole < high
    assert p < 0.01
    same, (low, high), p = difference(good, -scores[:, None] + rng.normal(size=(400, 1)) * 0.5, scores)
    assert low < 0 < high
    assert p > 0.05
    assert abs(same) < 0.1

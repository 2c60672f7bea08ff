"""Benchmarks: the data are what they should be, nothing finished is lost or computed twice, and the statistics are right."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import string
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import SIMILARITY
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from pyarrow import parquet
from scipy import stats

import conjure
from conjure import InputError
from conjure.agreement import _counts, _spearman_of, agreement, difference, reliability
from conjure.baselines import Cosine, Random
from conjure.benchmarks import SEVEN, TASKS, of_frame, read, read_file, read_tasks
from conjure.checks import read_groups
from conjure.evaluation import Forecast, evaluate, forecast
from conjure.report import markdown, page
from conjure.run import run, run_batches

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
    assert all(text[-1] in string.punctuation for text in stopped.first)
    assert sum(text.endswith(".") for text in stopped.first) > 4900
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


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    """As spreadsheets and editors of Windows put it first."""
    (tmp_path / "own.tsv").write_text("score\ta\tb\n1\tx\ty\n", encoding="utf-8-sig")
    assert read_file(tmp_path / "own.tsv").texts == [("x", "y")]
    (tmp_path / "texts").write_text("x\ny\n", encoding="utf-8-sig")
    assert read_groups(tmp_path / "texts") == [["x", "y"]]


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
    assert ("Bias is" in told, "Bias is" in (out / "report.html").read_text()) == (False, True)  # with its column only


def counted(monkeypatch):
    sources = []

    def counting(process, left, **options):
        sources.append(len(left))
        return run_batches(process, left, **options)

    monkeypatch.setattr("conjure.similarity.run_batches", counting)
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


def test_killed_fifty_times(tiny_sd, own, tmp_path):
    """kill -9 at fifty random moments: the table of a run that was continued is that of one let alone."""
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tother {i}\t{i % 7}\n" for i in range(40)))
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(script), str(tiny_sd), str(own), str(tmp_path / "runs"), "50"]
    told = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    whole, *others = sorted((tmp_path / "runs").iterdir(), key=lambda folder: int(folder.name))
    assert others
    for name in ("own.parquet", "report.md", "summary.json", "report.html"):
        for other in others:
            assert (other / name).read_bytes() == (whole / name).read_bytes()


def test_clock_that_jumps(quick, own, tmp_path, monkeypatch):
    """Years to and fro while it runs, and between two runs: nothing finished is taken for missing, and no number changes."""
    pairs, jumps = read_file(own), random.Random(0)
    whole = evaluate(quick, [pairs], samples=2, out=tmp_path / "whole")
    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: jumps.uniform(-1e9, 3e9))
    evaluate(quick, [pairs], out=tmp_path / "run")
    told: list[str] = []
    again = evaluate(quick, [pairs], samples=2, out=tmp_path / "run", started=told.append)
    texts = len({text for pair in pairs.texts for text in pair})
    assert f"{texts} of {2 * texts} trajectories" in told[0]
    np.testing.assert_allclose(again.tasks["own"].distances, whole.tasks["own"].distances, rtol=1e-5)
    assert again.summary()["tasks"] == whole.summary()["tasks"]


@pytest.fixture
def overflows(tiny_sd):
    """A process that gives NaN for texts with an @."""
    process = conjure.load(tiny_sd, steps=2)
    sign = process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

    def spoil(_, inputs, output):
        output[0][(inputs[0] == sign).any(1)] = torch.nan

    process.pipeline.text_encoder.register_forward_hook(spoil)
    return process


@pytest.mark.parametrize("kept", [False, True])
def test_texts_for_which_there_are_no_numbers(overflows, own, tmp_path, monkeypatch, conjure_command, kept):
    """They are named, the pairs without them give what they give alone, and the exit code says so."""
    good = read_file(own)
    own.write_text(own.read_text() + "puppy\tno @ number\t4\nno @ number\tan @\t3\nshark\tan @\t2\n")
    process = overflows.set(store=conjure.Store(tmp_path / "kept.sqlite") if kept else None)
    told = evaluate(process, [read_file(own)], samples=2, baselines=[Random()])
    assert told.broken == ("an @", "no @ number")
    result, alone = told.tasks["own"], evaluate(process, [good], samples=2, baselines=[Random()]).tasks["own"]
    assert (result.left_out, alone.left_out, len(result.pairs)) == (3, 0, len(good))
    np.testing.assert_allclose(result.distances, alone.distances, rtol=1e-5)
    assert result.baselines["random"].agreement == alone.baselines["random"].agreement
    with pytest.raises(InputError, match="the model's numbers are not finite for 1 text: 'no @ number'; use a smaller"):
        conjure.distance(process, "no @ number", "puppy", samples=2)
    own.write_text("one\ttwo\tscore\npuppy\tan @\t1\nshark\tan @\t2\npuppy\tshark\t3\n")
    with pytest.raises(InputError, match="for 1 text: 'an @'; of what is left of own: a rank correlation of 1 pairs"):
        evaluate(process, [read_file(own)])


def test_command_says_that_there_are_no_numbers(overflows, own, tmp_path, monkeypatch, conjure_command):
    own.write_text(own.read_text() + "puppy\tan @\t4\n")
    monkeypatch.setattr(conjure, "load", lambda *_, **__: overflows)
    code, out, err = conjure_command("bench", "--data", own, "--out", tmp_path / "run")
    assert (code, "| own | 8 |" in (tmp_path / "run" / "report.md").read_text()) == (1, True)
    assert "the model's numbers are not finite for 1 text: 'an @'; the rest is told" in err
    assert "left out with them: 1 pair." in (tmp_path / "run" / "report.md").read_text()
    assert "8" in out
    code, _, err = conjure_command("ablate", "--data", own, "--over", "guidance=1", "--out", tmp_path / "ablation")
    assert (code, "not finite for 1 text: 'an @'" in err) == (1, True)


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


def test_what_would_be_taken_for_another(quick, own):
    pairs = read_file(own)
    with pytest.raises(InputError, match="two tasks are called 'own'; give each a name of its own"):
        evaluate(quick, [pairs, pairs.head(4)])
    with pytest.raises(InputError, match="no task is given"):
        evaluate(quick, [])
    with pytest.raises(InputError, match="all scores are 3"):
        evaluate(quick, [replace(pairs, scores=np.full(8, 3.0))], started=print)  # said before anything is run


def test_a_part_that_people_find_all_alike(quick, own):
    pairs = replace(read_file(own), scores=np.array([5.0, 5, 5, 1, 2, 3, 4, 5]), part=tuple("xxxyyyyy"))
    assert set(evaluate(quick, [pairs]).tasks["own"].parts) == {"y"}


def test_what_was_measured_is_told(conjure_command, own, tmp_path):
    """In the summary, the report, the table and the Hub's notes, so that no two measures are taken for one."""
    arguments = ("bench", "--data", own, "--steps", 2, "--divergence", "final", "--out", tmp_path / "run")
    code, told, _ = conjure_command(*arguments, "--json")
    assert code == 0
    assert json.loads(told)["measure"] == {
        "divergence": "final", "weighting": "uniform", "reduction": "sum", "unit": "squared norm of noise"
    }  # fmt: skip
    assert "final, uniform, squared norm of noise" in (tmp_path / "run" / "report.md").read_text()
    assert parquet.read_schema(tmp_path / "run" / "own.parquet").metadata[b"divergence"] == b"final"


def test_a_full_disk(own, tmp_path):
    """One line, exit code 2, and what was finished is there for the same command when there is room."""
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tother thing {i}\t{i % 7}\n" for i in range(40)))
    command = [sys.executable, "-m", "conjure", "bench", "--data", str(own), "--out", str(tmp_path / "run"), "--steps", "2"]
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); from conjure.cli import main; main(sys.argv[1:])"
    )
    full = subprocess.run([sys.executable, "-c", limited, *command[3:]], capture_output=True, text=True)
    assert full.returncode == 2
    assert "cannot be written" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    held = sqlite3.connect(tmp_path / "run" / "store.sqlite").execute("SELECT count(*) FROM judged").fetchone()[0]
    assert 0 < held < 80
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
    assert f"{80 - held} of 80 trajectories to walk" in again.stderr


def test_a_disk_that_is_full(own, tmp_path):
    """A file system of its own, which has no room left at all."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = 'mount -t tmpfs -o size=300k none "$1" && shift && "$@"'
    small = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
    if shutil.which("unshare") is None or subprocess.run([*small, "sh", place, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tother thing {i}\t{i % 7}\n" for i in range(60)))
    run = [sys.executable, "-m", "conjure", "bench", "--data", str(own), "--out", str(place / "run"), "--steps", "2"]
    keep = f'"$@"; code=$?; cp -r {place}/run {tmp_path}/run; exit $code'  # it is gone with the last that sees it
    full = subprocess.run([*small, "sh", place, "sh", "-c", keep, "sh", *run], capture_output=True, text=True)
    assert (full.returncode, "Traceback" in full.stderr) == (2, False), full.stderr
    assert "cannot be written: database or disk is full; what was finished is kept" in full.stderr.splitlines()[-1]
    held = sqlite3.connect(tmp_path / "run" / "store.sqlite").execute("SELECT count(*) FROM judged").fetchone()[0]
    assert 0 < held < 120
    again = subprocess.run([*run[:-3], str(tmp_path / "run"), *run[-2:]], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"{120 - held} of 120 trajectories to walk" in again.stderr


def test_baselines_of_a_run(conjure_command, own, tmp_path):
    """Beside the process in every table, kept like its results, and held against it pair by pair."""
    arguments = ("bench", "--data", own, "--out", tmp_path / "run", "--steps", 2, "--baseline", "encoder", "--baseline", "random")
    code, told, err = conjure_command(*arguments, "--json")
    assert (code, "baseline encoder: 8 of 8 pairs" in err) == (0, True)
    task = json.loads(told)["tasks"]["own"]
    rows = parquet.read_table(tmp_path / "run" / "own.parquet").to_pylist()
    scores = [row["score"] for row in rows]
    for name in ("encoder", "random"):
        again = stats.spearmanr([-row[f"baseline {name}"] for row in rows], scores).statistic
        less = task["baselines"][name]["process less this"]
        assert task["baselines"][name]["spearman"] == pytest.approx(100 * again, abs=0.01)
        assert less["spearman"] == pytest.approx(task["spearman"] - task["baselines"][name]["spearman"], abs=0.02)
        assert less["ci95"][0] <= less["spearman"] <= less["ci95"][1]
    code, told, err = conjure_command(*arguments)
    assert (code, "baseline encoder:" in err, "Baselines" in told) == (0, False, True)


def test_baselines_go_on_where_they_were_stopped(quick, own, tmp_path):
    asked = []

    def embed(texts):
        asked.extend(texts)
        return np.stack([np.random.default_rng(len(text)).normal(size=3) for text in texts])

    pairs = read_file(own)
    for _ in range(2):
        evaluate(quick, [pairs.head(4)], baselines=[Cosine("letters", {}, embed)], out=tmp_path / "run")
    first = len(asked)
    found = evaluate(quick, [pairs], baselines=[Cosine("letters", {}, embed)], out=tmp_path / "run").tasks["own"]
    rest = {text for pair in pairs.texts[4:] for text in pair}
    assert (first, set(asked[first:])) == (len({text for pair in pairs.texts[:4] for text in pair}), rest)
    np.testing.assert_allclose(found.baselines["letters"].distances, Cosine("letters", {}, embed).distances(pairs.texts))
    other = Cosine("letters", {"weights": "another"}, embed)
    asked.clear()
    evaluate(quick, [pairs], baselines=[other], out=tmp_path / "run")
    assert asked


def test_a_baseline_that_saturates(quick, own):
    flat = Cosine("flat", {}, lambda texts: np.ones((len(texts), 2)))
    evaluation = evaluate(quick, [read_file(own)], baselines=[flat, Random()])
    assert evaluation.tasks["own"].baselines["flat"].agreement is None
    assert "| own | flat | all 0 |" in markdown(evaluation).replace("2.22e-16", "0")
    assert evaluation.summary()["tasks"]["own"]["baselines"]["flat"]["spearman"] is None


def test_forecast(quick):
    """Of the order of what the run takes, from a small part of it."""
    from conjure.run import Source

    process = quick.set(steps=10, rows=12)
    sources = [Source(f"thing {i}", 1, (f"other {i}",)) for i in range(64)]
    list(run(process, sources[:4]))
    told = forecast(process, sources)
    assert told is not None
    started = time.perf_counter()
    list(run(process, sources))
    assert 1 / 10 < told.seconds / (time.perf_counter() - started) < 10
    assert told.size == 64 * 16 * 8 * 8 * 4
    assert forecast(process, sources[:3]) is None  # of so little nothing is to be told
    assert str(Forecast(30, 0)) == "about a minute"
    assert str(Forecast(9000, 36_000_000_000)) == "about 2.5 hours, 36.0 GB of latents"


def test_hub_files(quick, own, monkeypatch, tmp_path):
    """In the Hub client's own formats, for whole sets that lie there, at their revisions."""
    pairs = read_file(own)
    short = replace(TASKS["stsb"], pairs=len(pairs))
    assert short.hub is not None
    monkeypatch.setitem(TASKS, "stsb", short)
    folder = tmp_path / "run" / "hub"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / ".eval_results" / "sts12.yaml").write_text("of an earlier run")
    whole = replace(pairs, name="stsb", revision=short.hub[1])
    evaluation = evaluate(quick, [whole, pairs, replace(pairs, name="sts13")], out=tmp_path / "run")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")} == {".eval_results/stsb.yaml", "model-index.yaml"}
    (entry,) = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results" / "stsb.yaml").read_text()))
    assert (entry.dataset_id, entry.dataset_revision) == short.hub[:2]
    assert entry.value == evaluation.summary()["tasks"]["stsb"]["spearman"]
    assert "T = 2" in str(entry.notes)
    name, (result,) = model_index_to_eval_results(yaml.safe_load((folder / "model-index.yaml").read_text())["model-index"])
    assert (name, result.dataset_type, result.dataset_split) == ("default", short.hub[0], "test")
    assert result.metric_value == entry.value
    evaluate(quick, [replace(whole, revision="folder")], out=tmp_path / "run")  # of the same set, but nobody knows which version
    assert "revision" not in (folder / ".eval_results" / "stsb.yaml").read_text()


def test_evaluator(quick, own, tmp_path):
    """Called like those of sentence-transformers, again and again."""
    first, second, scores = zip(*OWN, strict=True)
    evaluator = conjure.SimilarityEvaluator(first, second, scores, name="own", samples=1)
    metrics = evaluator(quick, output_path=tmp_path / "out", epoch=1, steps=10)
    assert metrics[evaluator.primary_metric] == evaluate(quick, [read_file(own)]).tasks["own"].agreement.spearman
    evaluator(quick.pipeline, output_path=tmp_path / "out", epoch=2)
    head, *rows = (tmp_path / "out" / "similarity_evaluation_own_results.csv").read_text().splitlines()
    assert head == "epoch,steps,spearman,spearman_low,spearman_high,pearson"
    assert [row.split(",")[:2] for row in rows] == [["1", "10"], ["2", "-1"]]
    assert conjure.SimilarityEvaluator.of(read_file(own)).primary_metric == "own_spearman"
    pipeline = quick.pipeline
    pipeline.transformer.train()
    try:
        while_training = evaluator(quick.pipeline)
        left = pipeline.transformer.training
    finally:
        pipeline.transformer.eval()
    assert (left, while_training) == (True, evaluator(quick.pipeline))
    with pytest.raises(InputError, match="2 and 1 texts and 2 scores; give as many of each"):
        conjure.SimilarityEvaluator(["a", "b"], ["c"], [1, 2])
    with pytest.raises(InputError, match="the score is nan"):
        conjure.SimilarityEvaluator(["a"] * 3, ["b"] * 3, [1, 2, float("nan")])


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
    assert "| \\<b\\>a\\|b\\</b\\> | 8 |" in markdown(evaluation)
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


def test_intervals_over_samples_cover_the_truth():
    """What k samples of an infinite number agree with: the interval around it covers the correlation of k fresh ones."""
    rng = np.random.default_rng(6)
    below = above = 0
    for _ in range(60):
        scores = rng.normal(size=150)
        noisy = -scores[:, None] + rng.normal(size=(150, 4))
        found = agreement(noisy, scores)
        known = 1 / (1 + 1 / 4) ** 0.5  # of means of four, by their variances; of ranks a little less
        known = 6 / np.pi * np.arcsin(known / 2)
        below += known < found.ci95[0]
        above += known > found.ci95[1]
    assert below + above <= 12
    assert min(below, above) + 6 >= max(below, above)


def test_halves_that_disagree():
    known, ceiling = reliability(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]))
    assert (known, ceiling) == (-1, 0)


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
    found = difference(good, bad, scores)
    assert 0 < found.ci95[0] < found.spearman < found.ci95[1]
    assert found.p < 0.01
    assert found.ranks == pytest.approx(stats.spearmanr(good[:, 0], bad[:, 0]).statistic)
    same = difference(good, -scores[:, None] + rng.normal(size=(400, 1)) * 0.5, scores)
    assert same.ci95[0] < 0 < same.ci95[1]
    assert same.p > 0.05
    assert abs(same.spearman) < 0.1


def test_bootstrap_is_that_of_resampled_pairs():
    """Ranks are found for all resamples at once: each must be what scipy says of the pairs that were drawn."""
    rng = np.random.default_rng(5)
    one, other = rng.integers(0, 9, 60).astype(float), rng.integers(0, 5, 60).astype(float)  # with many ties
    counts = _counts(60, 250, rng)
    found = _spearman_of(one, other, counts)
    for correlation, count in zip(found, counts, strict=True):
        drawn = np.repeat(np.arange(60), count)
        assert correlation == pytest.approx(stats.spearmanr(one[drawn], other[drawn]).statistic, abs=1e-12)
    assert counts.sum(1).tolist() == [60] * 250


def test_resamples_that_do_not_vary_count_as_nothing():
    assert _spearman_of(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([[2, 0], [1, 1]])).tolist() == [0.0, 1.0]

"""A run folder survives kills, full disks and wrong clocks, belongs to one process, and may be of an earlier version."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import conjure
from conjure import InputError
from conjure.baselines.base import RandomDistances
from conjure.engine.runner import iter_result_batches
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.legacy_keys import upgrade_summary
from conjure.evaluation.run_folder import load_run
from rated_pairs import NUM_TEXTS, numbered_pairs, write_pairs

KILL_HELPER = Path(__file__).parents[1] / "kill_helper.py"


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture
def pairs_file(tmp_path):
    return write_pairs(tmp_path / "own.tsv")


def num_stored(folder):
    with sqlite3.connect(folder / "store.sqlite") as database:
        return database.execute("SELECT count(*) FROM squared_differences").fetchone()[0]


def test_interrupted_run_is_resumed(fast_process, pairs_file, tmp_path, monkeypatch):
    pairs = read_file(pairs_file)
    uninterrupted = evaluate(fast_process, [pairs], samples=2, floors=False).tasks["own"]

    class InterruptionError(Exception):
        pass

    def interrupt(done, total):
        if done > total / 2:
            raise InterruptionError

    small_batches = fast_process.set(batch_size=12)  # four jobs per batch
    with pytest.raises(InterruptionError):
        evaluate(small_batches, [pairs], samples=2, floors=False, out=tmp_path / "run", progress=interrupt)

    num_run = []

    def count_jobs(process, jobs, **options):
        num_run.append(len(jobs))
        return iter_result_batches(process, jobs, **options)

    monkeypatch.setattr("conjure.similarity.trajectory_cache.iter_result_batches", count_jobs)
    resumed = evaluate(small_batches, [pairs], samples=2, floors=False, out=tmp_path / "run").tasks["own"]
    assert 0 < num_run[0] < 2 * NUM_TEXTS
    np.testing.assert_allclose(resumed.distances, uninterrupted.distances, rtol=1e-5)
    evaluate(small_batches, [pairs.head(4)], samples=1, floors=False, out=tmp_path / "run")
    more_samples = evaluate(small_batches, [pairs], samples=3, floors=False, out=tmp_path / "run").tasks["own"]
    assert num_run[1:] == [0, NUM_TEXTS]  # stored results are used for fewer pairs and for more samples
    np.testing.assert_allclose(more_samples.distances[:, :2], uninterrupted.distances, rtol=1e-5)


@pytest.mark.slow
def test_killed_command_is_resumed(tmp_path):
    """After kill -9 finished results are stored, and the same command gives the numbers of a run that was not killed."""
    pairs_file = write_pairs(tmp_path / "own.tsv", numbered_pairs(60))

    def command(out):
        return [sys.executable, "-m", "conjure", "bench", "--data", str(pairs_file), "--out", str(tmp_path / out), "--steps", "2"]

    subprocess.run(command("complete"), check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    num_before = 0
    while process.poll() is None and not num_before:
        time.sleep(0.02)
        if (tmp_path / "killed" / "store.sqlite").exists():
            try:
                num_before = num_stored(tmp_path / "killed")
            except sqlite3.Error:
                continue
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert num_before
    subprocess.run(command("killed"), check=True, capture_output=True)
    complete, killed = (parquet.read_table(tmp_path / name / "own.parquet").to_pylist() for name in ("complete", "killed"))
    assert [row["distance"] for row in killed] == pytest.approx([row["distance"] for row in complete], rel=1e-5)


@pytest.mark.parametrize(("kills", "num_pairs"), [(2, 6), pytest.param(50, 40, marks=pytest.mark.slow)])
def test_killed_runs_have_identical_files(tiny_sd, tmp_path, kills, num_pairs):
    """After kill -9 at random moments, the files of a resumed run are those of a run that was not killed, byte for byte."""
    pairs_file = write_pairs(tmp_path / "own.tsv", [(f"thing {i}", f"other {i}", float(i % 7)) for i in range(num_pairs)])
    command = [sys.executable, str(KILL_HELPER), str(tiny_sd), str(pairs_file), str(tmp_path / "runs"), str(kills)]
    result = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    uninterrupted, *killed = sorted((tmp_path / "runs").iterdir(), key=lambda folder: int(folder.name))
    assert killed
    for name in ("own.parquet", "report.md", "summary.json", "report.html"):
        for folder in killed:
            assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_clock_that_jumps(fast_process, pairs_file, tmp_path, monkeypatch):
    """The clock jumps by years during a run and between two runs: no stored result is lost and no number changes."""
    pairs, rng = read_file(pairs_file), random.Random(0)
    expected = evaluate(fast_process, [pairs], samples=2, out=tmp_path / "expected")
    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: rng.uniform(-1e9, 3e9))
    evaluate(fast_process, [pairs], out=tmp_path / "run")
    plans: list[str] = []
    evaluation = evaluate(fast_process, [pairs], samples=2, out=tmp_path / "run", on_start=plans.append)
    assert f"{NUM_TEXTS} of {2 * NUM_TEXTS} trajectories" in plans[0]
    np.testing.assert_allclose(evaluation.tasks["own"].distances, expected.tasks["own"].distances, rtol=1e-5)
    assert evaluation.summary()["tasks"] == expected.summary()["tasks"]


def test_folder_of_another_process_is_refused(fast_process, pairs_file, tmp_path):
    pairs = read_file(pairs_file).head(3)
    other_process = fast_process.set(steps=3)
    evaluate(fast_process, [pairs], out=tmp_path / "run")
    with pytest.raises(InputError, match="contains a run with default_unit 'epsilon' instead of 'score'"):
        evaluate(fast_process.set(default_unit="score"), [pairs], out=tmp_path / "run")
    with pytest.raises(InputError, match="contains a run with steps 2 instead of 3; name another by --out"):
        evaluate(other_process, [pairs], out=tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with_other_results = evaluate(other_process, [pairs], out=tmp_path / "run")  # the store keeps both processes apart
    expected = evaluate(other_process, [pairs])
    np.testing.assert_allclose(with_other_results.tasks["own"].distances, expected.tasks["own"].distances, rtol=1e-5)


def test_folders_that_cannot_be_used_are_refused(fast_process, pairs_file, tmp_path):
    pairs = read_file(pairs_file).head(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        evaluate(fast_process, [pairs], out=tmp_path / "file" / "run")
    corrupted = tmp_path / "corrupted"
    corrupted.mkdir()
    (corrupted / "store.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="store"):
        evaluate(fast_process, [pairs], out=corrupted)


@pytest.mark.parametrize("content", ["", "no JSON", "null", "[]", "3", "{}", '{"steps": 2}'])
def test_unreadable_settings_of_a_run_are_refused(fast_process, pairs_file, tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"^the folder '[^\n]*' cannot be used: [^\n]*; name another by --out$"):
        evaluate(fast_process, [read_file(pairs_file).head(3)], out=tmp_path)


def test_full_disk(conjure_command, tmp_path):
    """One line and exit code 1; finished results are stored, and the same command resumes when there is space again."""
    pairs_file = write_pairs(tmp_path / "own.tsv", numbered_pairs(24))
    command = ("bench", "--data", pairs_file, "--out", tmp_path / "run", "--steps", 2)
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard_limit))  # Python ignores SIGXFSZ, so writes raise an error
    try:
        code, _, err = conjure_command(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft_limit, hard_limit))
    assert code == 1
    assert "cannot be written" in err.splitlines()[-1]
    assert "Traceback" not in err
    num_before = num_stored(tmp_path / "run")
    assert 0 < num_before < 48
    code, _, err = conjure_command(*command)
    assert code == 0
    assert f"{48 - num_before} of 48 trajectories to run" in err


@pytest.mark.slow
def test_file_system_without_space(tmp_path):
    """The run folder is on a file system that becomes completely full."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    mount = 'mount -t tmpfs -o size=300k none "$1" && shift && "$@"'
    in_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*in_namespace, "sh", mount_point, "true"], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    pairs_file = write_pairs(tmp_path / "own.tsv", numbered_pairs(60))
    run = [sys.executable, "-m", "conjure", "bench", "--data", str(pairs_file), "--steps", "2", "--out"]
    copy = f'"$@"; code=$?; cp -r {mount_point}/run {tmp_path}/run; exit $code'  # the mount ends with the process
    full = subprocess.run(
        [*in_namespace, "sh", mount_point, "sh", "-c", copy, "sh", *run, str(mount_point / "run")], capture_output=True, text=True
    )
    assert (full.returncode, "Traceback" in full.stderr) == (1, False), full.stderr
    assert "cannot be written: database or disk is full" in full.stderr.splitlines()[-1]
    num_before = num_stored(tmp_path / "run")
    assert 0 < num_before < 120
    resumed = subprocess.run([*run, str(tmp_path / "run")], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{120 - num_before} of 120 trajectories to run" in resumed.stderr


def with_old_keys(summary):
    """Return a summary with the keys that earlier versions wrote."""
    process = dict(summary["process"])
    process |= {
        "unit": process.pop("default_unit"),
        "call": process.pop("pipeline_kwargs"),
        "alone": not process.pop("batch_prompts"),
    }
    tasks = {}
    for name, task in summary["tasks"].items():
        task = dict(task)
        task |= {"whole": task.pop("is_complete"), "left out": task.pop("num_excluded")}
        task["groups"] = [
            {("bias95" if key == "bias_ci95" else key): value for key, value in group.items()} for group in task["groups"]
        ]
        baselines = {}
        for baseline, result in task["baselines"].items():
            difference = dict(result["difference"])
            difference["rank correlation"] = difference.pop("rank_correlation")
            result = {key: value for key, value in result.items() if key != "difference"} | {"process less this": difference}
            baselines[baseline] = result
        tasks[name] = task | {"baselines": baselines}
    old = {key: value for key, value in summary.items() if key not in ("fingerprint", "non_finite_texts")}
    return old | {"identity": summary["fingerprint"], "broken": summary["non_finite_texts"], "process": process, "tasks": tasks}


@pytest.fixture
def old_run(fast_process, pairs_file, tmp_path):
    """The folder of a run with the keys of earlier versions."""
    folder = tmp_path / "old"
    evaluate(fast_process, [read_file(pairs_file)], baselines=[RandomDistances()], out=folder)
    old_summary = with_old_keys(json.loads((folder / "summary.json").read_text()))
    (folder / "summary.json").write_text(json.dumps(old_summary))
    settings = {key: old_summary["process"][key] for key in old_summary["process"]}
    (folder / "run.json").write_text(json.dumps({"identity": old_summary["identity"], **settings}))
    return folder


def test_run_of_an_earlier_version_is_read(fast_process, old_run, pairs_file, tmp_path):
    evaluate(fast_process, [read_file(pairs_file)], baselines=[RandomDistances()], out=tmp_path / "new")
    new, old = load_run(tmp_path / "new"), load_run(old_run)
    assert json.dumps(old.summary, sort_keys=True) == json.dumps(new.summary, sort_keys=True)
    assert old.tables == new.tables
    assert upgrade_summary(new.summary) is new.summary
    comparison = conjure.diff(old_run, tmp_path / "new")
    assert comparison.tasks["own"].difference.spearman == 0


def test_run_of_an_earlier_version_is_resumed(fast_process, old_run, pairs_file):
    plans: list[str] = []
    evaluate(fast_process, [read_file(pairs_file)], out=old_run, on_start=plans.append)
    assert f"0 of {NUM_TEXTS} trajectories" in plans[0]
    assert "fingerprint" in json.loads((old_run / "summary.json").read_text())
    with pytest.raises(InputError, match="contains a run with steps 2 instead of 3; name another by --out"):
        evaluate(fast_process.set(steps=3), [read_file(pairs_file)], out=old_run)


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"tasks": {}}', '{"tasks": {"own": {}}, "identity": "0"}'])
def test_unreadable_summary_is_refused(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"^[^\n]* contains no finished run \([^\n]*\); give a folder that conjure bench wrote$"):
        load_run(tmp_path)

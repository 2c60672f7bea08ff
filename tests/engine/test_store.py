"""Stored results: read by every call that needs them, never by other settings, and valid after a crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

import conjure
from conjure import InputError, Store
from conjure.diffusion.jobs import TrajectoryJob
from conjure.engine.runner import iter_result_batches
from conjure.engine.store_database import StoreDatabase
from conjure.engine.store_maintenance import summarize, verify
from conjure.engine.store_repair import repair
from stores import NUM_EVALUATIONS, WORDS, StepCounter, execute


def test_nothing_is_computed_twice(short_process, open_store, tmp_path):
    """Results of a matrix are read by `distance` and `nearest`, and the numbers are the same."""
    process, matrix_steps = short_process.set(store=open_store(tmp_path / "s")), StepCounter()
    matrix = conjure.matrix(process, WORDS, samples=2, progress=matrix_steps)
    assert matrix_steps.steps
    further_steps = StepCounter()
    estimate = conjure.distance(process, *WORDS[:2], samples=2, progress=further_steps)
    nearest = conjure.nearest(process, WORDS[0], WORDS[1:], samples=2, progress=further_steps)
    assert conjure.distance(process, *WORDS[:2], samples=1, divergence="direct", progress=further_steps).distance > 0
    assert further_steps.steps == 0
    neighbours = {neighbour.text: neighbour.distance for neighbour in nearest.ranked}
    assert estimate.distance == matrix.distance[0, 1] == neighbours[WORDS[1]]
    assert conjure.distance(short_process, *WORDS[:2], samples=2).distance == pytest.approx(estimate.distance, rel=1e-6)
    steps_of_a_sample = StepCounter()
    conjure.distance(process, *WORDS[:2], samples=3, progress=steps_of_a_sample)
    assert steps_of_a_sample.steps == 2  # one more sample: two jobs in one batch of two steps


def test_images_are_computed_again_and_their_differences_stored(short_process, open_store, tmp_path):
    process = short_process.set(store=open_store(tmp_path / "s"))
    estimate = conjure.distance(process, *WORDS[:2], samples=2)
    explanation = conjure.explain(process, *WORDS[:2], samples=2)
    assert explanation.estimate.distance == pytest.approx(estimate.distance, rel=1e-5)
    assert len(explanation.sample_images) == 2


def test_a_stored_result_is_not_replaced(short_process, open_store, tmp_path):
    """Other pairs of the same texts run in other batches, where results differ by rounding. Stored numbers do not change."""
    path = tmp_path / "s"
    process = short_process.set(store=open_store(path))
    first = conjure.distance(process, *WORDS[:2], samples=2, divergence="direct")
    with sqlite3.connect(path) as database:
        tables = ("squared_differences", "final_latents")
        before = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    conjure.explain(process, *WORDS[:2], samples=2)
    conjure.matrix(process, WORDS, samples=2)
    with sqlite3.connect(path) as database:
        for table, rows in before.items():
            assert set(rows) <= set(database.execute(f"SELECT * FROM {table}"))
    again = conjure.distance(short_process.set(store=open_store(path)), *WORDS[:2], samples=2, divergence="direct")
    assert again.samples == first.samples


def test_a_result_of_another_command_is_not_replaced(short_process, open_store, tmp_path):
    """Two commands start with an empty store, so that neither has read the results of the other."""
    path = tmp_path / "s"
    first, second = (open_store(path).for_process("0" * 64, {}) for _ in range(2))
    jobs = [TrajectoryJob(WORDS[0], 1, (WORDS[1],))]
    ((result,),) = iter_result_batches(short_process, jobs)
    first.add([result])
    second.add([replace(result, squared_differences=result.squared_differences * 2)])
    (values,) = first.load(jobs).squared_differences.values()
    assert np.array_equal(values, result.squared_differences[0])


def test_other_settings_have_other_results(short_process, open_store, tmp_path):
    store = open_store(tmp_path / "s")
    estimate = conjure.distance(short_process.set(store=store), *WORDS[:2], samples=2)
    other = conjure.distance(short_process.set(store=store, guidance=1.5), *WORDS[:2], samples=2)
    not_stored = conjure.distance(short_process.set(guidance=1.5), *WORDS[:2], samples=2)
    assert other.distance == not_stored.distance != estimate.distance


@pytest.mark.parametrize(("table", "column"), [("squared_differences", "squared_differences"), ("final_latents", "latents")])
def test_a_corrupted_row_is_computed_again(short_process, filled_store, open_store, tmp_path, table, column):
    """A changed bit is noticed. What it corrupted is computed again when it is needed."""
    path = filled_store.copy_to(tmp_path / "s")
    ((content,),) = execute(path, f"SELECT {column} FROM {table} WHERE text = ? LIMIT 1", [WORDS[0]])
    changed = bytes([content[0] ^ 1]) + content[1:]
    execute(path, f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [changed, content])
    store = open_store(path)
    report = verify(store)
    expected_counts = {"squared_differences": 0, "final_latents": 0, "baseline_distances": 0} | {table: 1}
    assert {name: len(keys) for name, keys in report.corrupted.items()} == expected_counts
    assert not report.is_valid
    process = short_process.set(store=store)
    matrix_steps, direct_steps, further_steps = StepCounter(), StepCounter(), StepCounter()
    matrix = conjure.matrix(process, WORDS, samples=2, progress=matrix_steps)
    np.testing.assert_allclose(matrix.distance, filled_store.matrix.distance, rtol=1e-5)
    direct = conjure.matrix(process, WORDS, samples=2, divergence="direct", progress=direct_steps)
    expected_direct = conjure.matrix(short_process, WORDS, samples=2, divergence="direct")
    np.testing.assert_allclose(direct.distance, expected_direct.distance, rtol=1e-4)
    # One trajectory of two steps is computed again; final latents are checked only where they are needed
    expected_steps = (2, 0) if table == "squared_differences" else (0, 2)
    assert (matrix_steps.steps, direct_steps.steps) == expected_steps
    assert verify(store).is_valid
    conjure.matrix(process, WORDS, samples=2, divergence="direct", progress=further_steps)
    assert further_steps.steps == 0


def test_corrupted_metadata_of_a_process_is_an_error(short_process, filled_store, open_store, tmp_path):
    """The noise levels convert stored differences to distances, so a changed digit in them must be noticed."""
    path = filled_store.copy_to(tmp_path / "s")
    execute(path, "UPDATE process SET metadata = replace(metadata, '999', '998')")
    store = open_store(path)
    message = "the record of a process does not match its checksum; fix it with conjure store repair"
    for call in (lambda: verify(store), lambda: conjure.matrix(short_process.set(store=store), WORDS, samples=2)):
        with pytest.raises(InputError, match=message):
            call()
    store.close()
    assert repair(path)[0] == 0
    matrix = conjure.matrix(short_process.set(store=open_store(path)), WORDS, samples=2)
    np.testing.assert_allclose(matrix.distance, filled_store.matrix.distance, rtol=1e-5)


TWELVE_WORDS = [f"word {number}" for number in range(12)]


def assert_continued_run_gives_the_same_bits(process: conjure.Process, store: Store) -> None:
    """After a kill in the second batch, the first one is stored. The rest is packed into the batches of an undisturbed run."""
    (summary,) = summarize(store)
    assert (summary.trajectories, summary.evaluations) == (3, 3 * 11)  # a batch of 48 rows has three jobs of 2 + 11 rows
    undisturbed = conjure.matrix(process, TWELVE_WORDS, samples=1)
    continued = conjure.matrix(process.set(store=store), TWELVE_WORDS, samples=1)
    assert (continued.distance == undisturbed.distance).all()


def test_a_batch_is_stored_completely_or_not_at_all(short_process, open_store, tmp_path, monkeypatch):
    """The files are copied within the transaction of the second batch, as a kill at that moment would leave them."""
    (tmp_path / "killed").mkdir()
    write, num_batches = StoreDatabase.write, 0

    class KilledError(Exception):
        pass

    def write_or_stop(self, statement, rows=None):
        nonlocal num_batches
        num_batches += statement.startswith("INSERT OR REPLACE INTO final_latents")
        if num_batches == 2:
            for file in tmp_path.glob("s*"):
                shutil.copy(file, tmp_path / "killed")
            raise KilledError
        write(self, statement, rows)

    process = short_process.set(store=open_store(tmp_path / "s"))
    with monkeypatch.context() as patch:
        patch.setattr(StoreDatabase, "write", write_or_stop)
        with pytest.raises(KilledError):
            conjure.matrix(process, TWELVE_WORDS, samples=1)
    assert (tmp_path / "killed" / "s-wal").stat().st_size  # what was not committed is not in the main file
    assert_continued_run_gives_the_same_bits(short_process, open_store(tmp_path / "killed" / "s"))


KILLED_RUN = """
import os, signal, sys, conjure
from conjure.engine.store_database import StoreDatabase
write, batches = StoreDatabase.write, []
def write_or_die(self, statement, rows=None):
    batches.extend([1] * statement.startswith("INSERT OR REPLACE INTO final_latents"))
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, statement, rows)
StoreDatabase.write = write_or_die
conjure.matrix(conjure.load(steps=2).set(store=conjure.Store(sys.argv[1])), sys.argv[2:], samples=1)
"""


@pytest.mark.slow
def test_a_killed_run_is_continued(short_process, open_store, tmp_path):
    command = [sys.executable, "-c", KILLED_RUN, str(tmp_path / "s"), *TWELVE_WORDS]
    killed = subprocess.run(command, env=os.environ | {"CONJURE_STORE": ""})
    assert killed.returncode == -signal.SIGKILL
    assert_continued_run_gives_the_same_bits(short_process, open_store(tmp_path / "s"))


def test_another_engine_version_has_other_results(short_process, filled_store, open_store, tmp_path, monkeypatch):
    """Results of an engine that gives other numbers for the same process are kept apart."""
    path = filled_store.copy_to(tmp_path / "s")
    monkeypatch.setattr("conjure.engine.store.ENGINE_VERSION", 2)
    store, steps = open_store(path), StepCounter()
    conjure.matrix(short_process.set(store=store), WORDS, samples=2, progress=steps)
    store.for_baseline({"name": "random"})
    assert steps.steps
    keys = [key for (key,) in store.database.read("SELECT key FROM process ORDER BY id")]
    assert [key.partition(" ")[0] for key in keys] == ["1", "2", "baseline"]
    assert keys[2].startswith("baseline 2 ")


def test_a_row_that_was_moved_to_another_process_is_corrupted(short_process, filled_store, open_store, tmp_path):
    """The checksum of a row covers the key of its process."""
    path = filled_store.copy_to(tmp_path / "s")
    store = open_store(path)
    other = short_process.set(store=store, guidance=1.5)
    expected = conjure.distance(short_process.set(guidance=1.5), *WORDS[:2], samples=1)
    conjure.distance(other, "a", "b", samples=1)
    ((number,), (other_number,)) = store.database.read("SELECT id FROM process ORDER BY id")
    for table in ("squared_differences", "final_latents"):
        store.database.write(f"UPDATE {table} SET process = ? WHERE process = ?", [(other_number, number)])
    assert not verify(store).is_valid
    assert conjure.distance(other, *WORDS[:2], samples=1).samples == pytest.approx(expected.samples, rel=1e-5)
    store.close()
    repair(path)
    repaired = open_store(path)
    assert verify(repaired).is_valid
    assert [summary.evaluations for summary in summarize(repaired)] == [0, 4]


@pytest.mark.parametrize(
    "damage", ["truncated", *(pytest.param(seed, marks=() if seed < 3 else pytest.mark.slow) for seed in range(24))]
)
def test_a_corrupted_file(short_process, filled_store, open_store, tmp_path, damage):
    """Truncated, or with changed bytes anywhere: an error in one line names the fix, then the numbers are the same."""
    path = filled_store.copy_to(tmp_path / "s")
    content = bytearray(path.read_bytes())
    assert not filled_store.path.with_name("store-wal").exists()
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        rng = np.random.default_rng(damage)
        for position in rng.integers(0, len(content), 64):
            content[position] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    try:
        with contextlib.closing(conjure.Store(path)) as store:
            matrix = conjure.matrix(short_process.set(store=store), WORDS, samples=2)
    except InputError as error:
        message = str(error)
        _, old_file = repair(path)
        assert old_file is not None
        assert old_file.exists()
        store = open_store(path)
        assert verify(store).is_valid
        matrix = conjure.matrix(short_process.set(store=store), WORDS, samples=2)
        assert "conjure store repair" in message
        assert "\n" not in message
    np.testing.assert_allclose(matrix.distance, filled_store.matrix.distance, rtol=1e-5)


def test_two_open_stores_of_a_file_share_results(short_process, open_store, tmp_path):
    first, second = (short_process.set(store=open_store(tmp_path / "s")) for _ in range(2))
    steps = StepCounter()
    estimates = [conjure.distance(first, *WORDS[:2], samples=1), conjure.distance(second, *WORDS[1:], samples=1)]
    assert conjure.distance(second, *WORDS[:2], samples=1, progress=steps).to_dict() == estimates[0].to_dict()
    assert conjure.distance(first, *WORDS[1:], samples=1, progress=steps).to_dict() == estimates[1].to_dict()
    assert steps.steps == 0


def test_a_store_waits_for_another_writer(open_store, tmp_path):
    first, second = open_store(tmp_path / "s"), open_store(tmp_path / "s")
    first_results, second_results = first.for_baseline({"name": "first"}), second.for_baseline({"name": "second"})
    writer = threading.Thread(target=second_results.add, args=([("a", "b")], np.ones((1, 2))))
    with first.database.transaction():
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
    first_results.add([("a", "b")], np.zeros((1, 2)))
    writer.join(60)
    assert not writer.is_alive()
    assert [results.load()["a", "b"].tolist() for results in (first_results, second_results)] == [[0, 0], [1, 1]]


@pytest.mark.slow
def test_two_commands_share_a_store_at_the_same_time(open_store, tmp_path):
    """Both give the numbers of a command that runs alone."""
    (tmp_path / "own.tsv").write_text(
        "text1\ttext2\tscore\n" + "".join(f"thing {i}\tother thing {i}\t{i % 7}\n" for i in range(24))
    )

    def start(out, *store):
        options = ("--data", tmp_path / "own.tsv", "--steps", "2", "--out", tmp_path / out, *store)
        return subprocess.Popen([sys.executable, "-m", "conjure", "bench", *map(str, options)], stderr=subprocess.PIPE)

    commands = [start(out, "--store", tmp_path / "shared") for out in ("a", "b")] + [start("alone")]
    for command in commands:
        _, stderr = command.communicate()
        assert command.returncode == 0, stderr
    first, second, alone = (
        parquet.read_table(tmp_path / out / "own.parquet").to_pydict()["distance"] for out in ("a", "b", "alone")
    )
    np.testing.assert_allclose(first, alone, rtol=1e-5)
    np.testing.assert_allclose(second, alone, rtol=1e-5)
    assert not (tmp_path / "a" / "store.sqlite").exists()
    assert verify(open_store(tmp_path / "shared")).is_valid


def test_the_environment_may_name_the_store(conjure_command, tmp_path, monkeypatch):
    monkeypatch.setenv("CONJURE_STORE", str(tmp_path / "s"))
    assert conjure_command("compare", "puppy", "poodle", "--steps", "2", "--samples", "1")[0] == 0
    assert execute(tmp_path / "s", "SELECT count(*) FROM squared_differences") == [(2,)]


def test_a_copy_of_a_store_is_a_store(filled_store, open_store, tmp_path):
    assert summarize(open_store(filled_store.copy_to(tmp_path / "t")))[0].evaluations == NUM_EVALUATIONS


def test_a_store_needs_an_existing_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be used as a store"):
        Store(tmp_path / "no folder" / "s")


@pytest.mark.parametrize(
    ("statement", "version"),
    [
        ("CREATE TABLE notes (text)", 0),
        ("CREATE TABLE notes (text)", 2),
        ("CREATE TABLE notes (text)", 3),
        ("CREATE TABLE process (id)", 3),
        ("CREATE TABLE process (id); CREATE TABLE judged (a); CREATE TABLE final (a); CREATE TABLE compared (a)", 1),
        ("CREATE TABLE process (id); CREATE TABLE judged (a); CREATE TABLE final (a); CREATE TABLE compared (a)", 3),
    ],
)
def test_a_database_of_another_program_is_refused(conjure_command, tmp_path, statement, version):
    """In one line, and its file is not changed."""
    path = tmp_path / "other.sqlite"
    database = sqlite3.connect(path)
    database.executescript(f"{statement}; PRAGMA user_version = {version}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="it is not a store of Conjure; name another file") as caught:
        Store(path)
    assert "\n" not in str(caught.value)
    code, _, err = conjure_command("store", "info", path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert path.read_bytes() == before

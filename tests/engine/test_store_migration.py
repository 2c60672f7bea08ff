"""A store of schema 2, which had the same tables under other names, is migrated when it is opened."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import conjure
from conjure import OutputError
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.seeding import noise_seed
from conjure.engine.runner import iter_results
from conjure.engine.store_maintenance import export, summarize, verify
from conjure.engine.store_repair import repair
from stores import StepCounter, execute

SCHEMA_2 = """
PRAGMA journal_mode = WAL;
CREATE TABLE process (id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, settings TEXT NOT NULL, visited TEXT,
    sum INTEGER NOT NULL);
CREATE TABLE judged (process INTEGER, text TEXT, seed INTEGER, target TEXT, squared BLOB NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (process, text, seed, target)) WITHOUT ROWID;
CREATE TABLE final (process INTEGER, text TEXT, seed INTEGER, latents BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (process, text, seed)) WITHOUT ROWID;
CREATE TABLE compared (process INTEGER, text1 TEXT, text2 TEXT, distances BLOB NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (process, text1, text2)) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
A, B = "puppy", "poodle"
BASELINE = {"name": "cosine", "model": "m"}
FACTOR = 3.0  # of the stored squared differences to the computed ones, which shows that the stored ones are used


def crc32(*parts: str | int | bytes | None) -> int:
    content = b"".join(part if isinstance(part, bytes) else f"{part}\0".encode() for part in parts)
    return zlib.crc32(content)


def write_schema_2(path: Path, process: conjure.Process, results: list[TrajectoryResult]) -> None:
    """Write a store as the version before did: the results of a process, and the distances of a baseline."""
    key = f"1 {process.fingerprint()}"
    settings = json.dumps({"model": "default", "steps": process.steps, "unit": "output", "alone": False, "call": {}})
    visited = json.dumps(
        {
            "timesteps": results[0].timesteps,
            "levels": [asdict(level) for level in results[0].noise_levels],
            "shape": list(results[0].final_latent.shape),
        }
    )
    baseline = json.dumps(BASELINE, sort_keys=True)
    baseline_key = f"baseline 1 {hashlib.sha256(baseline.encode()).hexdigest()}"
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_2)
    database.executemany(
        "INSERT INTO process VALUES (?, ?, ?, ?, ?)",
        [
            (1, key, settings, visited, crc32(key, settings, visited)),
            (2, baseline_key, baseline, None, crc32(baseline_key, baseline, None)),
        ],
    )
    for result in results:
        text, seed = result.job.text, result.job.seed
        for target, differences in zip(result.job.targets, result.squared_differences, strict=True):
            squared = (FACTOR * differences).tobytes()
            row = (1, text, seed, target, squared, crc32(key, text, seed, target, squared))
            database.execute("INSERT INTO judged VALUES (?, ?, ?, ?, ?, ?)", row)
        latents = result.final_latent.numpy().tobytes()
        database.execute("INSERT INTO final VALUES (?, ?, ?, ?, ?)", (1, text, seed, latents, crc32(key, text, seed, latents)))
    distances = np.array([0.25, 0.5]).tobytes()
    database.execute("INSERT INTO compared VALUES (?, ?, ?, ?, ?)", (2, A, B, distances, crc32(baseline_key, A, B, distances)))
    database.commit()
    database.close()


@pytest.fixture
def schema_2(short_process, tmp_path) -> Path:
    """A store of schema 2 with one sample of a pair."""
    seed = noise_seed(0, 0)
    results = list(iter_results(short_process, [TrajectoryJob(A, seed, (B,)), TrajectoryJob(B, seed, (A,))]))
    write_schema_2(tmp_path / "s", short_process, results)
    return tmp_path / "s"


def test_results_of_schema_2_are_used(short_process, schema_2, open_store):
    process, steps = short_process.set(store=open_store(schema_2)), StepCounter()
    estimate = conjure.distance(process, A, B, samples=1, progress=steps)
    assert steps.steps == 0
    expected = conjure.distance(short_process, A, B, samples=1)
    assert estimate.per_step == pytest.approx([FACTOR * value for value in expected.per_step], rel=1e-12)
    assert (estimate.timesteps, estimate.snr) == (expected.timesteps, expected.snr)
    direct = conjure.distance(process, A, B, samples=1, divergence="direct", progress=steps)
    assert steps.steps == 0
    assert direct.samples == conjure.distance(short_process, A, B, samples=1, divergence="direct").samples
    assert process.store.for_baseline(BASELINE).load()[A, B].tolist() == [0.25, 0.5]


def test_a_migrated_store_is_a_store(conjure_command, short_process, schema_2, open_store, tmp_path):
    """New results are added to it, and all commands work."""
    store, steps = open_store(schema_2), StepCounter()
    conjure.distance(short_process.set(store=store), A, B, samples=2, progress=steps)
    assert steps.steps == 2  # of the second sample
    store.close()
    assert execute(schema_2, "PRAGMA user_version") == [(3,)]
    tables = {name for (name,) in execute(schema_2, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"process", "squared_differences", "final_latents", "baseline_distances"}
    reopened = open_store(schema_2)
    report = verify(reopened)
    assert (report.rows, report.is_valid) == (4 + 4 + 1, True)
    assert [(one.trajectories, one.evaluations, one.pairs) for one in summarize(reopened)] == [(4, 4, 0), (0, 0, 1)]
    code, out, _ = conjure_command("store", "info", schema_2)
    assert (code, short_process.fingerprint()[:12] in out) == (0, True)
    assert export(reopened, tmp_path / "all.parquet") == 4
    reopened.close()
    assert repair(schema_2)[0] == report.rows


@pytest.mark.parametrize("is_damaged", [False, True])
def test_repair_keeps_the_rows_of_a_store_that_was_not_migrated(short_process, schema_2, open_store, is_damaged):
    if is_damaged:
        execute(schema_2, "UPDATE judged SET sum = sum + 1 WHERE text = ?", [A])
    num_rows, old_file = repair(schema_2)
    assert (num_rows, old_file) == (2 + 2 + 1 - is_damaged, schema_2.with_name("s.broken"))
    store, steps = open_store(schema_2), StepCounter()
    assert verify(store).is_valid
    estimate = conjure.distance(short_process.set(store=store), A, B, samples=1, progress=steps)
    assert steps.steps == 2 * is_damaged
    assert estimate.backward == pytest.approx(FACTOR * conjure.distance(short_process, A, B, samples=1).backward, rel=1e-12)
    assert store.for_baseline(BASELINE).load()[A, B].tolist() == [0.25, 0.5]


def test_a_store_that_is_open_elsewhere_is_not_repaired(short_process, tmp_path):
    """Rows that are added meanwhile would count as damage, and the other program would go on writing to the old file."""
    store = conjure.Store(tmp_path / "s")
    conjure.distance(short_process.set(store=store), A, B, samples=1)
    with pytest.raises(OutputError, match=r"cannot be repaired: database is locked; another program is using it; wait until"):
        repair(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir() if ".conjure-" in path.name or "broken" in path.name] == []
    conjure.distance(short_process.set(store=store), A, "shark", samples=1)
    store.close()
    assert repair(tmp_path / "s") == (4 + 3, None)


def test_a_corrupted_row_of_schema_2_is_noticed(short_process, schema_2, open_store):
    execute(schema_2, "UPDATE judged SET sum = sum + 1 WHERE text = ?", [A])
    store, steps = open_store(schema_2), StepCounter()
    assert {table: len(keys) for table, keys in verify(store).corrupted.items()}["squared_differences"] == 1
    conjure.distance(short_process.set(store=store), A, B, samples=1, progress=steps)
    assert steps.steps == 2
    assert verify(store).is_valid

"""Maintenance of stores: summary, verification, repair, deletion and export, in Python and as commands."""

from __future__ import annotations

import json
import sqlite3

import pytest
from pyarrow import parquet

from conjure import Store
from conjure.engine.store_maintenance import export, prune, summarize
from conjure.engine.store_repair import repair
from stores import NUM_EVALUATIONS, NUM_TRAJECTORIES, WORDS, execute

NUM_ROWS = NUM_EVALUATIONS + NUM_TRAJECTORIES


def damage(path):
    """Add a row with a wrong checksum."""
    execute(path, "INSERT INTO squared_differences SELECT process, 'new', seed, target, squared_differences, 0 "
                  "FROM squared_differences LIMIT 1")  # fmt: skip


def test_repair_of_a_valid_store_changes_nothing(filled_store, conjure_command, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    content = path.read_bytes()
    code, out, _ = conjure_command("store", "repair", path)
    assert (code, out) == (0, f"{NUM_ROWS} rows, all valid; nothing was changed\n")
    assert (path.read_bytes(), [file.name for file in tmp_path.iterdir()]) == (content, ["s"])


def test_prune_reports_a_file_that_grows(filled_store, conjure_command, short_process, tmp_path, monkeypatch):
    path = filled_store.copy_to(tmp_path / "s")
    for change, message in ((-17e6, "17.0 MB larger"), (17e6, "17.0 MB smaller")):
        monkeypatch.setattr("conjure.engine.store_maintenance.prune", lambda *_, change=change: change)
        assert conjure_command("store", "prune", path, "x")[1] == f"the store is {message}\n"


def test_repair_keeps_all_valid_rows(filled_store, open_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    store = open_store(path)
    before = summarize(store)
    store.close()
    damage(path)
    saved, old_file = repair(path)
    assert saved == before[0].evaluations + before[0].trajectories == NUM_ROWS
    assert summarize(open_store(path)) == before
    assert old_file == tmp_path / "s.broken"


def test_repair_deletes_no_file(filled_store, tmp_path):
    """Neither the old file of an earlier repair nor another file beside it."""
    path = filled_store.copy_to(tmp_path / "s")
    (tmp_path / "s.new").write_text("mine")
    old_files = []
    for _ in range(2):
        damage(path)
        old_files.append(repair(path)[1])
    first, second = old_files
    assert (first, second) == (tmp_path / "s.broken", tmp_path / "s.broken1")
    assert {file.name for file in tmp_path.iterdir()} == {"s", "s.new", "s.broken", "s.broken1"}
    assert (tmp_path / "s.new").read_text() == "mine"


def test_corrupted_rows_are_not_exported(filled_store, open_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    execute(path, "UPDATE squared_differences SET squared_differences = 'x' WHERE text = 'puppy' AND target = 'shark'")
    assert export(open_store(path), tmp_path / "x.parquet") == NUM_EVALUATIONS - 2


def test_prune_makes_the_file_smaller(short_process, filled_store, open_store, tmp_path):
    store = open_store(filled_store.copy_to(tmp_path / "s"))
    assert export(store, tmp_path / "x.parquet") == NUM_EVALUATIONS
    assert prune(store, [short_process.fingerprint()]) >= 0
    assert summarize(store) == []
    store.close()
    assert (tmp_path / "s").stat().st_size < filled_store.path.stat().st_size


def test_commands(conjure_command, short_process, filled_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    code, out, _ = conjure_command("store", "info", path, "--json")
    (summary,) = json.loads(out)
    assert (code, summary["trajectories"], summary["evaluations"]) == (0, NUM_TRAJECTORIES, NUM_EVALUATIONS)
    assert summary["settings"]["steps"] == 2
    assert summary["fingerprint"] == short_process.fingerprint()
    assert summary["fingerprint"][:12] in conjure_command("store", "info", path)[1]
    assert conjure_command("store", "verify", path)[:2] == (0, f"{NUM_ROWS} of {NUM_ROWS} rows are valid\n")
    assert conjure_command("store", "export", path, tmp_path / "all.parquet")[:2] == (0, f"wrote {NUM_EVALUATIONS} rows\n")
    rows = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert {(row["text"], row["target"]) for row in rows} == {(a, b) for a in WORDS for b in WORDS if a != b}
    assert all(len(row["squared_differences"]) == 2 for row in rows)
    assert conjure_command("store", "prune", path, summary["fingerprint"][:12])[0] == 0
    for table in ("squared_differences", "final_latents", "process"):
        assert execute(path, f"SELECT count(*) FROM {table}") == [(0,)]


def test_verify_exits_with_1_for_corrupted_rows(conjure_command, filled_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    execute(path, "UPDATE squared_differences SET crc32 = crc32 + 1 WHERE text = 'puppy' AND target = 'shark'")
    code, out, _ = conjure_command("store", "verify", path)
    assert code == 1
    assert "corrupted in squared_differences: 'puppy' / " in out
    assert f"{NUM_ROWS - 2} of {NUM_ROWS} rows are valid" in out


def test_repair_by_command(conjure_command, filled_store, tmp_path):
    path = filled_store.copy_to(tmp_path / "s")
    execute(path, "UPDATE squared_differences SET crc32 = crc32 + 1 WHERE text = 'puppy' AND target = 'shark'")
    code, out, _ = conjure_command("store", "repair", path)
    assert (code, out) == (0, f"{NUM_ROWS - 2} rows copied; the old file is {path}.broken\n")
    assert conjure_command("store", "verify", path)[:2] == (0, f"{NUM_ROWS - 2} of {NUM_ROWS - 2} rows are valid\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nowhere"), "there is no store 'nowhere'; give the file, or the folder"),
        (("repair", "nowhere"), "there is no store 'nowhere'"),
        (("info", "text"), "cannot be used as a store of results"),
        (("info", "older"), "is not a store of this version of Conjure; it is not a store of Conjure; name another file"),
        (("prune", "s", "f00"), "0 entries have a fingerprint that begins with 'f00'"),
        (("prune", "s", ""), "0 entries"),
        (("export", "s", "all.csv"), "must end with .parquet"),
    ],
)
def test_invalid_input(conjure_command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Store("s").close()
    (tmp_path / "text").write_text("not a store " * 500)
    database = sqlite3.connect("older")
    database.execute("CREATE TABLE judged (text)")
    database.commit()
    database.close()
    code, _, err = conjure_command("store", *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["info", "verify", "repair", "prune"])
def test_an_empty_file_is_not_changed(conjure_command, tmp_path, command):
    path = tmp_path / "empty"
    path.touch()
    code, out, err = conjure_command("store", command, path, *(["abc"] if command == "prune" else []))
    assert (code, out, path.stat().st_size) == (2, "", 0)
    assert "is empty, and is not a store of Conjure, so it is not changed" in err

"""Results that are kept: found again by every call, noticed when spoilt, shared by processes, looked after by command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from conjure.upkeep import export, held, opened, prune, repair, verify
from pyarrow import parquet

import conjure
from conjure import InputError, Store

WORDS = ("puppy", "poodle", "shark")


@pytest.fixture
def quick(default):
    return default.set(steps=2)


class Steps:
    """Counts the denoising steps of sources that a call takes."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self, done: int, whole: int) -> None:
        self.taken += 1


def filled(quick, path) -> conjure.Matrix:
    """A matrix whose results lie in a new store at `path`."""
    store = Store(path)
    matrix = conjure.matrix(quick.set(store=store), WORDS, samples=2)
    store.close()
    return matrix


def test_nothing_is_computed_twice(quick, tmp_path):
    """What a matrix walked is there for pairs and neighbours, and the numbers are the same."""
    process, plain = quick.set(store=Store(tmp_path / "s")), Steps()
    matrix = conjure.matrix(process, WORDS, samples=2, progress=plain)
    assert plain.taken
    again = Steps()
    estimate = conjure.distance(process, *WORDS[:2], samples=2, progress=again)
    nearest = conjure.nearest(process, WORDS[0], WORDS[1:], samples=2, progress=again)
    assert conjure.distance(process, *WORDS[:2], samples=1, divergence="direct", progress=again).distance > 0
    assert again.taken == 0
    assert estimate.distance == matrix.distance[0, 1] == {one.text: one.distance for one in nearest.ranked}[WORDS[1]]
    assert conjure.distance(quick, *WORDS[:2], samples=2).distance == pytest.approx(estimate.distance, rel=1e-6)
    further = Steps()
    conjure.distance(process, *WORDS[:2], samples=3, progress=further)
    assert further.taken == 2  # one sample more: two sources, in one batch, two steps


def test_pictures_are_walked_and_numbers_kept(quick, tmp_path):
    process = quick.set(store=Store(tmp_path / "s"))
    before = conjure.distance(process, *WORDS[:2], samples=2)
    explained = conjure.explain(process, *WORDS[:2], samples=2)
    assert explained.estimate.distance == pytest.approx(before.distance, rel=1e-5)
    assert len(explained.shown) == 2


def test_other_settings_never_meet(quick, tmp_path):
    store = Store(tmp_path / "s")
    one = conjure.distance(quick.set(store=store), *WORDS[:2], samples=2)
    other = conjure.distance(quick.set(store=store, guidance=1.5), *WORDS[:2], samples=2)
    assert other.distance == conjure.distance(quick.set(guidance=1.5), *WORDS[:2], samples=2).distance != one.distance


@pytest.mark.parametrize(("table", "blob"), [("judged", "squared"), ("final", "latents")])
def test_a_spoilt_row(quick, tmp_path, table, blob):
    """A flipped bit is noticed; what it spoilt is computed again, or asked to be."""
    whole = filled(quick, tmp_path / "s")
    database = sqlite3.connect(tmp_path / "s")
    query = f"SELECT {blob} FROM {table} WHERE text = ? LIMIT 1"
    ((content,),) = database.execute(query, [WORDS[0]]).fetchall()
    changed = bytes([content[0] ^ 1]) + content[1:]
    database.execute(f"UPDATE {table} SET {blob} = ? WHERE {blob} = ?", [changed, content])
    database.commit()
    database.close()
    store = Store(tmp_path / "s")
    found = verify(store)
    assert {name: len(rows) for name, rows in found.spoilt.items()} == {"judged": 0, "final": 0, "compared": 0} | {table: 1}
    assert not found.sound
    process = quick.set(store=store)
    walked, further, again = Steps(), Steps(), Steps()
    np.testing.assert_allclose(conjure.matrix(process, WORDS, samples=2, progress=walked).distance, whole.distance, rtol=1e-5)
    straight = conjure.matrix(process, WORDS, samples=2, divergence="direct", progress=further)
    direct = conjure.matrix(quick, WORDS, samples=2, divergence="direct")
    np.testing.assert_allclose(straight.distance, direct.distance, rtol=1e-4)
    one = 2  # trajectory, of two steps
    assert (walked.taken, further.taken) == ((one, 0) if table == "judged" else (0, one))  # last latents only where they count
    assert verify(store).sound
    conjure.matrix(process, WORDS, samples=2, divergence="direct", progress=again)
    assert again.taken == 0


KILLED = """
import os, signal, sys, conjure
from conjure import store
write, batches = store.Store.write, []
def mortal(self, statement, rows=None):
    batches.extend([1] * statement.startswith("INSERT OR REPLACE INTO final"))
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, statement, rows)
store.Store.write = mortal
conjure.matrix(conjure.load(steps=2).set(store=conjure.Store(sys.argv[1])), sys.argv[2:], samples=1)
"""


def test_killed_while_a_batch_is_kept(quick, tmp_path):
    """It is kept whole or not at all, so the rest is packed as if nothing had happened, and gives the same bits."""
    words = [f"word {number}" for number in range(12)]
    undisturbed = conjure.matrix(quick.set(store=Store(tmp_path / "whole")), words, samples=1)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "s"), *words], env=os.environ | {"CONJURE_STORE": ""})
    assert killed.returncode == -signal.SIGKILL
    store = Store(tmp_path / "s")
    (one,) = held(store)
    assert (one.trajectories, one.judgements) == (3, 3 * 11)  # 48 rows make a batch of three sources of 2 + 11 rows
    continued = conjure.matrix(quick.set(store=store), words, samples=1)
    assert (continued.distance == undisturbed.distance).all()


def test_another_method_never_meets_these_rows(quick, tmp_path, monkeypatch):
    """What an engine measured that gives other numbers for the same process is kept apart."""
    filled(quick, tmp_path / "s")
    monkeypatch.setattr("conjure.store.METHOD", 2)
    store, walked = Store(tmp_path / "s"), Steps()
    conjure.matrix(quick.set(store=store), WORDS, samples=2, progress=walked)
    store.scored({"name": "random"})
    assert walked.taken
    assert [key.partition(" ")[0] for (key,) in store.read("SELECT key FROM process ORDER BY id")] == ["1", "2", "baseline"]
    assert [key for (key,) in store.read("SELECT key FROM process WHERE key GLOB 'baseline 2 *'")]


def test_a_row_under_another_process(quick, tmp_path):
    """What says whose a row is belongs to what its checksum holds."""
    store = Store(tmp_path / "s")
    filled(quick, tmp_path / "s")
    other = quick.set(store=store, guidance=1.5)
    expected = conjure.distance(quick.set(guidance=1.5), *WORDS[:2], samples=1)
    conjure.distance(other, "a", "b", samples=1)
    ((mine,), (theirs,)) = store.read("SELECT id FROM process ORDER BY id")
    for table in ("judged", "final"):
        store.write(f"UPDATE {table} SET process = ? WHERE process = ?", [(theirs, mine)])
    assert not verify(store).sound
    assert conjure.distance(other, *WORDS[:2], samples=1).samples == pytest.approx(expected.samples, rel=1e-5)
    store.close()
    repair(tmp_path / "s")
    found = opened(tmp_path / "s")
    assert verify(found).sound
    assert [one.judgements for one in held(found)] == [0, 4]


@pytest.mark.parametrize("damage", ["cut", *range(24)])
def test_a_broken_file(quick, tmp_path, damage):
    """Cut short, or with bytes flipped anywhere: one line that tells what to do, then the numbers of an undisturbed run."""
    whole = filled(quick, tmp_path / "s")
    content = bytearray((tmp_path / "s").read_bytes())
    assert not (tmp_path / "s-wal").exists()
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        rng = np.random.default_rng(damage)
        for place in rng.integers(0, len(content), 64):
            content[place] ^= int(rng.integers(1, 256))
    (tmp_path / "s").write_bytes(content)
    try:
        again = conjure.matrix(quick.set(store=Store(tmp_path / "s")), WORDS, samples=2)
    except InputError as error:
        told = str(error)
        _, old = repair(tmp_path / "s")
        assert old.exists()
        store = Store(tmp_path / "s")
        assert verify(store).sound
        again = conjure.matrix(quick.set(store=store), WORDS, samples=2)
        assert "conjure store repair" in told
    np.testing.assert_allclose(again.distance, whole.distance, rtol=1e-5)


def test_two_runs_at_once(tmp_path):
    """Two commands fill one store and both end with the numbers of a run alone."""
    (tmp_path / "own.tsv").write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\tother thing {i}\t{i % 7}\n" for i in range(24)))

    def start(out, *store):
        options = ("--data", tmp_path / "own.tsv", "--steps", "2", "--out", tmp_path / out, *store)
        return subprocess.Popen([sys.executable, "-m", "conjure", "bench", *map(str, options)], stderr=subprocess.PIPE)

    both = [start(out, "--store", tmp_path / "shared") for out in ("a", "b")]
    alone = start("alone")
    for one in (*both, alone):
        _, told = one.communicate()
        assert one.returncode == 0, told
    tables = [parquet.read_table(tmp_path / out / "own.parquet").to_pydict()["distance"] for out in ("a", "b", "alone")]
    np.testing.assert_allclose(tables[0], tables[2], rtol=1e-5)
    np.testing.assert_allclose(tables[1], tables[2], rtol=1e-5)
    assert not (tmp_path / "a" / "store.sqlite").exists()
    assert verify(Store(tmp_path / "shared")).sound


def test_what_is_told_of_a_process_is_spoilt(quick, tmp_path):
    """The levels of noise make numbers of what was kept, so a changed digit in them must not pass."""
    whole = filled(quick, tmp_path / "s")
    database = sqlite3.connect(tmp_path / "s")
    database.execute("UPDATE process SET visited = replace(visited, '999', '998')")
    database.commit()
    database.close()
    store = Store(tmp_path / "s")
    for call in (lambda: verify(store), lambda: conjure.matrix(quick.set(store=store), WORDS, samples=2)):
        with pytest.raises(
            InputError, match="what it tells of a process is not what was kept; mend it with conjure store repair"
        ):
            call()
    store.close()
    assert repair(tmp_path / "s")[0] == 0
    again = conjure.matrix(quick.set(store=Store(tmp_path / "s")), WORDS, samples=2)
    np.testing.assert_allclose(again.distance, whole.distance, rtol=1e-5)


def test_repair_keeps_all_that_is_sound(quick, tmp_path):
    filled(quick, tmp_path / "s")
    before = held(Store(tmp_path / "s"))
    saved, old = repair(tmp_path / "s")
    assert saved == before[0].judgements + before[0].trajectories
    assert held(Store(tmp_path / "s")) == before
    assert old == tmp_path / "s.broken"


def test_repair_takes_nothing_away(quick, tmp_path):
    """Neither what an earlier repair put aside, nor a file that happens to lie beside it."""
    filled(quick, tmp_path / "s")
    (tmp_path / "s.new").write_text("mine")
    first, second = repair(tmp_path / "s")[1], repair(tmp_path / "s")[1]
    assert (first, second) == (tmp_path / "s.broken", tmp_path / "s.broken1")
    assert {path.name for path in tmp_path.iterdir()} == {"s", "s.new", "s.broken", "s.broken1"}
    assert (tmp_path / "s.new").read_text() == "mine"


def test_spoilt_rows_are_not_exported(quick, tmp_path):
    filled(quick, tmp_path / "s")
    database = sqlite3.connect(tmp_path / "s")
    database.execute("UPDATE judged SET squared = 'x' WHERE text = 'puppy' AND target = 'shark'")
    database.commit()
    database.close()
    assert export(Store(tmp_path / "s"), tmp_path / "x.parquet") == 10


def test_upkeep_by_command(conjure_command, quick, tmp_path):
    filled(quick, tmp_path / "s")
    code, told, _ = conjure_command("store", "look", tmp_path / "s", "--json")
    (one,) = json.loads(told)
    assert (code, one["trajectories"], one["judgements"], one["settings"]["steps"]) == (0, 6, 12, 2)
    assert one["identity"] == quick.identity()
    assert one["identity"][:12] in conjure_command("store", "look", tmp_path / "s")[1]
    assert conjure_command("store", "verify", tmp_path / "s")[:2] == (0, "18 of 18 rows are sound\n")
    assert conjure_command("store", "export", tmp_path / "s", tmp_path / "all.parquet")[:2] == (0, "12 rows\n")
    rows = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert {(row["text"], row["target"]) for row in rows} == {(a, b) for a in WORDS for b in WORDS if a != b}
    assert all(len(row["squared"]) == 2 for row in rows)
    assert conjure_command("store", "prune", tmp_path / "s", one["identity"][:12])[0] == 0
    assert held(Store(tmp_path / "s")) == []
    database = sqlite3.connect(tmp_path / "s")
    assert [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("judged", "final", "process")] == [
        0
    ] * 3


def test_verify_exits_with_1(conjure_command, quick, tmp_path):
    filled(quick, tmp_path / "s")
    database = sqlite3.connect(tmp_path / "s")
    database.execute("UPDATE judged SET sum = sum + 1 WHERE text = 'puppy' AND target = 'shark'")
    database.commit()
    code, told, _ = conjure_command("store", "verify", tmp_path / "s")
    assert code == 1
    assert "spoilt in judged: 'puppy' / " in told
    assert "16 of 18 rows are sound" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("look", "nowhere"), "there is no store 'nowhere'; give the file, or the folder"),
        (("repair", "nowhere"), "there is no store 'nowhere'"),
        (("look", "text"), "cannot be used as a store of results"),
        (("look", "older"), "is no store of this version of Conjure; mend it"),
        (("prune", "s", "f00"), "0 entries have an identity that begins with 'f00'"),
        (("prune", "s", ""), "0 entries"),
        (("export", "s", "all.csv"), "allowed are names that end with .parquet"),
    ],
)
def test_bad_input(conjure_command, quick, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Store("s").close()
    (tmp_path / "text").write_text("no store " * 500)
    database = sqlite3.connect("older")
    database.execute("CREATE TABLE judged (text)")
    database.commit()
    code, _, err = conjure_command("store", *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_store_may_be_named_by_the_environment(conjure_command, tmp_path, monkeypatch):
    monkeypatch.setenv("CONJURE_STORE", str(tmp_path / "s"))
    assert conjure_command("compare", "puppy", "poodle", "--steps", "2", "--samples", "1")[0] == 0
    ((count,),) = sqlite3.connect(tmp_path / "s").execute("SELECT count(*) FROM judged").fetchall()
    assert count == 2


def test_a_copy_of_a_store_is_a_store(quick, tmp_path):
    filled(quick, tmp_path / "s")
    shutil.copy(tmp_path / "s", tmp_path / "t")
    assert held(Store(tmp_path / "t"))[0].judgements == 12
    with pytest.raises(InputError, match="cannot be used as a store"):
        Store(tmp_path / "no folder" / "s")
    assert export(Store(tmp_path / "t"), tmp_path / "x.parquet") == 12
    assert prune(Store(tmp_path / "t"), [quick.identity()]) >= 0
    assert os.path.getsize(tmp_path / "t") < os.path.getsize(tmp_path / "s")

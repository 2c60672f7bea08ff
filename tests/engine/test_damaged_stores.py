"""Eighty damaged stores: each is read as far as its checksums allow, or refused in one line, and never returns other numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conjure import InputError, Store
from conjure.diffusion.jobs import TrajectoryJob
from conjure.engine.store_file import is_store_file
from conjure.engine.store_maintenance import summarize, verify
from conjure.engine.store_repair import repair
from stores import NUM_EVALUATIONS, execute

PAGE = 4096


def flip_bytes(content: bytearray, rng: np.random.Generator) -> None:
    for position in rng.integers(0, len(content), rng.integers(1, 64)):
        content[position] ^= int(rng.integers(1, 256))


def change_header(content: bytearray, rng: np.random.Generator) -> None:
    content[int(rng.integers(0, 100))] ^= int(rng.integers(1, 256))


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(0, len(content))) :]


def insert_bytes(content: bytearray, rng: np.random.Generator) -> None:
    position = int(rng.integers(0, len(content)))
    content[position:position] = rng.bytes(int(rng.integers(1, 5000)))


def random_page(content: bytearray, rng: np.random.Generator) -> slice:
    start = PAGE * int(rng.integers(0, len(content) // PAGE))
    return slice(start, start + PAGE)


def clear_page(content: bytearray, rng: np.random.Generator) -> None:
    content[random_page(content, rng)] = bytes(PAGE)


def fill_page(content: bytearray, rng: np.random.Generator) -> None:
    content[random_page(content, rng)] = rng.bytes(PAGE)


def swap_pages(content: bytearray, rng: np.random.Generator) -> None:
    first, second = random_page(content, rng), random_page(content, rng)
    content[first], content[second] = content[second], content[first]


def append_bytes(content: bytearray, rng: np.random.Generator) -> None:
    content += rng.bytes(int(rng.integers(1, 10_000)))


DAMAGES: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip_bytes, change_header, truncate, insert_bytes, clear_page, fill_page, swap_pages, append_bytes,
)  # fmt: skip

Numbers = dict[tuple[str, int, str], bytes]


def readable_numbers(path: Path, fingerprint: str, keys: list[tuple[str, int, str]]) -> Numbers:
    """Return the numbers that a process reads from a store."""
    with contextlib.closing(Store(path)) as store:
        results = store.for_process(fingerprint, {})
        jobs = [TrajectoryJob(text, seed, (target,)) for text, seed, target in keys]
        missing = results.missing(jobs, final_latents=True)
        available = [job for job in jobs if job not in missing]
        if not available:
            return {}
        differences = results.load(available).squared_differences
        return {
            (job.text, job.seed, job.targets[0]): differences[job.text, job.seed, job.targets[0]].tobytes() for job in available
        }


@pytest.mark.parametrize(
    "first_seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(len(DAMAGES), 80, len(DAMAGES)))]
)
def test_damaged_stores_return_no_other_numbers(short_process, filled_store, tmp_path, first_seed):
    keys = execute(filled_store.path, "SELECT text, seed, target FROM squared_differences")
    original = readable_numbers(filled_store.copy_to(tmp_path / "original"), short_process.fingerprint(), keys)
    assert len(original) == NUM_EVALUATIONS
    num_read, messages = 0, list[str]()
    for seed, damage in enumerate(DAMAGES, first_seed):
        content = bytearray(filled_store.path.read_bytes())
        damage(content, np.random.default_rng(seed))
        path = tmp_path / f"s{seed}"
        path.write_bytes(content)
        for read in (summarize, verify):
            with contextlib.suppress(InputError), contextlib.closing(Store(path)) as store:
                read(store)
            assert path.read_bytes() == content
        try:
            numbers = readable_numbers(path, short_process.fingerprint(), keys)
            num_read += 1
        except InputError as error:
            messages.append(str(error))
        else:
            assert numbers.items() <= original.items()
        if is_store_file(path):
            repair(path)
            with contextlib.closing(Store(path)) as store:
                assert verify(store).is_valid
            assert readable_numbers(path, short_process.fingerprint(), keys).items() <= original.items()
    assert num_read
    assert messages
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS SELECT * FROM squared_differences",
        "CREATE TRIGGER t AFTER INSERT ON final_latents BEGIN DELETE FROM squared_differences; END",
        "CREATE TABLE notes (text)",
        "CREATE INDEX i ON final_latents (text)",
    ],
)
def test_a_store_with_other_content_is_refused_and_not_changed_but_for_a_repair(
    conjure_command, filled_store, tmp_path, statement
):
    path = filled_store.copy_to(tmp_path / "s")
    execute(path, statement)
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is not a store of this version of Conjure"):
        Store(path)
    code, out, err = conjure_command("compare", "a", "b", "--steps", 1, "--samples", 1, "--store", path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert path.read_bytes() == before
    _, old_file = repair(path)
    assert old_file is not None
    assert old_file.read_bytes() == before
    with contextlib.closing(Store(path)) as store:
        assert verify(store).is_valid

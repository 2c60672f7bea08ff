"""Standard streams that are closed, full, or read by a program that has ended, for every command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from command_server import CLOSED, READ_ONLY, UNREAD
from conjure import InputError
from conjure.cli.streams import BestEffortFile, StandardOutput
from conjure.io.input_files import read_input

FULL = "/dev/full"
QUICK = ("--model", "model", "--steps", "1")
COMMANDS = {
    "help": ("--help",),
    "version": ("--version",),
    "compare": ("compare", "a", "b", *QUICK),
    "compare --json": ("compare", "a", "b", "--json", *QUICK, "--store", "s"),
    "matrix": ("matrix", "a", "b", *QUICK),
    "matrix --csv": ("matrix", "a", "b", "--csv", *QUICK),
    "nearest": ("nearest", "a", "--candidates", "texts", "--samples", "2", *QUICK),
    "check": ("check", "model", "--steps", "2"),
    "bench": ("bench", "--data", "pairs.tsv", "--out", "new", *QUICK),
    "ablate": ("ablate", "--data", "pairs.tsv", "--out", "new", *QUICK),
    "diff": ("diff", "run", "run"),
    "drift": ("drift", "a", "b", "--other-guidance", "2", *QUICK),
    "drift --csv": ("drift", "a", "b", "--other-guidance", "2", "--csv", *QUICK),
    "store info": ("store", "info", "s"),
    "store info --json": ("store", "info", "s", "--json"),
    "store verify": ("store", "verify", "s"),
    "store repair": ("store", "repair", "s"),
    "store prune": ("store", "prune", "s", "FINGERPRINT"),
    "store export": ("store", "export", "s", "x.parquet"),
}
NO_DEVICE = pytest.mark.skipif(not Path(FULL).exists(), reason="there is no full device")


def for_commands(*quick: str) -> pytest.MarkDecorator:
    """Run a test with the arguments of every command; only those of the named commands are quick tests."""
    parameters = [
        pytest.param(arguments, id=name, marks=() if name in quick else pytest.mark.slow) for name, arguments in COMMANDS.items()
    ]
    return pytest.mark.parametrize("arguments", parameters)


@pytest.fixture
def run(server, inputs):
    """Run a command in a folder with inputs."""
    (fingerprint,) = {line.split()[0] for line in (inputs / "run" / "run.json").read_text().split('"fingerprint": "')[1:]}

    def run(*arguments: str, **options):
        return server.run(*(fingerprint[:6] if word == "FINGERPRINT" else word for word in arguments), cwd=inputs, **options)

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("stdout", [CLOSED, READ_ONLY])
@for_commands("help", "version", "compare", "bench", "store repair")
def test_a_closed_standard_output_is_reported_before_anything_is_computed(run, inputs, arguments, stdout):
    before = names(inputs)
    completed = run(*arguments, stdout=stdout)
    assert completed.code == 1
    assert completed.err == (
        "error: standard output is closed, so the result cannot be printed; redirect it to a file, or to /dev/null\n"
    )
    assert names(inputs) == before


@NO_DEVICE
@for_commands("help", "version", "compare", "bench", "store verify")
def test_a_full_standard_output_is_one_line(run, arguments):
    completed = run(*arguments, stdout=FULL)
    *others, last_line = completed.err.splitlines()
    assert completed.code == 1
    assert last_line == (
        "error: standard output cannot be used: No space left on device; free some space and run the same command again"
    )
    assert not any("error" in line or "Traceback" in line for line in others)


@for_commands("help", "version", "compare", "bench", "store info")
def test_a_closed_pipe_ends_quietly(run, arguments):
    completed = run(*arguments, stdout=UNREAD)
    assert completed.code == 1
    assert not any(word in completed.err for word in ("error", "Traceback", "Exception"))


@pytest.mark.parametrize("stderr", [CLOSED, READ_ONLY, UNREAD, pytest.param(FULL, marks=NO_DEVICE)])
@for_commands("version", "store info --json")
def test_an_unusable_standard_error_does_not_lose_the_result(run, arguments, stderr):
    completed = run(*arguments, stderr=stderr)
    assert completed.code == 0
    assert completed.err == ""
    assert len(completed.out) > 10


@pytest.mark.parametrize("stderr", [CLOSED, READ_ONLY, UNREAD, pytest.param(FULL, marks=NO_DEVICE)])
def test_an_unusable_standard_error_changes_no_exit_code(run, stderr):
    assert run("compare", "a", "", stderr=stderr).code == 2
    warned = run("compare", "long " * 100, "a", "--json", *QUICK, stderr=stderr)
    assert warned.code == 0
    assert json.loads(warned.out)["distance"] > 0


@for_commands("compare --json", "store info")
def test_without_standard_streams_no_file_gets_their_descriptors(run, inputs, arguments):
    """Messages of libraries would be written to a store that has the descriptor of standard error."""
    completed = run(*arguments, stdin=CLOSED, stderr=CLOSED)
    assert completed.code == 0
    assert completed.out
    if "repair" not in arguments and "prune" not in arguments:
        assert run("store", "verify", "s").code == 0


@pytest.mark.parametrize("arguments", [("matrix", "--file", "-"), ("nearest", "a", "--candidates", "-")])
def test_a_closed_standard_input_is_reported(run, arguments):
    completed = run(*arguments, stdin=CLOSED)
    assert (completed.code, completed.out, completed.err.count("\n")) == (2, "", 1)
    assert "'-' cannot be read: standard input is closed" in completed.err


def test_python_without_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed; give a file"):
        read_input("-", advice="give a file")


@NO_DEVICE
def test_an_error_names_what_cannot_be_used(conjure_command, inputs, monkeypatch):
    """Standard output is named only if it is the cause."""
    with pytest.raises(OSError, match="No space left") as error, StandardOutput(FULL, "w") as file:
        file.write(b"x")
    assert error.value.filename == "standard output"

    def fail(*args, **kwargs):
        raise errors.pop(0)

    monkeypatch.setattr("conjure.engine.store_maintenance.summarize", fail)
    errors = [OSError(2, "reason"), OSError(2, "reason", "a\nb"), OSError("reason"), error.value]
    expected = ["reason", "'a\\nb' cannot be used: reason", "reason"]
    expected.append("standard output cannot be used: No space left on device; free some space and run the same command again")
    for message in expected:
        assert conjure_command("store", "info", inputs / "s") == (1, "", f"error: {message}\n")


def test_what_cannot_be_written_is_discarded():
    reader, writer = os.pipe()
    os.close(reader)
    with BestEffortFile(writer, "w") as file:
        assert file.write(b"message") == 7
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with BestEffortFile(writer, "w") as file, open(reader, "rb"):
        for _ in range(40):  # more than the pipe can hold
            assert file.write(memoryview(b"x" * 10_000)) in range(1, 10_001)

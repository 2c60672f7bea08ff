"""Fixtures of the tests that run commands as whole processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_server import command_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Run commands as whole processes."""
    with command_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared_inputs(server, tiny_sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "model").symlink_to(tiny_sd)
    (folder / "texts").write_text("cat\ndog\n")
    (folder / "pairs.tsv").write_text("text1\ttext2\tscore\nred\tblue\t1\ncat\tdog\t2\nsun\tmoon\t3\n")
    quick = ("--model", "model", "--steps", "1")
    assert server.run("bench", "--data", "pairs.tsv", "--out", "run", *quick, cwd=folder).code == 0
    assert server.run("compare", "a", "c", "--store", "s", "--samples", "2", *quick, cwd=folder).code == 0
    return folder


@pytest.fixture
def inputs(prepared_inputs, tmp_path):
    """A folder with one of each input of a command: `model`, `texts`, `pairs.tsv`, a run in `run`, and a store in `s`."""
    return Path(shutil.copytree(prepared_inputs, tmp_path / "inputs", symlinks=True))

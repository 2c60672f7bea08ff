"""Invalid input: one line on standard error, exit code 2, and no computation before it is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "", "b"),
        ("compare", "a", "  "),
        ("compare", "a"),
        ("compare", "a", "b", "--samples", 0),
        ("compare", "a", "b", "--samples", "two"),
        ("compare", "a", "b", "--steps", 0),
        ("compare", "a", "b", "--steps", "-3"),
        ("compare", "a", "b", "--scheduler", "nope"),
        ("compare", "a", "b", "--divergence", "nope"),
        ("compare", "a", "b", "--weighting", "nope"),
        ("compare", "a", "b", "--guidance", "nan"),
        ("compare", "a", "b", "--seed", "-1"),
        ("compare", "a", "b", "--model", "/no/such/folder"),
        ("compare", "a", "b", "--figure", "/no/such/folder/x.png"),
        ("compare", "a", "b", "--figure", "picture.jpg"),
        ("compare", "a", "b", "--figure", "."),
        ("compare", "a", "b", "--replace", "snow"),
        ("compare", "a", "b", "--replace", "snow=desert"),
        ("compare", "a", "b", "--replace", "a=c", "--replace", "a=d"),
        ("nearest", "a", "--candidates", "/no/such/file"),
        ("nearest", "a"),
        ("app", "--runs", "/no/such/folder"),
        ("app", "--user", "me"),
        ("app", "--models", "/no/such/folder"),
        ("matrix", "a", "b", "--mds", "x.html"),
        ("matrix", "a", "b", "--json", "--csv"),
        ("diff", "a", "b", "--images", 2),
        ("diff", "a", "b", "--out", "x.pdf"),
        ("compare", "a", "b", "--dtype", "int8"),
        ("compare", "a", "b", "--nope"),
        ("compare", "a", "b", "--scheduler", "edmeuler"),
        ("compare", "a", "b", "--scheduler", "unipcmultistep", "--steps", 1),
        ("compare", "a", "b", "--scheduler", "pndm", "--steps", 2),
        ("compare", "a", "b", "--device", "abacus"),
        ("compare", "a", "b", "--figure", "x" * 300 + ".png"),
        ("compare", "a\udcff", "b"),
        ("compare", "long " * 100, "b", "--strict"),
        ("nope",),
        (),
    ],
)
def test_invalid_input_prints_one_line_and_exits_with_2(conjure_command, arguments):
    code, out, err = conjure_command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_figure_path_is_checked_before_the_model_is_loaded(conjure_command, tmp_path, monkeypatch):
    monkeypatch.setattr("conjure.load", lambda *_, **__: pytest.fail("the model was loaded"))
    os.chmod(tmp_path, 0o500)
    path = "/proc/grid.png" if os.access(tmp_path, os.W_OK) else tmp_path / "grid.png"  # root can write to every other folder
    assert conjure_command("compare", "a", "b", "--figure", path)[0] == 2


WITHOUT_TORCH = [
    ("compare", "", "b"),
    ("compare", "a", "b", "--samples", "0"),
    ("compare", "a", "b", "--steps", "0"),
    ("compare", "a", "b", "--guidance", "-1"),
    ("compare", "a", "b", "--seed", "-1"),
    ("compare", "a", "b", "--target-relative-error", "0"),
    ("compare", "a", "b", "--divergence", "nope"),
    ("compare", "a", "b", "--unit", "nope"),
    ("compare", "a", "b", "--reduction", "nope"),
    ("compare", "a", "b", "--figure", "picture.jpg"),
    ("compare", "a", "b", "--replace", "snow=desert"),
    ("compare", "a", "b", "--replace", "a= "),
    ("matrix", "a", " "),
    ("matrix", "a", "b", "--weighting", "nope"),
    ("nearest", "a", "--candidates", "README.md", "--top", "0"),
    ("nearest", "", "--candidates", "README.md"),
    ("drift", "a"),
    ("drift", "a", "--other-guidance", "5", "--samples", "0"),
    ("drift", "a", "a", "--other-guidance", "5"),
    ("bench", "--samples", "0"),
    ("ablate", "--vary", "nope"),
    ("ablate", "--samples", "0"),
]

RUN_ALL = """
import contextlib, io, json, sys
import conjure.cli

results = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            conjure.cli.main(arguments)
    except SystemExit as exit:
        results.append([exit.code, out.getvalue(), err.getvalue().count("\\n"), "torch" in sys.modules])
print(json.dumps(results))
"""


def test_invalid_input_is_reported_before_torch_is_imported():
    """The import of torch takes seconds. One new process runs all commands."""
    completed = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=json.dumps(WITHOUT_TORCH), capture_output=True, text=True, check=True, cwd=ROOT
    )
    results = json.loads(completed.stdout)
    assert dict(zip(WITHOUT_TORCH, map(tuple, results), strict=True)) == dict.fromkeys(WITHOUT_TORCH, (2, "", 1, False))

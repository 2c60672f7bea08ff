"""The promises of SECURITY.md: each names tests that exist, and those that belong to no single package are tested here."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import re
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.engine import ray_workers

TESTS = Path(__file__).parent
SECURITY = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
QUICK = ("--steps", 1, "--samples", 1)


def names_of_tests(path: Path) -> set[str]:
    """Return the names of the functions of a module, and those that it assigns."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {child.id for child in ast.walk(node.targets[0]) if isinstance(child, ast.Name)}
    return {name for name in names if name.startswith("test_")}


def test_every_named_test_exists():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", SECURITY)
    assert len(named) > 40
    for path, name in named:
        assert name in names_of_tests(TESTS / path), f"{path}::{name}"
    for path in re.findall(r"`(tests/[\w/]+\.py)`", SECURITY):
        assert (TESTS.parent / path).exists(), path


def test_every_guarantee_has_a_test():
    section = SECURITY.partition("## Guarantees and their tests\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        assert re.search(r"`[\w/]+\.py::\w+` \|$", row), row


# Texts


@pytest.mark.parametrize(
    "text",
    ["{0.__class__} {texts!r} %s %(name)s", r"$\frac{1}{0}$ $\undefined$ $", "[link=file:///etc/passwd]x[/link] [bold", "&lt;b>"],
)
def test_texts_are_data(conjure_command, tiny_sd, tmp_path, text):
    """They are neither formats nor markup of the terminal, of figures or of pages."""
    for suffix in ("png", "html"):
        figure = tmp_path / f"x.{suffix}"
        code, out, err = conjure_command("compare", text, "b", "--model", tiny_sd, "--figure", figure, *QUICK)
        assert (code, err) == (0, "")
        assert f"along the trajectory of “{text}”" in out
    code, out, _ = conjure_command("matrix", text, "b", "--model", tiny_sd, "--figure", tmp_path / "y.png", "--json", *QUICK)
    assert (code, json.loads(out)["texts"]) == (0, [text, "b"])


def test_texts_are_not_looked_up(conjure_command, tiny_sd, tmp_path, monkeypatch):
    """A text that is the name of a file, of a variable or of a model is only a text."""
    monkeypatch.chdir(tmp_path)
    Path("secret").write_text("content of a file")
    for text in ("secret", "@secret", "$HOME", "file:///etc/passwd", "owner/name"):
        code, out, _ = conjure_command("compare", text, "b", "--model", tiny_sd, "--json", *QUICK)
        assert (code, json.loads(out)["texts"]) == (0, [text, "b"])
        assert "content of a file" not in out


def test_stores_do_not_control_the_terminal(conjure_command, tmp_path):
    """Names of models and texts in a store that somebody else wrote."""
    hostile = "\x1b[2J\x9b31m\u202ename"
    with contextlib.closing(conjure.Store(tmp_path / "s")) as store:
        store.for_baseline({"name": hostile}).add([(hostile, "b")], np.ones((1, 1)))
        store.database.write("UPDATE baseline_distances SET crc32 = crc32 + 1")
    for arguments in (("info",), ("info", "--json"), ("verify",)):
        code, out, err = conjure_command("store", arguments[0], tmp_path / "s", *arguments[1:])
        assert (code, err) == (arguments == ("verify",), "")
        assert "name" in out
        assert not set("\x1b\x9b\u202e") & set(out)


# Code


class Payload:
    """A pickle of this object creates a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "code_was_run"


@pytest.mark.parametrize(
    "name",
    ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/tokenizer.json", "model_index.json",
     "vae/config.json"],
)  # fmt: skip
def test_pickles_under_the_name_of_a_readable_file_are_not_loaded(conjure_command, tiny_sd, tmp_path, marker, name):
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "model"))
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    code, out, err = conjure_command("compare", "a", "b", "--model", folder, *QUICK)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "store.sqlite", "pairs.parquet", "pairs.tsv", "texts"])
def test_pickles_in_place_of_other_files_are_not_loaded(conjure_command, tmp_path, marker, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Payload(marker)))
    command = {
        "model": ("compare", "a", "b", "--model", path),
        "store": ("compare", "a", "b", "--store", path),
        "pairs": ("bench", "--data", path, "--out", tmp_path / "run"),
        "texts": ("matrix", "--file", path),
    }[path.stem]
    code, out, err = conjure_command(*command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not marker.exists()


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": ["pipeline", "Evil"]},
        {"_class_name": ["evil", "Evil"]},
        {"_class_name": "Evil"},
        {"_class_name": "../evil"},
        {"custom_pipeline": "evil"},
        {"_custom_pipeline": "./evil.py", "_class_name": "Evil"},
        {"_diffusers_version": "0.1", "_module": "evil", "_class_name": "Evil"},
    ],
)
def test_custom_pipelines_are_not_run(tiny_sd, tmp_path, marker, monkeypatch, index):
    """The folder of a model may name the class of a pipeline in its own code, and contain it as diffusers expects it."""
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "model"))
    for name in ("pipeline.py", "evil.py", "evil/pipeline.py", "evil/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.chdir(folder)
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | index))
    if "_class_name" in index:
        with pytest.raises(InputError, match="^[^\n]+$"):
            conjure.load(folder)
    else:  # diffusers ignores keys that name no component
        assert conjure.load(folder).fingerprint()
    assert not marker.exists()


# Network


def test_nothing_is_sent(conjure_command, tiny_sd, tmp_path, monkeypatch):
    """No command opens a connection unless a name on the Hub is given."""
    (tmp_path / "pairs.tsv").write_text("text1\ttext2\tscore\nred\tblue\t1\ncat\tdog\t2\nsun\tmoon\t3\n")

    def refuse(self, address):
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: refuse(None, args))
    for arguments in (
        ("compare", "a", "b", "--figure", tmp_path / "x.html"),
        ("compare", "a", "b", "--model", tiny_sd),
        ("bench", "--data", tmp_path / "pairs.tsv", "--model", tiny_sd, "--baseline", "encoder", "--out", tmp_path / "run"),
    ):
        assert conjure_command(*arguments, *QUICK)[0] == 0
    with pytest.raises(AssertionError, match="a connection to"):
        socket.create_connection(("127.0.0.1", 9))


def test_workers_send_no_statistics(monkeypatch):
    """Ray sends usage statistics, unless they are disabled before it starts."""
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    values = []

    def init(**_):
        values.append(os.environ["RAY_USAGE_STATS_ENABLED"])

    monkeypatch.setattr(ray_workers, "_import_ray", lambda: SimpleNamespace(init=init))
    ray_workers._connect(None, 1)
    assert values == ["0"]

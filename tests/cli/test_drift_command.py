"""The command `drift`."""

from __future__ import annotations

import csv
import io
import json

import pytest


@pytest.fixture
def drift(conjure_command, tiny_sd):
    return lambda *arguments: conjure_command("drift", "--model", tiny_sd, "--steps", 2, "--samples", 2, *arguments)


def test_settings_of_one_model(drift):
    code, out, err = drift("house", "dog", "--guidance", 2, "--other-guidance", 3, "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert (result["process_a"]["guidance"], result["process_b"]["guidance"]) == (2, 3)
    assert result["process_a"]["steps"] == result["process_b"]["steps"] == 2
    assert {text["text"] for text in result["texts"]} == {"house", "dog"}


def test_two_models(drift, tiny_sd, tmp_path):
    code, out, _ = drift("house", "--other", "default", "--json")
    assert code == 2  # other latents
    code, out, _ = drift("house", "--other", tiny_sd, "--other-dtype", "bfloat16", "--other-steps", 3, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["process_b"]["dtype"], result["process_b"]["steps"]) == ("bfloat16", 3)
    assert result["process_a"]["dtype"] == "float32"


def test_files(drift, tmp_path):
    (tmp_path / "texts.txt").write_text("house\ncat\n\ndog\n")
    table, figure = tmp_path / "table.parquet", tmp_path / "figure.html"
    code, out, err = drift(
        "--file", tmp_path / "texts.txt", "--other-scheduler", "euler", "--csv", "--out", table, "--figure", figure, "--images", 1
    )
    assert code == 0
    assert [row["text"] for row in csv.DictReader(io.StringIO(out))] == ["house", "cat", "dog"]
    assert f"wrote {table}" in err
    assert table.exists()
    assert "Final images" in figure.read_text()


def test_groups_and_built_in_texts(drift, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("house\ncat\n\ndog\nbird\n")
    code, out, _ = drift("--file", tmp_path / "texts.txt", "--other-guidance", 3, "--json")
    assert code == 0
    assert {group["name"] for group in json.loads(out)["groups"]} == {"1: house", "2: dog"}
    monkeypatch.setattr("conjure.process_drift.compute.built_in_texts", lambda: {"a": ["dog", "cat"], "b": ["house", "boat"]})
    code, out, _ = drift("--other-guidance", 3)
    assert code == 0
    assert "Groups, each compared with the texts of all other groups" in out


def test_arrangements(drift):
    texts = ("house", "dog", "cat", "moon")
    code, out, _ = drift(*texts, "--other-guidance", 3, "--matrix", "--json")
    assert code == 0
    assert -1 <= json.loads(out)["correlation"] <= 1
    code, out, _ = drift(*texts, "--other-guidance", 3, "--matrix")
    assert code == 0
    assert "Pairs whose ranks differ most" in out


def test_the_table(drift):
    code, out, _ = drift("house", "dog", "--other-guidance", 3)
    assert code == 0
    assert "Texts, from the largest divergence to the smallest" in out
    assert "Summary over texts" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("house",),
        ("--file", "/no/such/file", "--other-guidance", 3),
        ("house", "--file", "x", "--other-guidance", 3),
        ("house", "--json", "--csv", "--other-guidance", 3),
        ("house", "house", "--other-guidance", 3),
        (" ", "--other-guidance", 3),
        ("house", "--other-guidance", -3),
        ("house", "--other-guidance", 3, "--out", "table.txt"),
        ("house", "--other-guidance", 3, "--figure", "figure.txt"),
        ("house", "--other-guidance", 3, "--images", 0),
        ("house", "--other-scheduler", "nope"),
        ("a", "b", "c", "--other-guidance", 3, "--matrix"),
        ("a", "b", "c", "d", "--other-guidance", 3, "--matrix", "--csv"),
        ("house", "--other", "/no/such/folder"),
        ("house", "--other-dtype", "int3"),
    ],
)
def test_invalid_input_is_one_line(drift, arguments):
    code, out, err = drift(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_negative_prompt_that_b_ignores_is_refused(drift):
    code, _, err = drift("house", "--guidance", 2, "--negative-prompt", "ugly", "--other-guidance", 1)
    assert (code, "ignores a negative prompt" in err) == (2, True)


def test_the_input_is_not_overwritten(drift, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("house\n")
    code, _, err = drift("--file", texts, "--other-guidance", 3, "--out", texts)
    assert (code, "is the input" in err, texts.read_text()) == (2, True, "house\n")

"""The command `distances` and `conjure.distance_table`: tables of pairs in, tables of distances out."""

from __future__ import annotations

import csv
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

import conjure
from conjure import InputError
from conjure.divergence.divergences import Divergence
from conjure.evaluation.text_pairs import as_text_pairs

PAIRS = [("red apple", "pear"), ("=1+1", 'a "quoted", text'), ("cat", "cat")]
COLUMNS = ["id", "text1", "text2", "note", "distance", "stderr", "ci95_low", "ci95_high", "forward", "backward"]


def table_text() -> str:
    file = io.StringIO()
    csv.writer(file).writerows([["id", "text1", "text2", "note"], *([7 + i, *pair, ""] for i, pair in enumerate(PAIRS))])
    return file.getvalue()


@pytest.fixture
def process(tiny_sd):
    return conjure.load(tiny_sd, steps=2)


@pytest.fixture
def pairs_csv(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(table_text())
    return path


@pytest.fixture
def distances(conjure_command, tiny_sd):
    return lambda *arguments: conjure_command("distances", *arguments, "--model", tiny_sd, "--steps", 2, "--samples", 2)


def test_values_are_those_of_distance(process):
    table = conjure.distance_table(process, PAIRS, samples=2, divergences=("kl", "direct", "jeffreys"))
    for i, pair in enumerate(PAIRS):
        columns: dict[Divergence, str] = {"kl": "distance", "direct": "direct", "jeffreys": "jeffreys"}
        for divergence, column in columns.items():
            estimate = conjure.distance(process, *pair, samples=2, divergence=divergence)
            error = "stderr" if column == "distance" else f"{column}_stderr"
            assert table.columns[column][i] == pytest.approx(estimate.distance, rel=1e-5)
            assert table.columns[error][i] == pytest.approx(estimate.stderr, rel=1e-3, abs=1e-9)
        estimate = conjure.distance(process, *pair, samples=2, divergence="kl")
        ends = [table.columns[name][i] for name in ("ci95_low", "ci95_high")]
        assert ends == pytest.approx(estimate.ci95, rel=1e-3)
        assert table.columns["backward"][i] == pytest.approx(estimate.backward, rel=1e-5)
    assert table.units == dict.fromkeys(("kl", "jeffreys"), "squared norm") | {"direct": "squared norm of latents"}


def test_all_formats_have_the_same_rows(distances, pairs_csv, tmp_path):
    code, out, err = distances(pairs_csv)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, list(rows[0])) == (0, COLUMNS)
    assert [(row["id"], row["text1"]) for row in rows] == [("7", "red apple"), ("8", "'=1+1"), ("9", "cat")]
    assert "3 pairs, " in err
    for suffix in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"out.{suffix}"
        code, out, err = distances(pairs_csv, "--out", path)
        assert (code, f"wrote {path}" in err, out.startswith("3 pairs, jeffreys")) == (0, True, True)
        match suffix:
            case "csv":
                other = list(csv.DictReader(path.read_text().splitlines()))
            case "jsonl":
                other = [json.loads(line) for line in path.read_text().splitlines()]
            case _:
                other = parquet.read_table(path).to_pylist()
                metadata = json.loads(parquet.read_schema(path).metadata[b"conjure"])
                assert (metadata["samples"], metadata["process"]["steps"]) == (2, 2)
        assert [float(row["distance"]) for row in other] == pytest.approx([float(row["distance"]) for row in rows], rel=1e-5)
        assert list(other[0]) == COLUMNS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.jsonl", "out.parquet", "pairs.csv"]
    assert "\n8,=1+1," in distances(pairs_csv, "--raw-texts")[1]


@pytest.mark.parametrize("content", ["csv", "jsonl", "parquet"])
def test_standard_input_in_every_format(distances, monkeypatch, tmp_path, content):
    frame = pd.DataFrame({"A": [first for first, _ in PAIRS], "B": [second for _, second in PAIRS], "x": [0.5, None, 2.0]})
    match content:
        case "csv":
            data = frame.to_csv(index=False).encode()
        case "jsonl":
            data = frame.to_json(orient="records", lines=True).encode()
        case _:
            data = frame.to_parquet()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    code, out, _ = distances("-", "--columns", "A,B", "--jsonl", "--max-pairs", 2, "--divergence", "kl", "--divergence", "final")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [(row["A"], row["B"]) for row in rows]) == (0, PAIRS[:2])
    assert rows[1]["x"] in (None, "")
    assert "final_stderr" in rows[0]


class InterruptAfter:
    """A progress callback that raises like Ctrl-C after some calls, and counts its calls."""

    def __init__(self, calls: float) -> None:
        self.remaining, self.calls = calls, 0

    def __call__(self, completed: int, total: int) -> None:
        self.calls += 1
        self.remaining -= 1
        if self.remaining < 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_is_resumed(process, tmp_path):
    """The store beside the output file has the finished batches, and is removed when the table is written."""
    out, process = tmp_path / "out.csv", process.set(batch_size=4)
    pairs = [(f"thing {i}", f"other {i}") for i in range(6)]
    complete = InterruptAfter(np.inf)
    expected = conjure.distance_table(process, pairs, samples=2, progress=complete)
    with pytest.raises(KeyboardInterrupt):
        conjure.distance_table(process, pairs, samples=2, out=out, progress=InterruptAfter(complete.calls - 2))
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".store"] == ["out.csv.store"]
    resumed = InterruptAfter(np.inf)
    table = conjure.distance_table(process, pairs, samples=2, out=out, progress=resumed)
    assert 0 < resumed.calls < complete.calls
    np.testing.assert_allclose(table.columns["distance"], expected.columns["distance"], rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_store_is_used_and_kept(process, tmp_path):
    stored, counter = process.set(store=conjure.Store(tmp_path / "s")), InterruptAfter(np.inf)
    conjure.distance_table(stored, PAIRS, samples=2)
    conjure.distance_table(stored, PAIRS, samples=2, out=tmp_path / "out.jsonl", progress=counter)
    assert counter.calls == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"s", "out.jsonl"}
    assert not (tmp_path / "out.jsonl.store").exists()


def test_pairs_without_a_finite_distance_have_empty_cells(process, tmp_path, monkeypatch, conjure_command):
    token = process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

    def overflow(_, inputs, output):
        output[0][(inputs[0] == token).any(1)] = np.nan

    process.pipeline.text_encoder.register_forward_hook(overflow)
    monkeypatch.setattr(conjure, "load", lambda *_, **__: process)
    path = tmp_path / "pairs.csv"
    path.write_text("text1,text2\ncat,dog\ncat,an @\n")
    code, out, err = conjure_command("distances", path, "--samples", 1)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, rows[0]["distance"] != "", rows[1]["distance"]) == (1, True, "")
    assert "not finite for 1 text: 'an @'" in err
    with pytest.raises(InputError, match="no pair has a distance"):
        conjure.distance_table(process, [("cat", "an @")], samples=1)


def test_data_frames(process):
    frame = pd.DataFrame({"label": [3, 4], "s1": ["cat", "dog"], "s2": ["sun", "moon"]})
    result = conjure.distance_table(process, frame, samples=1).to_pandas()
    assert list(result["label"]) == [3, 4]
    assert result["stderr"].isna().all()
    assert (result["distance"] > 0).all()
    with pytest.raises(InputError, match="a pair is 'cat'; must be a tuple of two texts"):
        as_text_pairs(["cat"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("a,b\nx,y\n", (), "no known pair of columns of texts"),
        ("a,b\nx,y\n", ("--columns", "a"), "must be two columns of texts, as in text1,text2"),
        ("a,b\nx,y\n", ("--columns", "a,c"), "has no column 'c'; its columns are 'a', 'b'"),
        ("text1,text2\nx, \n", (), "row 2: text2 is blank"),
        ("text1,text2,distance\nx,y,1\n", (), "has a column 'distance', which the result has too"),
        ("text1,text2\n", (), "has no pairs"),
        ("text1,text2\nx,y\n", ("--shuffle", 1), "give their number by max_pairs"),
        ("text1,text2\nx,y\n", ("--max-pairs", 0), "must be an integer >= 1"),
        ("text1,text2\nx,y\n", ("--divergence", "nope"), "unknown divergence 'nope'"),
        ("text1,text2\nx,y\n", ("--divergence", "kl", "--divergence", "kl"), "different names"),
        ("text1,text2\nx,y\n", ("--divergence", "kl", "--divergence", "direct", "--antithetic"), "without antithetic noise"),
        ("text1,text2\nx,y\n", ("--out", "x.txt"), "table 'x.txt' ends with '.txt'"),
        ("text1,text2\nx,y\n", ("--out", "x.jsonl", "--raw-texts"), "--raw-texts is given without"),
        ("text1,text2\nx,y\n", ("--out", "x.csv", "--jsonl"), "both --jsonl and --out are given"),
        ('{"text1": "x", "text2": "y", "z": "\\ud800"}\n', (), "'z' is not valid Unicode"),
    ],
)
def test_invalid_input_is_one_line(distances, tmp_path, monkeypatch, content, arguments, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("pairs.jsonl" if content.startswith("{") else "pairs.csv")
    path.write_text(content)
    code, out, err = distances(path, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err


def test_the_input_is_not_overwritten(distances, pairs_csv, tmp_path):
    content = pairs_csv.read_bytes()
    (tmp_path / "link.csv").symlink_to(pairs_csv)
    for out in (pairs_csv, tmp_path / "link.csv"):
        code, _, err = distances(pairs_csv, "--out", out)
        assert (code, "is the input; name another file" in err) == (2, True)
    assert pairs_csv.read_bytes() == content


def test_a_store_with_results_of_another_process_is_kept(distances, pairs_csv, tmp_path):
    store = tmp_path / "out.csv.store"
    assert distances(pairs_csv, "--guidance", 4, "--store", store)[0] == 0
    assert distances(pairs_csv, "--out", tmp_path / "out.csv")[0] == 0
    assert store.exists()


def test_nested_columns_are_written_as_json(distances, tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"text1": "cat", "text2": "dog", "empty": {}, "list": ["\\ud800", 1]}\n')
    out = tmp_path / "out.parquet"
    assert distances(tmp_path / "pairs.jsonl", "--out", out)[0] == 0
    (row,) = parquet.read_table(out).to_pylist()
    assert (row["empty"], json.loads(row["list"])) == ("{}", ["\ud800", 1])


def test_numbers_of_other_columns_are_copied(distances, tmp_path):
    (tmp_path / "pairs.csv").write_text("text1,text2,score\ncat,dog,-1.5\n")
    assert ",-1.5," in distances(tmp_path / "pairs.csv")[1]


def test_infinite_numbers_of_other_columns_are_copied(process):
    """They are no missing values. JSON Lines, which cannot hold them, have null."""
    frame = pd.DataFrame({"text1": ["cat", "sun"], "text2": ["dog", "moon"], "x": [np.inf, np.nan]})
    table = conjure.distance_table(process, frame, samples=1)
    copies = parquet.read_table(io.BytesIO(table.to_parquet()))["x"].to_pylist()
    assert copies == [np.inf, None]
    assert [row["x"] for row in csv.DictReader(io.StringIO(table.to_csv()))] == ["inf", ""]
    assert [json.loads(line)["x"] for line in table.to_jsonl().splitlines()] == [None, None]

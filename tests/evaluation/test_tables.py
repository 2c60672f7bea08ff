"""Tables are read in the formats that pandas and spreadsheets write, and no quotation mark is measured without a word."""

from __future__ import annotations

import csv
import json
import os
import warnings

import pytest

from conjure import InputError, QuotedFieldsWarning
from conjure.evaluation import tables
from conjure.evaluation.datasets import from_dataframe, read_file
from conjure.evaluation.pair_files import Pairs

pandas = pytest.importorskip("pandas")

PLAIN = [("snow leopard", "bengal tiger", 3.5), ("red apple", "green pear", 1.0), ("the sun", "the moon", 4.0)]
HARD = [
    ('He said "no"', "a, b; c\td", 3.5),
    ("two\nlines", "two\n\nmore", 1.0),
    ('"quoted"', "=1+1", 2.0),
    ("line\u2028separator", "next\x85line", 4.0),
    ("NA", "null", 5.0),
]


def frame(rows):
    return pandas.DataFrame(rows, columns=["sentence1", "sentence2", "score"])


def read(path) -> Pairs:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuotedFieldsWarning)
        return read_file(path)


WRITERS = {
    "comma.csv": lambda table, path: table.to_csv(path, index=False),
    "index.csv": lambda table, path: table.to_csv(path),
    "semicolon.csv": lambda table, path: table.to_csv(path, index=False, sep=";"),
    "all.csv": lambda table, path: table.to_csv(path, index=False, quoting=csv.QUOTE_ALL),
    "excel.csv": lambda table, path: table.to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\r\n"),
    "tab.tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "comma.tsv": lambda table, path: table.to_csv(path, index=False),
    "excel.txt": lambda table, path: table.to_csv(path, index=False, sep="\t", encoding="utf-16", lineterminator="\r\n"),
    "lines.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    "array.json": lambda table, path: table.to_json(path, orient="records"),
    "table.parquet": lambda table, path: table.to_parquet(path),
}


@pytest.mark.parametrize("rows", [PLAIN, HARD], ids=["plain", "hard"])
@pytest.mark.parametrize("name", WRITERS)
def test_files_of_pandas_are_read_as_they_were_written(tmp_path, name, rows):
    WRITERS[name](frame(rows), tmp_path / name)
    pairs = read(tmp_path / name)
    assert pairs.texts == [(first, second) for first, second, _ in rows]
    assert pairs.scores.tolist() == [score for *_, score in rows]


def test_data_frames_are_read():
    pairs = from_dataframe(frame(PLAIN))
    assert pairs.texts == [(first, second) for first, second, _ in PLAIN]


@pytest.mark.parametrize("separator", ["\t", ","])
def test_files_without_quoting_are_read(tmp_path, separator):
    """As STS-B: fields contain quotation marks, or begin with one."""
    lines = ['"one" is,2,1', 'say "hi",b,2', '"never closed,c,3', 'a,closed",4', '"both",d,5']
    (tmp_path / "x.tsv").write_text("\n".join(["text1,text2,score", *lines]).replace(",", separator))
    with pytest.warns(QuotedFieldsWarning, match="has 1 pair with a text that begins and ends .*, the first in row 6"):
        pairs = read_file(tmp_path / "x.tsv")
    assert pairs.first == ('"one" is', 'say "hi"', '"never closed', "a", '"both"')
    assert pairs.second == ("2", "b", "c", 'closed"', "d")


@pytest.mark.parametrize("separator", ["\t", ","])
def test_marks_of_two_rows_are_not_one_quoted_field(tmp_path, separator):
    """Read with quoting, this file would be valid and have one row instead of three."""
    text = 'text1,text2,score\n"begins,b,1\nin between,c,2\nends",d,3\n'
    (tmp_path / "x.tsv").write_text(text.replace(",", separator))
    assert read_file(tmp_path / "x.tsv").first == ('"begins', "in between", 'ends"')


def test_consistent_quoting_is_removed(tmp_path):
    (tmp_path / "x.tsv").write_text('text1\ttext2\tscore\n"a ""b"""\tc\t1\n"d"\te\t2\n"f\tg"\th\t3\n')
    assert read_file(tmp_path / "x.tsv").first == ('a "b"', "d", "f\tg")


def test_texts_with_quotation_marks_are_reported_by_the_command(tmp_path, conjure_command):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text1": f'"a{i}"', "text2": "b", "score": i}) + "\n" for i in range(2)))
    _, _, err = conjure_command("bench", "--data", path, "--model", "/no/model", "--out", tmp_path / "out")
    assert "2 pairs with a text that begins and ends with a quotation mark" in err


def test_long_fields_are_read(tmp_path):
    """The limit of the standard library is 131,072 characters, and is not changed for others."""
    limit, long_text = csv.field_size_limit(), "word " * 40_000 + '"'
    frame([(long_text, "b", 1.0)]).to_csv(tmp_path / "x.csv", index=False)
    assert read_file(tmp_path / "x.csv").first == (long_text,)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"text1,text2,score\na;b;1\n", "row 2: 1 columns instead of 3; its header is separated by commas"),
        ("x.tsv", b"text1|text2|score\na|b|1\n", "no known pair of columns of texts.*'text1|text2|score'"),
        ("x.csv", b"text1,text1,text2,score\na,b,c,1\n", "two columns 'text1'"),
        ("x.csv", b"text1,text2,score\n\xff,b,1\n", "cannot be read.*give a UTF-8 file"),
        ("x.txt", "text1\ttext2\tscore\n".encode("utf-16")[:-1], "cannot be read.*give a UTF-8 file"),
        ("x.csv", b"", "has no pairs"),
        ("x.jsonl", b"", "has no pairs"),
        ("x.jsonl", b'{"text1": "a"\n', "entry 1 cannot be read: .*give one JSON object per line"),
        ("x.jsonl", b"3\n", "entry 1 is not an object"),
        ("x.json", b"[" * 100_000, "cannot be read: .*recursion"),
        ("x.json", b'[{"text1": "a", "text2": "b", "score": 1}, {"text1": "a"}]', "row 3: the score is None; must be a number"),
        ("x.json", b'[{"text1": 1984, "text2": "b", "score": 1}]', "row 2: text1 is 1984; must be a text"),
        ("x.json", b'[{"text1": null, "text2": "b", "score": 1}]', "row 2: text1 is blank"),
        ("x.json", b'[{"text1": "a", "text2": "b", "score": ' + b"1" * 400 + b"}]", "row 2: the score is 1+...1+; must be"),
        ("x.json", b'[{"text1": "a", "text2": "b", "score": NaN}]', "row 2: the score is nan"),
        ("x.json", b'[{"text1": "a", "text2": "b", "score": true}]', "row 2: the score is True; must be a number"),
        ("x.csv", b"text1,text2,score\na,b,1_0\n", "row 2: the score is '1_0'; must be a number"),
        ("x.parquet", b"PAR1 and more PAR1", "cannot be read: .*parquet"),
    ],
)  # fmt: skip
def test_invalid_tables_are_refused(tmp_path, conjure_command, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_file(tmp_path / name)
    code, out, err = conjure_command("bench", "--data", tmp_path / name, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_large_files_are_refused(tmp_path):
    for name in ("x.csv", "x.jsonl", "x.parquet"):
        (tmp_path / name).write_bytes(b" " * (10**6 + 1))
        with pytest.raises(InputError, match=r"has more than 1 MB; .*--max-file-mb"):
            read_file(tmp_path / name, max_mb=1)
    frame([("a" * 2 * 10**6, "b", 1.0)]).to_parquet(tmp_path / "compressed.parquet")
    assert os.path.getsize(tmp_path / "compressed.parquet") < 10**6
    with pytest.raises(InputError, match=r"has 2 MB without compression; at most 1 MB are allowed"):
        read_file(tmp_path / "compressed.parquet", max_mb=1)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    frame(PLAIN).to_parquet(tmp_path / "x.parquet")

    def fail():
        raise InputError("Parquet tables need the package pyarrow")

    monkeypatch.setattr(tables, "import_pyarrow", fail)
    with pytest.raises(InputError, match="need the package pyarrow"):
        read_file(tmp_path / "x.parquet")

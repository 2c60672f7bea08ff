"""Datasets have the declared content, and tables of pairs are checked row by row."""

from __future__ import annotations

import string
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from conjure import InputError
from conjure.evaluation.datasets import PAPER_TABLE_1, TASKS, from_dataframe, load_tasks, of_frame, read, read_file
from conjure.similarity.validation import read_groups
from rated_pairs import RATED_PAIRS, RATINGS, write_pairs

needs_data = pytest.mark.skipif(not RATINGS.is_dir(), reason=f"the human ratings are not available in {RATINGS}")


@pytest.fixture
def pairs_file(tmp_path):
    return write_pairs(tmp_path / "own.tsv")


@needs_data
@pytest.mark.parametrize("name", TASKS)
def test_datasets_have_the_declared_content(name):
    pairs = read(name, RATINGS)
    assert len(pairs) == TASKS[name].pairs
    low, high = TASKS[name].score_range
    assert low <= pairs.scores.min() < pairs.scores.max() <= high
    assert (pairs.subset is None) == (TASKS[name].subset_column is None)
    assert (pairs.is_complete, pairs.head(3).is_complete) == (True, False)


@needs_data
def test_protocols():
    assert sum(TASKS[name].pairs for name in PAPER_TABLE_1) == 18850 == sum(len(read(name, RATINGS)) for name in PAPER_TABLE_1)
    assert Counter(read("simlex999", RATINGS).subset) == {"adjective": 111, "noun": 666, "verb": 222}
    raw, with_full_stops = read("sickr", RATINGS), read("sickr-stop", RATINGS)
    assert all(text[-1] in string.punctuation for text in with_full_stops.first)
    assert sum(text.endswith(".") for text in with_full_stops.first) > 4900
    assert [text.rstrip(".") for text in with_full_stops.first] == [text.rstrip(".") for text in raw.first]
    assert len(read("sickr-all", RATINGS)) == 9927
    assert raw.sha256 != with_full_stops.sha256
    assert [task.name for task in load_tasks("paper-table-1,rg65,stsb", RATINGS, 3)] == [*PAPER_TABLE_1, "rg65"]
    assert [len(task) for task in load_tasks(None, RATINGS, 5)] == [5] * 9


def test_own_file(pairs_file):
    pairs = read_file(pairs_file)
    assert pairs.texts == [(first, second) for first, second, _ in RATED_PAIRS]
    assert pairs.scores.tolist() == [score for *_, score in RATED_PAIRS]
    assert pairs.head(3).sha256 != pairs.sha256
    assert not pairs.is_complete


def test_byte_order_mark_is_ignored(tmp_path):
    """Spreadsheets and editors on Windows write one."""
    (tmp_path / "own.tsv").write_text("score\ttext1\ttext2\n1\tx\ty\n", encoding="utf-8-sig")
    assert read_file(tmp_path / "own.tsv").texts == [("x", "y")]
    (tmp_path / "texts").write_text("x\ny\n", encoding="utf-8-sig")
    assert read_groups(tmp_path / "texts") == [["x", "y"]]


def data_frame():
    rows = [{"text1": first, "text2": second, "score": score} for first, second, score in RATED_PAIRS]
    return SimpleNamespace(to_dict=lambda orient: {"records": rows}[orient])


def test_data_frames_are_read_like_files(pairs_file):
    assert from_dataframe(data_frame()).texts == read_file(pairs_file).texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no pairs"),
        ("text1\ttext2\tscore\n", "has no pairs"),
        ("text1\ttext2\tquality\na\tb\t1\n", "has no column 'score'; .* its columns 'text1', 'text2', 'quality'"),
        ("one\ttwo\tscore\na\tb\t1\n", "no known pair of columns of texts"),
        ("text1\ttext2\tscore\na\tb\thigh\n", "row 2: the score is 'high'; must be a number"),
        ("text1\ttext2\tscore\na\tb\tnan\n", "row 2: the score is 'nan'"),
        ("text1\ttext2\tscore\na\tb\t1\n \tb\t1\n", "row 3: text1 is blank"),
        ("text1\ttext2\tscore\na\tb\n", "row 2: 2 columns instead of 3; its header is separated by tabs"),
    ],
)
def test_invalid_files_are_refused(tmp_path, conjure_command, text, message):
    path = tmp_path / "invalid.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_file(path)
    code, out, err = conjure_command("bench", "--data", path, "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_datasets_that_differ_from_their_declaration_are_refused(tmp_path):
    (tmp_path / "rg65.tsv").write_text("word1\tword2\tscore\ngem\tjewel\t3.9\n")
    with pytest.raises(InputError, match="has 1 pairs of RG65 instead of 65; download it again"):
        read("rg65", tmp_path)
    (tmp_path / "rg65.tsv").write_text("word1\tword2\tscore\ngem\tjewel\t9\n")
    with pytest.raises(InputError, match="must be a number from 0 to 4"):
        read("rg65", tmp_path)
    with pytest.raises(InputError, match=r"simlex999.tsv' cannot be read"):
        read("simlex999", tmp_path)
    (tmp_path / "stsb.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t1\n")
    with pytest.raises(InputError, match="no column 'split'"):
        read("stsb", tmp_path)
    with pytest.raises(InputError, match="unknown task 'nope'; must be one of sts12"):
        read("nope", tmp_path)
    with pytest.raises(InputError, match="RG65 .* is not on the Hub"):
        read("rg65")


def test_subsets_that_differ_from_their_declaration_are_refused(tmp_path):
    rows = "".join(f"a{i}\tb{i}\t1\tnoun\n" for i in range(999))
    (tmp_path / "simlex999.tsv").write_text(f"word1\tword2\tscore\tpos\n{rows}")
    with pytest.raises(InputError, match="has subsets {'noun': 999} of SimLex-999 instead of"):
        read("simlex999", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "/no/such/place"), "neither a file of pairs nor a folder of datasets"),
        (("--tasks", "stsb,nope", "--data", "."), "cannot be read"),
        (("--tasks", ",", "--data", "."), "no task is given"),
        (("--max-pairs", 2, "--data", "."), "max_pairs is 2; must be an integer >= 3"),
        (("--tasks", "rg65"), "not on the Hub in this form"),
    ],
)
def test_invalid_arguments_are_refused(conjure_command, arguments, message):
    code, out, err = conjure_command("bench", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_datasets_from_the_hub(monkeypatch):
    """They are read at the pinned revision and checked like any other."""
    requests = []

    def load_dataset(name, revision, split):
        requests.append((name, revision, split))
        return [{"sentence1": f"text {i}", "sentence2": "other", "score": float(i % 6)} for i in range(1379)]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(read("stsb")) == 1379
    assert requests == [("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", "test")]
    with pytest.raises(InputError, match="has 1379 pairs of STS12 instead of 3108"):
        read("sts12")

    def fail(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(InputError, match="cannot be downloaded from the Hub: no network.*--data"):
        read("stsb")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="need the package datasets"):
        read("stsb")


def test_old_name_of_from_dataframe(pairs_file):
    with pytest.warns(DeprecationWarning, match="of_frame was renamed to from_dataframe"):
        pairs = of_frame(data_frame())
    assert pairs.texts == read_file(pairs_file).texts


@needs_data
def test_old_name_of_the_datasets_of_table_1():
    with pytest.warns(DeprecationWarning, match="--tasks seven was renamed to --tasks paper-table-1"):
        tasks = load_tasks("seven", RATINGS, 3)
    assert [task.name for task in tasks] == list(PAPER_TABLE_1)


@pytest.mark.parametrize(("old", "new"), [("part", "subset"), ("is_whole", "is_complete")])
def test_old_names_of_attributes(pairs_file, old, new):
    pairs = read_file(pairs_file)
    with pytest.warns(DeprecationWarning, match=f"Pairs.{old} was renamed to Pairs.{new}"):
        assert getattr(pairs, old) == getattr(pairs, new)

"""The columns of texts and scores are recognized or chosen, and never guessed."""

from __future__ import annotations

import pytest

from conjure import InputError
from conjure.evaluation.columns import find_columns, parse_columns
from conjure.evaluation.datasets import from_dataframe, load_tasks, read_file


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("pair_ID", "sentence_A", "sentence_B", "score"), ("sentence_A", "sentence_B", "score")),
        (("pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"),
         ("sentence_A", "sentence_B", "relatedness_score")),
        (("Unnamed: 0", "text1", "text2", "score"), ("text1", "text2", "score")),
        (("", "sentence_2", "sentence_1", "rating"), ("sentence_1", "sentence_2", "rating")),
        (("Word 1", "Word 2", "Human (mean)"), ("Word 1", "Word 2", "Human (mean)")),
        (("premise", "hypothesis", "score"), ("premise", "hypothesis", "score")),
        (("sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label")),
        (("s1", "s2", "similarity"), ("s1", "s2", "similarity")),
        (("score", "QUESTION1", "QUESTION2"), ("QUESTION1", "QUESTION2", "score")),
        (("word1", "word2", "POS", "SimLex999", "conc(w1)"), ("word1", "word2", "SimLex999")),
    ],
)  # fmt: skip
def test_known_names(names, columns):
    assert find_columns(names, "x") == columns


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("one", "two", "score"), "'x' has no known pair .*its columns 'one', 'two', 'score'"),
        (("text1", "sentence2", "score"), "no known pair"),
        (("text1", "text2", "word1", "word2", "score"), "several pairs .*'text1' and 'text2'; 'word1' and 'word2'"),
        (("text1", "Text_1", "text2", "score"), "several pairs"),
        (("text1", "text2"), "no column 'score'"),
        (("text1", "text2", "score", "label"), "several columns of scores"),
        (("Premise", "hypothesis", "label"), "'label' of premise and hypothesis, which may be numbers of classes; choose by"),
        (("premise", "hypothesis", "gold_label"), "may be numbers of classes"),
        ((), "columns none"),
    ],
)
def test_ambiguous_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        find_columns(names, "x")


def test_chosen_columns(tmp_path, conjure_command):
    path = tmp_path / "x.csv"
    path.write_text("id,text1,text2,other,score,label\nu,a,b,c,1,9\nv,d,e,f,2,8\nw,g,h,i,3,7\n")
    pairs = read_file(path, columns=("text2", "other", "label"))
    assert (pairs.texts, pairs.scores.tolist()) == ([("b", "c"), ("e", "f"), ("h", "i")], [9, 8, 7])
    (task,) = load_tasks(None, path, None, "text2, other ,label")
    assert task.sha256 == pairs.sha256
    assert from_dataframe(Records([{"x": "a", "y": "b", 3: 1.0}]), columns=("x", "y", "3")).texts == [("a", "b")]
    code, out, err = conjure_command("bench", "--data", path, "--columns", "text1,text2,nope", "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has no column 'nope'; its columns are 'id', 'text1'" in err


class Records:
    """A data frame with the method of polars."""

    def __init__(self, rows):
        self.rows = rows

    def to_dicts(self):
        return self.rows


@pytest.mark.parametrize("columns", ["text1,text2", "text1,text2,", "a,b,c,d", ""])
def test_invalid_choices_are_refused(columns):
    with pytest.raises(InputError, match="must be two columns of texts and one of scores"):
        parse_columns(columns)
    with pytest.raises(InputError, match="must be three different names"):
        find_columns(("text1", "text2", "score"), "x", ("text1", "text1", "score"))


def test_columns_belong_to_a_single_file(tmp_path):
    with pytest.raises(InputError, match="columns can only be chosen for a single file"):
        load_tasks("rg65", tmp_path, None, "a,b,c")

"""The report escapes texts, names what was measured, and prints figures of the paper beside complete datasets only."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pyarrow import parquet

from conjure.baselines.registry import make_baselines
from conjure.evaluation.datasets import read, read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.report import format_interval, markdown, mean_of_table_1
from conjure.evaluation.report_page import html_page
from rated_pairs import RATINGS, numbered_pairs, write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture
def pairs_file(tmp_path):
    return write_pairs(tmp_path / "own.tsv")


def test_report_escapes_texts(fast_process, pairs_file):
    pairs = replace(read_file(pairs_file), title="<b>a|b</b>")
    evaluation = evaluate(fast_process, [pairs], samples=2)
    assert "| \\<b\\>a\\|b\\</b\\> | 8 |" in markdown(evaluation)
    assert '<td>&lt;b&gt;a|b&lt;/b&gt;</td><td class="number">8</td>' in html_page(evaluation)
    assert "http" not in html_page(evaluation)


def test_tables_of_pairs_are_optional(fast_process, pairs_file):
    evaluation = evaluate(fast_process, [read_file(pairs_file)])
    assert "model minus human percentile" in markdown(evaluation)
    assert "model minus human percentile" not in markdown(evaluation, pairs=False)
    assert ("Bias is" in markdown(evaluation), "Bias is" in markdown(evaluation, pairs=False)) == (True, False)


def test_kinds_of_pairs_are_compared_with_the_encoder_where_it_was_measured(default_process, tmp_path):
    rows = [(first, f"{second} too" if i % 2 else second, score) for i, (first, second, score) in enumerate(numbered_pairs(24))]
    pairs, process = read_file(write_pairs(tmp_path / "own.tsv", rows)), default_process.set(steps=1)
    evaluations = [evaluate(process, [pairs], baselines=make_baselines(names, process)) for names in ((), ("encoder",))]
    (kinds_without, kinds_with) = (evaluation.summary()["tasks"]["own"]["groups"] for evaluation in evaluations)
    assert [group | {"encoder": None} for group in kinds_with] == kinds_without
    column = "process minus encoder"
    assert [column in markdown(evaluation) for evaluation in evaluations] == [False, True]
    assert [column in html_page(evaluation) for evaluation in evaluations] == [False, True]
    change = kinds_with[0]["encoder"]["difference"]
    cells = (f"{kinds_with[0]['encoder']['spearman']:.1f}", f"{change['spearman']:+.1f}", format_interval(change["ci95"]))
    assert f"| {' | '.join(cells)} |" in markdown(evaluations[1])


@pytest.mark.skipif(not RATINGS.is_dir(), reason=f"the human ratings are not available in {RATINGS}")
def test_figures_of_the_paper_are_printed_beside_complete_datasets_only(default_process):
    rg65, process = read("rg65", RATINGS), default_process.set(steps=1)
    assert "60.2" in markdown(evaluate(process, [rg65]))
    assert "60.2" not in markdown(evaluate(process, [rg65.head(4)]))


def test_report_names_what_was_measured(conjure_command, pairs_file, tmp_path):
    """Summary, report, table and notes for the Hub name the measure, so that two measures are not confused."""
    arguments = ("bench", "--data", pairs_file, "--steps", 2, "--divergence", "final", "--out", tmp_path / "run")
    code, out, _ = conjure_command(*arguments, "--json")
    assert code == 0
    assert json.loads(out)["measure"] == {
        "divergence": "final", "weighting": "uniform", "reduction": "sum", "unit": "squared norm of noise"
    }  # fmt: skip
    assert "final, uniform, squared norm of noise" in (tmp_path / "run" / "report.md").read_text()
    assert parquet.read_schema(tmp_path / "run" / "own.parquet").metadata[b"divergence"] == b"final"


def test_mean_of_table_1():
    correlations = dict(zip(("stsb", "sts12", "sts13", "sts14", "sts15", "sts16", "sickr"), range(10, 80, 10), strict=True))
    tasks = {
        name: {"is_complete": True, "pairs": pairs, "spearman": value, "baselines": {"encoder": {"spearman": value / 2}}}
        for pairs, (name, value) in enumerate(correlations.items(), 1)
    }
    assert mean_of_table_1(tasks) == (40, 50)
    assert mean_of_table_1(tasks, "baselines", "encoder") == (20, 25)
    assert mean_of_table_1(tasks, "baselines", "random") is None
    assert mean_of_table_1({name: tasks[name] for name in list(tasks)[1:]}) is None
    assert mean_of_table_1(tasks | {"stsb": tasks["stsb"] | {"is_complete": False}}) is None


def test_format_interval():
    assert format_interval([-1.25, 2.0]) == "-1.2 to 2.0"
    assert format_interval(None) == ""

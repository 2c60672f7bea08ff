"""Files for the Hub are in its own formats, for complete datasets that are on the Hub."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from conjure.evaluation.datasets import TASKS, read_file
from conjure.evaluation.evaluate import evaluate
from rated_pairs import write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


def test_hub_files(fast_process, monkeypatch, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "own.tsv"))
    spec = replace(TASKS["stsb"], pairs=len(pairs))
    assert spec.hub is not None
    monkeypatch.setitem(TASKS, "stsb", spec)
    folder = tmp_path / "run" / "hub"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / ".eval_results" / "sts12.yaml").write_text("of an earlier run")
    complete = replace(pairs, name="stsb", revision=spec.hub.revision, dataset_size=len(pairs))
    evaluation = evaluate(fast_process, [complete, pairs, replace(pairs, name="sts13")], out=tmp_path / "run")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")} == {".eval_results/stsb.yaml", "model-index.yaml"}
    (entry,) = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results" / "stsb.yaml").read_text()))
    assert (entry.dataset_id, entry.dataset_revision) == (spec.hub.name, spec.hub.revision)
    assert entry.value == round(evaluation.summary()["tasks"]["stsb"]["spearman"], 2)
    assert "T = 2" in str(entry.notes)
    name, (result,) = model_index_to_eval_results(yaml.safe_load((folder / "model-index.yaml").read_text())["model-index"])
    assert (name, result.dataset_type, result.dataset_split) == ("default", spec.hub.name, "test")
    assert result.metric_value == entry.value

    evaluate(fast_process, [replace(complete, revision="folder")], out=tmp_path / "run")  # the version of the data is unknown
    assert "revision" not in (folder / ".eval_results" / "stsb.yaml").read_text()

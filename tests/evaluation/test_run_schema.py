"""Files of a run that were changed, or that contain values of other types, are refused in one line."""

from __future__ import annotations

import json
import math
import os
import shutil
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import compute, parquet
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError
from conjure.evaluation.comparison import generate_images
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.run_folder import load_run, process_from_settings
from lora_files import random_lora, save_kohya
from rated_pairs import write_pairs

TEXTS = ("puppy", "poodle", "shark", "red apple", "green apple")
ROWS = [(a, b, float((3 * i + 5 * j) % 11)) for i, a in enumerate(TEXTS) for j, b in enumerate(TEXTS) if i < j]


@pytest.fixture(scope="module")
def runs(default_process, tmp_path_factory):
    """The folder of two runs: `2` with two steps, and `3` with three steps of the same pairs in another order."""
    folder = tmp_path_factory.mktemp("runs")
    for steps, rows in (2, ROWS), (3, ROWS[::-1]):
        pairs = read_file(write_pairs(folder / "own.tsv", rows))
        evaluate(default_process.set(steps=steps), [pairs], samples=2, out=folder / str(steps))
    return folder


@pytest.fixture
def changed(runs, tmp_path):
    """A copy of a run, whose files a test changes."""
    return shutil.copytree(runs / "2", tmp_path / "changed")


def error_of(conjure_command, *folders):
    code, out, err = conjure_command("diff", *folders)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err


def replace_column(folder, name, values):
    path = folder / "own.parquet"
    table = parquet.read_table(path)
    index = table.column_names.index(name)
    parquet.write_table(table.set_column(index, name, values), path)


def test_pairs_are_matched_by_their_texts(runs, default_process, tmp_path):
    """The numbers are those of two runs in the same order."""
    evaluate(default_process.set(steps=3), [read_file(write_pairs(tmp_path / "own.tsv", ROWS))], samples=2, out=tmp_path / "3")
    other_order, same_order = (conjure.diff(runs / "2", folder).tasks["own"] for folder in (runs / "3", tmp_path / "3"))
    assert other_order.difference.spearman == pytest.approx(same_order.difference.spearman)
    assert other_order.difference.rank_correlation == pytest.approx(same_order.difference.rank_correlation)
    assert [change.texts for change in other_order.rank_changes] == [change.texts for change in same_order.rank_changes]


def test_equal_pairs_are_matched_in_order(default_process, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "own.tsv", [*ROWS, ROWS[0]]))
    for name in ("a", "b"):
        evaluate(default_process.set(steps=1), [pairs], out=tmp_path / name)
    assert conjure.diff(tmp_path / "a", tmp_path / "b").tasks["own"].pairs == len(ROWS) + 1


def test_other_rows_are_refused(conjure_command, runs, changed):
    """The rows in reverse order, other texts, ratings or distances."""
    path = changed / "own.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.take(list(range(len(table)))[::-1]), path)
    assert "own.parquet has other pairs than the run" in error_of(conjure_command, changed, runs / "3")
    for name, values in {
        "text1": pyarrow.array([f"text {i}" for i in range(len(table))]),
        "score": compute.add(table["score"], 1),
        "part": pyarrow.array(["a"] * len(table)),
    }.items():
        parquet.write_table(table, path)
        replace_column(changed, name, values)
        assert "own.parquet has other pairs than the run" in error_of(conjure_command, changed, runs / "3")
    parquet.write_table(table, path)
    replace_column(changed, "samples", pyarrow.array(table["samples"].to_pylist()[::-1]))
    assert "own.parquet has other distances than the run" in error_of(conjure_command, changed, runs / "3")
    parquet.write_table(table.slice(1), path)
    assert "own.parquet has other pairs than the run" in error_of(conjure_command, changed, runs / "3")
    parquet.write_table(table, path)
    assert conjure_command("diff", changed, runs / "3", "--json")[0] == 0


def test_a_run_without_a_hash_of_distances_is_read(changed):
    """As written by earlier versions."""
    path = changed / "summary.json"
    summary = json.loads(path.read_text())
    del summary["tasks"]["own"]["distances_sha256"]
    path.write_text(json.dumps(summary))
    assert len(load_run(changed).tables["own"].columns["samples"]) == len(ROWS)


@pytest.mark.parametrize(
    ("name", "make_values"),
    [
        ("text1", lambda column: pyarrow.array([None, *column[1:]])),
        ("text1", lambda column: pyarrow.array([1] * len(column))),
        ("score", lambda column: pyarrow.array([math.nan, *column[1:]])),
        ("score", lambda column: pyarrow.array([None, *column[1:]])),
        ("score", lambda column: pyarrow.array(["1"] * len(column))),
        ("score", lambda column: pyarrow.array([1] * len(column))),
        ("part", lambda column: pyarrow.array([3] * len(column))),
        ("samples", lambda column: pyarrow.array([[1.0], *column[1:]])),
        ("samples", lambda column: pyarrow.array([[1.0, math.nan], *column[1:]])),
        ("samples", lambda column: pyarrow.array([[1.0, None], *column[1:]])),
        ("samples", lambda column: pyarrow.array([None, *column[1:]])),
        ("samples", lambda column: pyarrow.array([1.0] * len(column))),
        ("samples", lambda column: pyarrow.array([["a", "b"]] * len(column))),
    ],
)
def test_columns_of_other_values_are_refused(conjure_command, runs, changed, name, make_values):
    column = parquet.read_table(changed / "own.parquet")[name].to_pylist()
    replace_column(changed, name, make_values(column))
    assert "contains no finished run (own.parquet " in error_of(conjure_command, changed, runs / "3")


def test_other_tables_are_refused(conjure_command, runs, changed):
    path = changed / "own.parquet"
    table = parquet.read_table(path)
    for other in (table.drop_columns("score"), table.append_column("score", table["score"]), table.slice(0, 0)):
        parquet.write_table(other, path)
        assert "contains no finished run (own.parquet " in error_of(conjure_command, runs / "3", changed)
    path.write_bytes(b"no table")
    assert "contains no finished run (own.parquet cannot be read: " in error_of(conjure_command, runs / "3", changed)
    path.unlink()
    assert "contains no finished run (own.parquet cannot be read: " in error_of(conjure_command, runs / "3", changed)
    os.mkfifo(path)  # without a writer, it would block
    assert "contains no finished run (own.parquet is not a regular file)" in error_of(conjure_command, runs / "3", changed)


CHANGES: dict[str, list[Any]] = {
    "tasks": [
        [],
        {},
        3,
        None,
        {"own": []},
        {"own": {}},
        {"own": {"title": 3, "data": "0"}},
        {"../own": {"title": "", "data": ""}},
    ],
    "process": [[], None, "x", {}],
    "fingerprint": [3, None, []],
    "samples": [0, 1.5, True, "1", None, 2**70],
    "seed": [-1, "0", None],
    "measure": [[], None],
}
PROCESS_CHANGES: dict[str, list[Any]] = {
    "model": [3, None],
    "revision": [3],
    "steps": [0, "2", math.nan, None, True],
    "guidance": ["3", math.nan, []],
    "default_unit": ["miles", None, []],
    "scheduler_config": [[], None],
    "pipeline_kwargs": [[]],
    "batch_prompts": [1],
    "dtype": [None],
    "variant": [1],
    "lora": [
        None,
        {},
        ["x"],
        [{"name": "x"}],
        [{"name": "x", "weight": "1", "sha256": ""}],
        [{"name": 1, "weight": 1, "sha256": ""}],
    ],
    "textual_inversion": [None, [{"name": "x", "token": None, "sha256": ""}]],
    "quantize": [8],
    "offload": [True],
}


@pytest.mark.parametrize(
    ("key", "value", "is_process"),
    [(key, value, False) for key, values in CHANGES.items() for value in values]
    + [(key, value, True) for key, values in PROCESS_CHANGES.items() for value in values],
)
def test_other_values_in_the_summary_are_refused(changed, key, value, is_process):
    path = changed / "summary.json"
    summary = json.loads(path.read_text())
    (summary["process"] if is_process else summary)[key] = value
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"^[^\n]* contains no finished run \([^\n]*\); give a folder that conjure bench wrote$"):
        load_run(changed)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, '{"tasks": {"a\\u0000b": {}}}', "\ud800"])
def test_other_json_is_refused(conjure_command, runs, changed, content):
    (changed / "summary.json").write_bytes(content.encode(errors="surrogatepass"))
    assert "contains no finished run (" in error_of(conjure_command, changed, runs / "3")


@pytest.mark.parametrize("key", ["tasks", "process"])
@pytest.mark.parametrize("value", [[], 3, None, {"own": []}, {"own": {"groups": 3}}, {"own": {"baselines": {"b": {}}}}])
def test_old_summaries_of_another_form_are_refused(changed, key, value):
    path = changed / "summary.json"
    summary = json.loads(path.read_text())
    summary |= {"identity": summary["fingerprint"], key: value}
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"^[^\n]* contains no finished run"):
        load_run(changed)


def test_the_process_of_a_run_is_restored(default_process, runs):
    """With its scheduler, its arguments of the pipeline and its batches, from plain data."""
    for process in (
        default_process.set(scheduler="lms", steps=2),
        default_process.set(scheduler="ddim", steps=3, guidance=2.0),
        default_process.set(scheduler="own", batch_prompts=False, pipeline_kwargs={"eta": 0.5}),
    ):
        process.scheduler.register_to_config(steps_offset=1)  # a setting that no name of a scheduler gives
        settings = json.loads(json.dumps(process.settings()))
        restored = process_from_settings(settings, process.fingerprint())
        assert restored.settings() == process.settings()
    settings["scheduler"] = "nope"
    with pytest.raises(InputError, match="unknown scheduler 'nope' for this model"):
        process_from_settings(settings, "")
    settings |= {"scheduler": "ddim", "scheduler_config": {"num_train_timesteps": "x"}}
    with pytest.raises(InputError, match="the scheduler 'ddim' cannot be made from its stored configuration"):
        process_from_settings(settings, "")


def test_the_changed_weights_of_a_run_are_restored(tiny_sd, tmp_path, monkeypatch):
    """A LoRA is recorded by its name and its content."""
    (tmp_path / "loras").mkdir()
    lora = save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path / "loras" / "style.safetensors")
    process = conjure.load(
        tiny_sd, steps=2, lora=f"{lora}:0.5", quantize="int8", negative_prompt="rain", height=64, width=64, device="cpu"
    )
    settings, fingerprint = json.loads(json.dumps(process.settings())), process.fingerprint()
    assert process_from_settings(settings, fingerprint).settings() == process.settings()
    # offloading is left out where the CPU computes, since it changes no number
    assert process_from_settings(settings | {"offload": "model"}, fingerprint, "cpu").load_options.offload is None
    earlier = {name: value for name, value in settings.items() if name not in ("lora", "quantize")}
    with pytest.raises(InputError, match="is not the one of the run, because its fingerprint has changed"):
        process_from_settings(earlier, fingerprint)
    save_file({name: -tensor for name, tensor in load_file(lora).items()}, lora)
    with pytest.raises(InputError, match=r"^the file of the LoRA '.*style\.safetensors' has changed: [^\n]*$"):
        process_from_settings(settings, fingerprint)
    lora.unlink()
    with pytest.raises(InputError, match=r"^the LoRA '.*style\.safetensors' is neither a file, [^\n]*$"):
        process_from_settings(settings, fingerprint)


def test_images_are_generated_with_the_stored_scheduler(runs):
    assert np.size(list(generate_images(conjure.diff(runs / "2", runs / "3"), 1)))

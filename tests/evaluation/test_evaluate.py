"""An evaluation gives the distances of `conjure.distance`, never computes a stored result again, and reports what it excludes."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from scipy import stats

import conjure
from conjure import InputError
from conjure.baselines.base import Cosine, RandomDistances
from conjure.diffusion.jobs import TrajectoryJob
from conjure.engine.forecast import Forecast, forecast
from conjure.engine.runner import iter_results
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.report import markdown
from conjure.evaluation.run_schema import distances_hash
from rated_pairs import NUM_TEXTS, RATED_PAIRS, write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture
def pairs_file(tmp_path):
    return write_pairs(tmp_path / "own.tsv")


def test_bench_command(conjure_command, pairs_file, tmp_path, fast_process):
    folder = tmp_path / "run"
    code, out, err = conjure_command("bench", "--data", pairs_file, "--out", folder, "--steps", 2, "--samples", 2, "--json")
    summary = json.loads(out)
    task = summary["tasks"]["own"]
    assert code == 0
    assert {"spearman", "ci95", "pairs", "reliability"} <= set(task)
    num_jobs = 2 * NUM_TEXTS  # a text of several pairs has one trajectory per sample
    assert f"8 pairs, {num_jobs} of {num_jobs} trajectories to run" in err
    rows = parquet.read_table(folder / "own.parquet").to_pylist()
    written = json.loads((folder / "summary.json").read_text())
    samples = np.array([row["samples"] for row in rows])
    assert written["tasks"]["own"].pop("distances_sha256") == distances_hash(samples)  # protects the table beside it
    assert written == summary
    scores = [score for *_, score in RATED_PAIRS]
    assert [(row["text1"], row["text2"], row["score"]) for row in rows] == RATED_PAIRS
    assert task["spearman"] == pytest.approx(
        100 * stats.spearmanr([-row["distance"] for row in rows], scores).statistic, abs=0.01
    )
    for row in (rows[0], rows[7]):
        estimate = conjure.distance(fast_process, row["text1"], row["text2"], samples=2)
        assert row["distance"] == pytest.approx(estimate.distance, rel=1e-5)
        assert row["stderr"] == pytest.approx(estimate.stderr, rel=1e-3)
        assert (row["forward"], row["backward"]) == pytest.approx((estimate.forward, estimate.backward), rel=1e-5)
        assert row["per_step"] == pytest.approx(estimate.per_step, rel=1e-4)
        assert row["samples"] == pytest.approx(estimate.samples, rel=1e-5)
    for divergence in ("kl", "initial", "final", "direct"):
        texts = [(first, second) for first, second, _ in RATED_PAIRS]
        estimates = conjure.distances(fast_process, texts, samples=2, divergence=divergence)
        expected = stats.spearmanr([-estimate.distance for estimate in estimates], scores).statistic
        assert task["divergences"][divergence]["spearman"] == pytest.approx(100 * expected, abs=0.01)
    code, out, _ = conjure_command("bench", "--data", pairs_file, "--out", folder, "--steps", 2, "--samples", 2)
    assert (code, "own" in out, "Spearman" in out) == (0, True, True)
    html = (folder / "report.html").read_text()
    assert html.startswith("<!doctype html>")
    assert ("Bias is" in out, "Bias is" in html) == (False, True)  # the note is printed with its table only


def test_names_in_the_summary(fast_process, pairs_file):
    """Other programs read these keys: they are words in snake_case."""
    summary = evaluate(fast_process, [read_file(pairs_file)], samples=2, baselines=[RandomDistances()]).summary()
    assert set(summary) == {
        "tasks", "measure", "samples", "seed", "antithetic", "process", "fingerprint", "version", "non_finite_texts", "notes"
    }  # fmt: skip
    task = summary["tasks"]["own"]
    assert set(task) == {
        "title", "data", "is_complete", "num_excluded", "spearman", "ci95", "pearson", "p", "pairs", "reliability", "ceiling",
        "divergences", "parts", "mean_of_parts", "weighted_mean_of_parts", "baselines", "groups", "floors"
    }  # fmt: skip
    assert set(task["baselines"]["random"]["difference"]) == {"spearman", "ci95", "p", "rank_correlation"}


@pytest.fixture
def overflowing_process(tiny_sd):
    """A process whose predictions are NaN for texts that contain @."""
    process = conjure.load(tiny_sd, steps=2)
    token = process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

    def overflow(_, inputs, output):
        output[0][(inputs[0] == token).any(1)] = torch.nan

    process.pipeline.text_encoder.register_forward_hook(overflow)
    return process


@pytest.mark.parametrize("with_store", [False, True])
def test_pairs_with_non_finite_predictions_are_excluded(overflowing_process, pairs_file, tmp_path, with_store):
    """The texts are named, and the other pairs have the same results as without these texts."""
    finite_pairs = read_file(pairs_file)
    pairs_file.write_text(pairs_file.read_text() + "puppy\tno @ number\t4\nno @ number\tan @\t3\nshark\tan @\t2\n")
    process = overflowing_process.set(store=conjure.Store(tmp_path / "store.sqlite") if with_store else None)
    evaluation = evaluate(process, [read_file(pairs_file)], samples=2, baselines=[RandomDistances()])
    assert evaluation.non_finite_texts == ("an @", "no @ number")
    expected = evaluate(process, [finite_pairs], samples=2, baselines=[RandomDistances()]).tasks["own"]
    result = evaluation.tasks["own"]
    assert (result.num_excluded, expected.num_excluded, len(result.pairs)) == (3, 0, len(finite_pairs))
    np.testing.assert_allclose(result.distances, expected.distances, rtol=1e-5)
    assert result.baselines["random"].agreement == expected.baselines["random"].agreement
    with pytest.raises(InputError, match="not finite for 1 text: 'no @ number'; use a smaller"):
        conjure.distance(process, "no @ number", "puppy", samples=2)
    pairs_file.write_text("text1\ttext2\tscore\npuppy\tan @\t1\nshark\tan @\t2\npuppy\tshark\t3\n")
    with pytest.raises(InputError, match="for 1 text: 'an @'; without them, in own: a rank correlation of 1 pairs"):
        evaluate(process, [read_file(pairs_file)])


def test_commands_report_non_finite_predictions(overflowing_process, pairs_file, tmp_path, monkeypatch, conjure_command):
    pairs_file.write_text(pairs_file.read_text() + "puppy\tan @\t4\n")
    monkeypatch.setattr(conjure, "load", lambda *_, **__: overflowing_process)
    code, out, err = conjure_command("bench", "--data", pairs_file, "--out", tmp_path / "run")
    report = (tmp_path / "run" / "report.md").read_text()
    assert (code, "| own | 8 |" in report) == (1, True)
    assert "not finite for 1 text: 'an @'" in err
    non_finite, few_pairs = json.loads((tmp_path / "run" / "summary.json").read_text())["notes"]
    assert non_finite.endswith("excluded because of these: 1 pair")
    assert "only" in few_pairs
    assert non_finite in report
    assert few_pairs in report
    assert "8" in out
    code, _, err = conjure_command("ablate", "--data", pairs_file, "--vary", "guidance=1", "--out", tmp_path / "ablation")
    assert (code, "not finite for 1 text: 'an @'" in err) == (1, True)


def test_tasks_that_cannot_be_evaluated_are_refused(fast_process, pairs_file):
    pairs = read_file(pairs_file)
    with pytest.raises(InputError, match="two tasks have the name 'own'; give different names"):
        evaluate(fast_process, [pairs, pairs.head(4)])
    with pytest.raises(InputError, match="no task is given"):
        evaluate(fast_process, [])
    with pytest.raises(InputError, match="all scores are 3"):
        evaluate(fast_process, [replace(pairs, scores=np.full(8, 3.0))], on_start=pytest.fail)  # before anything is computed


def test_subset_with_equal_ratings_is_left_out(fast_process, pairs_file):
    pairs = replace(read_file(pairs_file), scores=np.array([5.0, 5, 5, 1, 2, 3, 4, 5]), subset=tuple("xxxyyyyy"))
    assert set(evaluate(fast_process, [pairs]).tasks["own"].subsets) == {"y"}


def test_baselines_of_a_run(conjure_command, pairs_file, tmp_path):
    """They are in every table, stored like the results of the process, and compared with it pair by pair."""
    arguments = (
        "bench",
        "--data",
        pairs_file,
        "--out",
        tmp_path / "run",
        "--steps",
        2,
        "--baseline",
        "encoder",
        "--baseline",
        "random",
    )
    code, out, err = conjure_command(*arguments, "--json")
    assert (code, "baseline encoder: 8 of 8 pairs" in err) == (0, True)
    task = json.loads(out)["tasks"]["own"]
    rows = parquet.read_table(tmp_path / "run" / "own.parquet").to_pylist()
    scores = [row["score"] for row in rows]
    for name in ("encoder", "random"):
        expected = stats.spearmanr([-row[f"baseline_{name}"] for row in rows], scores).statistic
        difference = task["baselines"][name]["difference"]
        assert task["baselines"][name]["spearman"] == pytest.approx(100 * expected, abs=0.01)
        assert difference["spearman"] == pytest.approx(task["spearman"] - task["baselines"][name]["spearman"], abs=0.02)
        assert difference["ci95"][0] <= difference["spearman"] <= difference["ci95"][1]
    code, out, err = conjure_command(*arguments)
    assert (code, "baseline encoder:" in err, "Baselines" in out) == (0, False, True)


def test_baselines_are_resumed(fast_process, pairs_file, tmp_path):
    embedded = []

    def embed(texts):
        embedded.extend(texts)
        return np.stack([np.random.default_rng(len(text)).normal(size=3) for text in texts])

    pairs = read_file(pairs_file)
    for _ in range(2):
        evaluate(fast_process, [pairs.head(4)], baselines=[Cosine("letters", {}, embed)], out=tmp_path / "run")
    num_first = len(embedded)
    result = evaluate(fast_process, [pairs], baselines=[Cosine("letters", {}, embed)], out=tmp_path / "run").tasks["own"]
    remaining = {text for pair in pairs.texts[4:] for text in pair}
    assert (num_first, set(embedded[num_first:])) == (len({text for pair in pairs.texts[:4] for text in pair}), remaining)
    np.testing.assert_allclose(result.baselines["letters"].distances, Cosine("letters", {}, embed).distances(pairs.texts))
    other_weights = Cosine("letters", {"weights": "another"}, embed)
    embedded.clear()
    evaluate(fast_process, [pairs], baselines=[other_weights], out=tmp_path / "run")
    assert embedded


def test_a_baseline_that_cannot_be_computed_is_named(fast_process, pairs_file):
    """Models that can be loaded may have weights or settings that do not work."""

    def embed(texts):
        raise IndexError("index out of range in self")

    with pytest.raises(InputError, match=r"the baseline 'broken' has no distances: IndexError: index out of range"):
        evaluate(fast_process, [read_file(pairs_file)], baselines=[Cosine("broken", {}, embed)])


def test_baseline_that_saturates(fast_process, pairs_file):
    constant = Cosine("constant", {}, lambda texts: np.ones((len(texts), 2)))
    evaluation = evaluate(fast_process, [read_file(pairs_file)], baselines=[constant, RandomDistances()])
    assert evaluation.tasks["own"].baselines["constant"].agreement is None
    assert "| own | constant | all 0 |" in markdown(evaluation).replace("2.22e-16", "0")
    assert evaluation.summary()["tasks"]["own"]["baselines"]["constant"]["spearman"] is None


def test_forecast_where_rows_run_alone_or_fewer_steps_cannot_run(tiny_sd, monkeypatch):
    """Steps of rows that run alone are reported at the end, in no time. Some arguments fit to one number of steps."""
    process = conjure.load(tiny_sd, steps=30).set(batch_prompts=False, batch_size=2)
    jobs = [TrajectoryJob(f"text {i}", 0, ("b",)) for i in range(8)]
    now = itertools.count()  # seconds; the last three calls are those of the reported steps

    def results(short, batch, progress):
        monkeypatch.setattr(time, "perf_counter", lambda: 30.0 + 1e-6 * next(now))
        for _ in range(short.steps):
            progress(0, 0)
        return [SimpleNamespace(final_latent=torch.zeros(4))]

    monkeypatch.setattr("conjure.engine.forecast.iter_results", results)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    prediction = forecast(process, jobs)
    assert prediction is not None
    assert prediction.seconds == pytest.approx(8 * 30 * 30 / 3, rel=1e-3)
    monkeypatch.undo()
    assert forecast(process.set(pipeline_kwargs={"timesteps": list(range(900, 0, -30))}), jobs) is None


def test_forecast(fast_process):
    """It is within a factor of ten of the run time, from a small part of the jobs."""
    process = fast_process.set(steps=6, batch_size=12)  # four jobs per batch
    jobs = [TrajectoryJob(f"thing {i}", 1, (f"other {i}",)) for i in range(24)]
    list(iter_results(process, jobs[:4]))
    prediction = forecast(process, jobs)
    assert prediction is not None
    start = time.perf_counter()
    list(iter_results(process, jobs))
    assert 1 / 10 < prediction.seconds / (time.perf_counter() - start) < 10
    assert prediction.size == 24 * 16 * 8 * 8 * 4
    assert forecast(process, jobs[:3]) is None  # too few jobs for a forecast
    assert str(Forecast(30.0, 0)) == "about a minute"
    assert str(Forecast(9000.0, 36_000_000_000)) == "about 2.5 hours, 36.0 GB of latents"


def test_antithetic_noise_and_nats(fast_process, pairs_file):
    pairs = read_file(pairs_file)
    result = evaluate(fast_process, [pairs], samples=2, antithetic=True).tasks["own"]
    assert set(result.divergences) == {"jeffreys", "kl", "initial", "final"}
    estimate = conjure.distance(fast_process, *pairs.texts[1], samples=2, antithetic=True)
    assert result.distances[1].tolist() == pytest.approx(estimate.samples, rel=1e-5)
    nats = evaluate(fast_process, [pairs], weighting="girsanov").tasks["own"]
    assert set(nats.divergences) == {"jeffreys"}
    assert np.isnan(nats.reliability)
    assert nats.summary()["reliability"] is None


def test_unit_of_a_call_is_the_default_unit_of_another_process(fast_process, pairs_file):
    pairs = read_file(pairs_file)
    by_argument = evaluate(fast_process, [pairs], unit="x0")
    by_process = evaluate(fast_process.set(default_unit="x0"), [pairs])
    assert by_argument.tasks["own"].distances.tolist() == by_process.tasks["own"].distances.tolist()
    assert by_argument.measure_dict() == by_process.measure_dict()
    assert by_argument.measure_dict()["unit"] == "squared norm of x0"


def test_old_names(fast_process, pairs_file):
    plans: list[str] = []
    old_arguments: dict[str, Any] = {"started": plans.append}
    with pytest.warns(DeprecationWarning, match="'started' of evaluate\\(\\) was renamed to 'on_start'"):
        evaluation = evaluate(fast_process, [read_file(pairs_file)], baselines=[RandomDistances()], **old_arguments)
    assert plans
    result = evaluation.tasks["own"]
    for data, old, new in (
        (evaluation, "identity", "fingerprint"),
        (evaluation, "broken", "non_finite_texts"),
        (evaluation, "measure", "config"),
        (result, "measure", "config"),
        (result, "seen", "differences"),
        (result, "parts", "subsets"),
        (result, "left_out", "num_excluded"),
        (result.baselines["random"], "parts", "subsets"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old} was renamed to .*{new}"):
            assert getattr(data, old) is getattr(data, new)
    with pytest.warns(DeprecationWarning, match="told_measure was renamed to Evaluation.measure_dict"):
        assert evaluation.told_measure() == evaluation.measure_dict()

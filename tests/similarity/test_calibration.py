"""The calibration of a process: its pairs of texts, where it is kept, and the similarities that results have with it."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from dataclasses import replace
from types import SimpleNamespace
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.interfaces import ResultCache
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.diffusion.seeding import noise_seed
from conjure.divergence.divergences import DIVERGENCES, DivergenceConfig
from conjure.divergence.reference_scale import NO_SIMILARITY, UNCALIBRATED
from conjure.engine.runner import iter_result_batches
from conjure.engine.store_maintenance import prune, summarize, verify
from conjure.engine.store_repair import repair
from conjure.similarity import calibration
from conjure.similarity.calibration import calibrate, calibration_pairs, find_calibration, packaged_calibration
from rated_pairs import RATINGS

T = TypeVar("T")
PAIRS = {"unrelated": [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")], "paraphrases": [("a", "i"), ("c", "j")]}


@pytest.fixture
def few_pairs(monkeypatch):
    """Calibrate with six pairs, and forget calibrations of other tests."""
    monkeypatch.setattr(calibration, "calibration_pairs", lambda: PAIRS)
    monkeypatch.setattr(calibration, "_in_memory", {})


@pytest.fixture
def tiny_process(tiny_sd):
    return conjure.load(tiny_sd, steps=2, guidance=2)


def known(value: T | None) -> T:
    """Return a value that must not be None."""
    assert value is not None
    return value


def normalized(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def test_the_texts_are_distinct_and_of_the_stated_number():
    pairs = calibration_pairs()
    assert (len(pairs["unrelated"]), len(pairs["paraphrases"])) == (300, 100)
    unrelated = [text for pair in pairs["unrelated"] for text in pair]
    assert len({normalized(text) for text in unrelated}) == 600  # independent pairs
    rewritten = [second for _, second in pairs["paraphrases"]]
    assert len({normalized(text) for text in unrelated + rewritten}) == 700
    assert {first for first, _ in pairs["paraphrases"]} <= set(unrelated)
    assert all(2 <= len(text.split()) <= 12 for text in unrelated + rewritten)


@pytest.mark.skipif(not RATINGS.is_dir(), reason="no human ratings")
def test_no_text_occurs_in_a_dataset():
    rated = {
        normalized(field)
        for path in RATINGS.glob("*.tsv")
        for line in path.read_text(encoding="utf-8").splitlines()
        for field in line.split("\t")
    }
    assert len(rated) > 10_000
    texts = {normalized(text) for pairs in calibration_pairs().values() for pair in pairs for text in pair}
    assert not texts & rated


def test_a_calibration_has_the_distances_of_its_pairs(few_pairs, tiny_process, monkeypatch):
    """Every divergence is computed from one run. With the noise of `distances`, its distances are those of `distances`."""
    pairs = {"unrelated": [("a", "b"), ("c", "d")], "paraphrases": [("e", "f"), ("g", "h")]}
    monkeypatch.setattr(calibration, "calibration_pairs", lambda: pairs)
    monkeypatch.setattr(calibration, "derive_seed", lambda entropy: noise_seed(0, entropy[2]))
    result = calibrate(tiny_process)
    for divergence in DIVERGENCES:
        scale = result.scale(DivergenceConfig(divergence))
        expected = conjure.distances(tiny_process, pairs["paraphrases"], samples=calibration.SAMPLES, divergence=divergence)
        assert scale.paraphrases == pytest.approx([estimate.distance for estimate in expected], rel=1e-4)
        assert len(scale.unrelated) == 2
    assert result.scale(DivergenceConfig(weighting="girsanov")).unit == "nats"


def test_a_calibration_serves_every_unit(few_pairs, tiny_process, tmp_path):
    with contextlib.closing(conjure.Store(tmp_path / "store")) as store:
        process = tiny_process.set(store=store)
        scales = []
        for unit in ("epsilon", "score"):
            calibrate(process)  # the second one is found in memory, the third one in the store
            scales.append(calibrate(process.set(default_unit=unit)).scale())
            calibration._in_memory.clear()
            np.testing.assert_array_equal(calibrate(process.set(default_unit=unit)).scale().unrelated, scales[-1].unrelated)
    assert scales[0].unit != scales[1].unit
    assert (scales[0].unrelated != scales[1].unrelated).all()


def test_results_have_similarities_after_a_calibration(few_pairs, tiny_process):
    before = conjure.distance(tiny_process, "sun", "moon", samples=2)
    assert before.similarity is None
    assert before.to_dict()["similarity"] is None
    assert "scale" not in before.to_dict()
    calibrate(tiny_process)
    after = conjure.distance(tiny_process, "sun", "moon", samples=2)
    assert after == before  # the numbers are unchanged
    assert after.similarity is not None
    assert after.similarity.value == known(after.scale).share_farther(np.array([after.distance]))[0]
    plain = json.loads(json.dumps(after.to_dict(), allow_nan=False, default=str))
    assert plain["similarity"] == after.similarity.value
    assert len(plain["similarity_ci95"]) == 2
    assert "scale" not in plain
    assert after.similarity.sentence in after._repr_html_()
    single = conjure.distance(tiny_process, "sun", "moon", samples=1)
    assert single.to_dict()["similarity"] is not None
    assert single.to_dict()["similarity_ci95"] is None
    assert known(conjure.distance(tiny_process, "sun", "sun", samples=2).similarity).value == 1
    assert conjure.distances(tiny_process, [("sun", "moon")], samples=2)[0].similarity == after.similarity
    assert conjure.distance(tiny_process.set(steps=3), "sun", "moon", samples=1).similarity is None
    target = conjure.distance(tiny_process, "sun", "moon", samples=2, target_relative_error=0.9)
    assert target.similarity is not None


def test_matrices_and_neighbours_have_similarities(few_pairs, tiny_process):
    texts = ["sun", "moon", "sea"]
    uncalibrated = conjure.matrix(tiny_process, texts, samples=2)
    assert uncalibrated.similarity is None
    assert uncalibrated.to_dict()["similarity"] is None
    with pytest.raises(InputError, match="conjure calibrate"):
        uncalibrated.to_csv(similarity=True)
    neighbours = conjure.nearest(tiny_process, "sun", texts[1:], samples=2)
    assert neighbours.ranked[0].similarity is None
    calibrate(tiny_process)
    matrix = conjure.matrix(tiny_process, texts, samples=2)
    similarity = known(matrix.similarity)
    assert (np.diag(similarity) == 1).all()
    assert (similarity == similarity.T).all()
    pair = known(conjure.distance(tiny_process, "sun", "sea", samples=2).similarity)
    assert similarity[0, 2] == pair.value
    assert np.stack(known(matrix.similarity_ci95), -1)[0, 2] == pytest.approx(pair.ci95)
    plain = json.loads(json.dumps(matrix.to_dict(), allow_nan=False, default=str))
    assert plain["similarity"][0][2] == pair.value
    assert len(plain["similarity_ci95"][0][2]) == 2
    assert matrix.to_csv(similarity=True).splitlines()[1].startswith("sun,1.0,")
    assert matrix.format_entry(0, 2, similarity=True) == f"{pair.value:.2f}"
    assert "Similarities" in matrix.to_html()
    assert NO_SIMILARITY not in matrix.to_html()
    assert "Similarities" not in uncalibrated.to_html()
    assert NO_SIMILARITY in uncalibrated.to_html()
    ranked = conjure.nearest(tiny_process, "sun", texts[1:], samples=2)
    plain = json.loads(json.dumps(ranked.to_dict(), allow_nan=False, default=str))
    assert plain["ranked"][0]["similarity"] == known(ranked.ranked[0].similarity).value
    assert len(plain["ranked"][0]["similarity_ci95"]) == 2
    assert "scale" not in plain


def test_tables_of_distances_have_similarities(tiny_process, few_pairs):
    """They equal those of `conjure.distance`, and are missing where a distance is."""
    frame = pd.DataFrame({"text1": ["sun", "sun"], "text2": ["moon", "an @"], "similarity": [3, 4]})
    uncalibrated = conjure.distance_table(tiny_process, frame, samples=2)
    assert UNCALIBRATED in conjure.distance_table(tiny_process, [("sun", "moon")], samples=2).notes
    assert [row["similarity"] for row in uncalibrated.to_rows()] == [3, 4]  # the column of the input
    assert any("the column 'similarity' is that of the input" in note for note in uncalibrated.notes)
    calibrate(tiny_process)
    kept = conjure.distance_table(tiny_process, frame, samples=2)
    assert [row["similarity"] for row in kept.to_rows()] == [3, 4]
    pair = known(conjure.distance(tiny_process, "sun", "moon", samples=2).similarity)
    token = tiny_process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

    def overflow(_, inputs, output):
        output[0][(inputs[0] == token).any(1)] = np.nan

    with tiny_process.pipeline.text_encoder.register_forward_hook(overflow):
        calibrate(tiny_process)  # the hook changes the fingerprint
        table = conjure.distance_table(tiny_process, frame[["text1", "text2"]], samples=2)
    assert UNCALIBRATED not in table.notes
    names = ("similarity", "similarity_ci95_low", "similarity_ci95_high")
    finite, missing = ([row[name] for name in names] for row in table.to_rows())
    assert finite == pytest.approx([pair.value, *pair.ci95])
    assert missing == [None, None, None]
    single = conjure.distance_table(tiny_process, [("sun", "moon")], samples=1)
    assert [single.to_rows()[0][name] is None for name in names] == [False, True, True]


def test_a_calibration_in_a_store_is_found_and_maintained(few_pairs, tiny_process, tmp_path, monkeypatch):
    path = tmp_path / "store"
    process = tiny_process.set(store=conjure.Store(path))
    fingerprint = process.fingerprint()
    assert find_calibration(process, fingerprint) is None
    assert summarize(process.store) == []  # a search stores nothing
    calculated = calibrate(process).scale()
    monkeypatch.setattr(calibration, "_in_memory", {})
    with contextlib.closing(conjure.Store(path)) as store:
        again = known(find_calibration(tiny_process.set(store=store), fingerprint))
    assert np.array_equal(again.scale().unrelated, calculated.unrelated)
    assert find_calibration(tiny_process, fingerprint) is None
    (summary,) = summarize(process.store)
    assert summary.pairs == 6
    assert summary.settings["model"].startswith("calibration of ")
    assert verify(process.store).is_valid
    process.store.close()
    assert repair(path)[0] == 6
    repaired = tiny_process.set(store=conjure.Store(path))
    assert find_calibration(repaired, fingerprint) is not None
    prune(repaired.store, [summary.fingerprint])
    assert find_calibration(repaired, fingerprint) is None


def test_a_cache_of_results_that_is_no_store_needs_no_calibrations(few_pairs, tiny_process, tmp_path):
    store = conjure.Store(tmp_path / "s.sqlite")
    cache = SimpleNamespace(for_process=store.for_process)
    assert isinstance(cache, ResultCache)
    estimate = conjure.distance(tiny_process.set(store=cache), "a", "b", samples=1)
    assert estimate.scale is None
    assert summarize(store)[0].trajectories == 2
    calibrate(tiny_process.set(store=cache))
    assert conjure.distance(tiny_process.set(store=cache), "a", "b", samples=1).scale is not None


def test_a_stopped_calibration_is_resumed(few_pairs, tiny_process, tmp_path, monkeypatch):
    uninterrupted = calibrate(tiny_process).differences
    monkeypatch.setattr(calibration, "_in_memory", {})
    process = replace(tiny_process.set(store=conjure.Store(tmp_path / "store")), batch_size=4)
    steps = []

    def stop(done: int, total: int) -> None:
        steps.append(done)
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(process, progress=stop)
    assert find_calibration(process, process.fingerprint()) is None
    assert conjure.distance(process, "sun", "moon", samples=1).similarity is None  # an incomplete one is not used
    started: list[TrajectoryJob] = []
    resumed = calibrate(process, on_start=started.extend).differences
    assert 0 < len(started) < 6 * 2 * calibration.SAMPLES
    for name in ("forward", "backward", "direct"):
        assert getattr(resumed, name) == pytest.approx(getattr(uninterrupted, name), rel=1e-4)


def test_a_corrupted_row_is_computed_again(few_pairs, tiny_process, tmp_path, monkeypatch):
    process = tiny_process.set(store=conjure.Store(tmp_path / "store"))
    calibrate(process)
    monkeypatch.setattr(calibration, "_in_memory", {})
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute(
            "UPDATE baseline_distances SET distances = zeroblob(length(distances)) WHERE text1 = 'a' AND text2 = 'b'"
        )
    assert find_calibration(process, process.fingerprint()) is None
    started: list[TrajectoryJob] = []
    calibrate(process, on_start=started.extend)
    assert {job.text for job in started} == {"a", "b"}


def test_a_corrupted_record_counts_as_missing(few_pairs, tiny_process, tmp_path, monkeypatch):
    process = tiny_process.set(store=conjure.Store(tmp_path / "store"))
    calibrate(process)
    monkeypatch.setattr(calibration, "_in_memory", {})
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute("UPDATE process SET crc32 = crc32 + 1 WHERE key LIKE 'calibration %'")
    assert find_calibration(process, process.fingerprint()) is None
    assert conjure.distance(process, "sun", "moon", samples=1).similarity is None


def test_predictions_that_are_not_finite_are_refused(few_pairs, tiny_process, monkeypatch):
    def results(process, jobs, *, progress=None):
        for job in jobs:
            yield [TrajectoryResult(job, np.array([[np.nan]]), (0.0,), (NoiseLevel(1.0, 1.0),), torch.zeros(3), None)]

    monkeypatch.setattr(calibration, "iter_result_batches", results)
    with pytest.raises(InputError, match="not finite"):
        calibrate(tiny_process)


def test_a_calibration_as_json_is_read_back(few_pairs, tiny_process, monkeypatch):
    result = calibrate(tiny_process)
    fingerprint = tiny_process.fingerprint()
    content = json.loads(result.to_json(fingerprint))
    monkeypatch.setattr(calibration, "_in_memory", {})
    monkeypatch.setattr(calibration, "packaged_calibration", lambda: content)
    packaged = known(find_calibration(tiny_process, fingerprint))
    assert packaged.scale().unrelated == pytest.approx(result.scale().unrelated, rel=1e-3)
    assert packaged.scale().auc == result.scale().auc
    assert find_calibration(tiny_process, "another process") is None


def test_the_package_contains_the_calibration_of_the_default_model(default_process):
    """After a change of the default model: python results/default_calibration.py"""
    if not packaged_calibration():
        pytest.skip("the package contains no calibration")
    assert packaged_calibration()["identity"]["fingerprint"] == default_process.fingerprint()
    scale = known(find_calibration(default_process, default_process.fingerprint())).scale()
    assert (len(scale.unrelated), len(scale.paraphrases)) == (300, 100)
    assert scale.auc > 0.9
    assert 0.5 < scale.reliability < 1
    near, far = (
        known(conjure.distance(default_process, "a red rose", text).similarity) for text in ("a rose", "a truck on a road")
    )
    assert near.value > 0.9 > far.value


def test_workers_calibrate(few_pairs, tiny_process, monkeypatch):
    """The jobs go to the workers of the process, and their results come back in any order."""
    calls = []

    def run(process, jobs, *, keep_latents=(), progress=None):
        calls.append(len(jobs))
        for batch in list(iter_result_batches(process.set(workers=None), jobs))[::-1]:
            yield batch[::-1]

    expected = calibrate(tiny_process).differences
    monkeypatch.setattr(calibration, "_in_memory", {})
    result = calibrate(replace(tiny_process, workers=SimpleNamespace(run=run), batch_size=4)).differences
    assert calls == [24]
    assert result.forward == pytest.approx(expected.forward, rel=1e-4)

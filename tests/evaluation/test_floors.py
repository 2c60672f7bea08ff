"""The floors of a run: the text encoder alone, shuffled texts, and whether the encoder explains the agreement."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import conjure
from analytic_pipelines import gaussian, process_of
from conjure.baselines.base import RandomDistances
from conjure.baselines.embeddings import process_text_encoder
from conjure.diffusion.patching import patched_forward
from conjure.evaluation.correlation import agreement
from conjure.evaluation.datasets import Pairs, read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.floors import MAX_PAIRS, encoder_baseline, make_floors, shuffle_texts
from conjure.evaluation.pair_files import from_rows
from conjure.evaluation.report import markdown
from conjure.evaluation.report_page import html_page
from conjure.evaluation.result_parts import Floors
from rated_pairs import RATED_PAIRS, numbered_pairs, write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture
def pairs(tmp_path) -> Pairs:
    return read_file(write_pairs(tmp_path / "own.tsv"))


def pairs_of(rows: Sequence[tuple[str, str, float]]) -> Pairs:
    columns = [{"text1": first, "text2": second, "score": score} for first, second, score in rows]
    return from_rows(columns, "own", name="own", title="own", text_columns=("text1", "text2"))


def test_every_text_is_replaced_by_another_one():
    rows = [*numbered_pairs(80), *((first, f"{second}!", 1.0) for first, second, _ in numbered_pairs(80))]
    pairs = pairs_of(rows)
    shuffled = shuffle_texts(pairs, seed=3)
    assert len(shuffled.rows) == len(set(shuffled.rows)) == MAX_PAIRS
    others: dict[str, set[str]] = {}
    for row, texts in zip(shuffled.rows, shuffled.texts, strict=True):
        for text, other in zip((pairs.first[row], pairs.second[row]), texts, strict=True):
            others.setdefault(text, set()).add(other)
    assert all(len(values) == 1 and text not in values for text, values in others.items())
    assert {text for values in others.values() for text in values} == set(others)  # each text once
    assert shuffle_texts(pairs, seed=3) == shuffled
    assert shuffle_texts(pairs, seed=4) != shuffled
    few = pairs_of(RATED_PAIRS)
    assert shuffle_texts(few, seed=0).rows == tuple(range(len(few)))


def test_two_texts_cannot_be_shuffled():
    """A pair would get its own conditions in the other order, and so the same distance."""
    assert shuffle_texts(pairs_of([("a", "b", 1.0), ("b", "a", 2.0), ("a", "a", 3.0)]), seed=0).rows == ()


def test_shuffled_texts_are_shuffled_conditions_of_the_denoiser(fast_process, pairs):
    """Where the text encoder returns the embedding of another text, the process has the distances of the floor."""
    floors = evaluate(fast_process, [pairs], seed=5).tasks["own"].floors
    assert floors is not None
    assert floors.shuffled is not None
    shuffled = shuffle_texts(pairs, seed=5)
    others = {
        text: other
        for row, texts in zip(shuffled.rows, shuffled.texts, strict=True)
        for text, other in zip((pairs.first[row], pairs.second[row]), texts, strict=True)
    }
    encoder, tokenizer = fast_process.pipeline.text_encoder, fast_process.pipeline.tokenizer
    by_tokens = {tuple(tokenizer(text).input_ids): other for text, other in others.items()}
    forward = encoder.forward

    def shuffled_forward(input_ids: Any, attention_mask: Any, **options: Any) -> Any:
        assert len(input_ids) == 1
        tokens = tuple(input_ids[0, : int(attention_mask.sum())].tolist())
        if tokens in by_tokens:
            inputs = tokenizer(by_tokens[tokens], padding="max_length", max_length=input_ids.shape[1], return_tensors="pt")
            input_ids, attention_mask = inputs.input_ids, inputs.attention_mask
        return forward(input_ids, attention_mask, **options)

    with patched_forward(encoder, shuffled_forward):
        distances = conjure.distances(fast_process, pairs.texts, samples=1, seed=5)
    expected = agreement(np.array([[estimate.distance] for estimate in distances]), pairs.scores)
    assert floors.shuffled.spearman == pytest.approx(expected.spearman)
    assert floors.shuffled.ci95 == pytest.approx(expected.ci95)


def test_encoder_floor_is_the_baseline(fast_process, pairs):
    expected = agreement(process_text_encoder(fast_process).distances(pairs.texts), pairs.scores)
    without = evaluate(fast_process, [pairs], baselines=[RandomDistances()]).tasks["own"]
    requested = evaluate(fast_process, [pairs], baselines=[process_text_encoder(fast_process)]).tasks["own"]
    for result in (without, requested):
        assert result.floors is not None
        assert result.floors.encoder == expected
        assert result.floors.partial is not None
    assert set(without.baselines) == {"random"}  # only requested baselines are in the table of baselines


def test_floors_without_a_text_encoder():
    process = process_of({"y": gaussian(0.0, 1.0)})
    assert encoder_baseline(process, []) is None


def drawn(own: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, cosine distances and ratings. Distances follow the ratings beyond the cosine if `own` is not 0."""
    rng = np.random.default_rng(0)
    similarity, shared = rng.normal(size=(2, 80))
    distances = -similarity - own * shared + 0.5 * rng.normal(size=80)
    return distances[:, None], -similarity[:, None], similarity + shared + 0.3 * rng.normal(size=80)


@pytest.mark.parametrize(("own", "explained"), [(0.0, True), (1.0, False)])
def test_whether_the_encoder_explains_the_agreement(own, explained):
    """It does where distances are its cosine with noise, and it does not where they agree with the ratings beyond it."""
    distances, cosine, ratings = drawn(own)
    pairs = pairs_of([(f"a{i}", f"b{i}", rating) for i, rating in enumerate(ratings)])
    floors = make_floors(pairs, distances, cosine, None)
    process_agreement = agreement(distances, ratings)
    assert process_agreement.ci95[0] > 0.2
    assert floors.encoder_explains(process_agreement) is explained
    # nothing is claimed of few pairs, or where the process does not agree with the ratings
    few = make_floors(pairs.head(8), distances[:8], cosine[:8], None)
    assert not few.encoder_explains(agreement(distances[:8], ratings[:8]))
    opposite = make_floors(pairs, -distances, cosine, None)
    assert opposite.partial is not None
    assert not opposite.encoder_explains(agreement(-distances, ratings))
    noise = np.random.default_rng(1).normal(size=(80, 1))
    assert not make_floors(pairs, noise, cosine, None).encoder_explains(agreement(noise, ratings))


@pytest.mark.parametrize(("own", "explained"), [(0.0, True), (1.0, False)])
def test_the_report_says_when_the_encoder_explains_the_agreement(fast_process, own, explained):
    distances, cosine, ratings = drawn(own)
    evaluation = evaluate(fast_process, [pairs_of(RATED_PAIRS)])
    floors = make_floors(pairs_of([(f"a{i}", f"b{i}", r) for i, r in enumerate(ratings)]), distances, cosine, None)
    result = evaluation.tasks["own"]
    divergences = result.divergences | {"jeffreys": agreement(distances, ratings)}
    evaluation = replace(evaluation, tasks={"own": replace(result, divergences=divergences, floors=floors)})
    line = f"cosine, the partial correlation of distances and ratings is {floors.partial}"
    for report in (markdown(evaluation), html_page(evaluation), "\n".join(evaluation.summary()["notes"])):
        assert (line in report) is explained
    assert evaluation.summary()["tasks"]["own"]["floors"]["encoder_explains"] is explained


def test_table_and_summary(fast_process, pairs):
    evaluation = evaluate(fast_process, [pairs])
    floors = evaluation.summary()["tasks"]["own"]["floors"]
    assert set(floors) == {"encoder", "partial", "shuffled", "encoder_explains"}
    for report in (markdown(evaluation), html_page(evaluation)):
        assert "text encoder alone" in report
        assert "partial correlation, given the text encoder" in report
        assert "shuffled texts" in report
    assert f"| own | text encoder alone | 8 | {floors['encoder']['spearman']:.1f} |" in markdown(evaluation)
    result = evaluation.tasks["own"]
    nothing = replace(evaluation, tasks={"own": replace(result, floors=Floors(None, None, None))})
    assert "Floors" not in markdown(nothing)


def test_floors_do_not_change_the_results(fast_process, pairs):
    with_floors, without = (evaluate(fast_process, [pairs], samples=2, floors=floors).tasks["own"] for floors in (True, False))
    assert without.floors is None
    np.testing.assert_array_equal(with_floors.distances, without.distances)
    summaries = [result.summary() for result in (with_floors, without)]
    assert summaries[1].pop("floors") is None
    summaries[0].pop("floors")
    assert summaries[0] == summaries[1]


def test_an_interrupted_floor_is_resumed(fast_process, pairs, tmp_path):
    """What was computed before is not computed again, and the result is the same."""
    process = fast_process.set(batch_size=6)  # several batches

    class StoppedError(Exception):
        pass

    plans: list[str] = []

    def stop(completed: int, total: int) -> None:
        if plans and "shuffled" in plans[-1] and completed > total / 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        evaluate(process, [pairs], out=tmp_path / "run", progress=stop, on_start=plans.append)
    plans.clear()
    resumed = evaluate(process, [pairs], out=tmp_path / "run", on_start=plans.append)
    main, floor = (plan for plan in plans if "trajectories" in plan)
    number = int(floor.split(" shuffled texts, ")[1].split(" of ")[0])
    total = int(floor.split(" of ")[1].split(" ")[0])
    assert "8 pairs, 0 of" in main
    assert 0 < number < total
    assert not any("baseline encoder" in plan for plan in plans)
    plans.clear()
    again = evaluate(process, [pairs], out=tmp_path / "run", on_start=plans.append)
    assert "8 pairs with shuffled texts, 0 of" in plans[-1]
    expected = evaluate(process, [pairs]).summary()["tasks"]
    assert resumed.summary()["tasks"] == again.summary()["tasks"] == expected


def test_the_option(conjure_command, tmp_path):
    file = write_pairs(tmp_path / "own.tsv")
    arguments = ("bench", "--data", file, "--steps", 1, "--out", tmp_path / "run")
    code, out, err = conjure_command(*arguments, "--no-floors", "--json")
    assert (code, json.loads(out)["tasks"]["own"]["floors"]) == (0, None)
    assert "shuffled" not in err
    code, out, err = conjure_command(*arguments)
    assert (code, "text encoder alone" in out) == (0, True)
    assert "8 pairs with shuffled texts" in err


def test_runs_without_floors_stay_readable(fast_process, pairs, tmp_path):
    """Runs of earlier versions have no such key."""
    evaluate(fast_process, [pairs], out=tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    path = tmp_path / "old" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["tasks"]["own"]["floors"]
    path.write_text(json.dumps(summary))
    comparison = conjure.diff(tmp_path / "old", tmp_path / "new")
    assert comparison.summary()["tasks"]["own"]

"""The evaluator can be called repeatedly, like those of sentence-transformers."""

from __future__ import annotations

import pytest

import conjure
from conjure import InputError
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from rated_pairs import RATED_PAIRS, write_pairs


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=2)


@pytest.fixture
def evaluator():
    first, second, scores = zip(*RATED_PAIRS, strict=True)
    return conjure.SimilarityEvaluator(first, second, scores, name="own", samples=1)


def test_metrics_and_their_file(fast_process, evaluator, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "own.tsv"))
    metrics = evaluator(fast_process, output_path=tmp_path / "out", epoch=1, steps=10)
    assert metrics[evaluator.primary_metric] == evaluate(fast_process, [pairs]).tasks["own"].agreement.spearman
    evaluator(fast_process, output_path=tmp_path / "out", epoch=2)
    header, *rows = (tmp_path / "out" / "similarity_evaluation_own_results.csv").read_text().splitlines()
    assert header == "epoch,steps,spearman,spearman_low,spearman_high,pearson"
    assert [row.split(",")[:2] for row in rows] == [["1", "10"], ["2", "-1"]]
    assert conjure.SimilarityEvaluator.from_pairs(pairs).primary_metric == "own_spearman"
    with pytest.warns(DeprecationWarning, match="SimilarityEvaluator.of was renamed to SimilarityEvaluator.from_pairs"):
        assert conjure.SimilarityEvaluator.of(pairs).pairs.sha256 == pairs.sha256


def test_pipeline_in_training_mode(default_process):
    """It is evaluated in evaluation mode and is in training mode again afterwards."""
    pipeline = default_process.pipeline
    evaluator = conjure.SimilarityEvaluator(["puppy", "puppy", "shark"], ["poodle", "shark", "train"], [9, 3.5, 1])
    pipeline.transformer.train()
    try:
        metrics = evaluator(pipeline)
        is_training = pipeline.transformer.training
    finally:
        pipeline.transformer.eval()
    assert (is_training, metrics) == (True, evaluator(pipeline))


def test_texts_and_scores_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="2 first texts, 1 second texts and 2 scores; the numbers must be equal"):
        conjure.SimilarityEvaluator(["a", "b"], ["c"], [1, 2])
    with pytest.raises(InputError, match="the score is nan"):
        conjure.SimilarityEvaluator(["a"] * 3, ["b"] * 3, [1, 2, float("nan")])

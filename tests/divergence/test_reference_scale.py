"""The scale of distances: similarities, their intervals, and the AUC of paraphrases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conjure.divergence.intervals import nonnegative_interval
from conjure.divergence.reference_scale import ReferenceScale, Similarity, _auc_interval, _wilson_interval

NO_ERROR = (math.nan, math.nan)


def exact_scale(unrelated, paraphrases=(1.0, 2.0)) -> ReferenceScale:
    """Return the scale of distances that have no error."""
    first, second = (np.repeat(np.array(values)[:, None], 2, 1) for values in (unrelated, paraphrases))
    return ReferenceScale.from_samples(first, second, "x")


def test_similarity_is_the_share_of_farther_pairs():
    scale = exact_scale([40.0, 10.0, 30.0, 20.0])
    shares = {5: 1.0, 10: 0.875, 15: 0.75, 30: 0.375, 40: 0.125, 50: 0.0}  # equally far pairs count half
    assert {d: scale.similarity(d, NO_ERROR).value for d in shares} == shares
    assert scale.reliability == pytest.approx(1)


def test_the_interval_contains_the_similarity_and_grows_with_both_errors():
    few, many = (exact_scale(np.linspace(100, 200, number)) for number in (30, 3000))
    for distance in (0.0, 100.0, 130.0, 199.0, 300.0):
        widths = []
        for scale, half in ((many, 0.0), (many, 10.0), (few, 0.0), (few, 10.0)):
            similarity = scale.similarity(distance, (max(distance - half, 0), distance + half))
            low, high = similarity.ci95
            assert 0 <= low <= similarity.value <= high <= 1
            widths.append(high - low)
        assert widths[0] <= widths[1]
        assert widths[2] <= widths[3]
        assert widths[0] < widths[2]
    low, high = many.similarity(150.0, (140.0, 160.0)).ci95
    assert (low, high) == pytest.approx((0.4, 0.6), abs=0.003)  # ± 10 of 100, and the small error of a long list


def test_an_unknown_error_has_no_interval():
    similarity = exact_scale([1.0, 2.0]).similarity(1.5, NO_ERROR)
    assert similarity.value == 0.5
    assert all(map(math.isnan, similarity.ci95))
    assert str(similarity) == "0.50"
    assert Similarity(0.93, (0.88, 0.97)).sentence == "similarity 0.93 (0.88 to 0.97): closer than 93% of unrelated pairs"
    assert Similarity(0.9967, (0.97, 1)).sentence == "similarity 1.00 (0.97 to 1.00): closer than 99.7% of unrelated pairs"
    assert Similarity(1, (0.97, 1)).sentence == "similarity 1.00 (0.97 to 1.00): closer than all unrelated pairs"
    assert Similarity(0, (0, 0.03)).sentence == "similarity 0.00 (0.00 to 0.03): farther apart than all unrelated pairs"


def simulated_distances(rng: np.random.Generator, true: np.ndarray, samples: int) -> np.ndarray:
    """Return skewed estimates with a relative error of 16% per sample, as the default model has."""
    return true[:, None] * rng.gamma(1 / 0.16**2, 0.16**2, (len(true), samples))


def test_the_scale_is_corrected_for_the_errors_of_its_distances():
    rng = np.random.default_rng(0)
    true = np.exp(rng.normal(6, 0.28, 20_000))
    measured = simulated_distances(rng, true, 2)
    scale = ReferenceScale.from_samples(measured, measured[:10], "x")
    assert scale.reliability == pytest.approx(0.28**2 / (0.28**2 + 0.16**2 / 2), abs=0.01)
    for quantile in (0.05, 0.25, 0.75, 0.95):
        distance = np.quantile(true, quantile)
        assert scale.share_farther(np.array([distance]))[0] == pytest.approx(1 - quantile, abs=0.008)
    uncorrected = (measured.mean(1) > np.quantile(true, 0.05)).mean()
    assert abs(uncorrected - 0.95) > 0.012  # without the correction


@pytest.mark.parametrize("samples", [3, 8])
def test_intervals_cover_the_true_similarity(samples):
    """Both errors at once: a list of 300 pairs with two samples each, and a distance of few samples."""
    rng = np.random.default_rng(samples)
    covered = {}
    for z in (-1.6, -0.7, 0.0, 1.2):
        hits = []
        for _ in range(400):
            unrelated = simulated_distances(rng, np.exp(rng.normal(6, 0.28, 300)), 2)
            scale = ReferenceScale.from_samples(unrelated, unrelated[:10], "x")
            mean, _, ci95 = nonnegative_interval(simulated_distances(rng, np.array([np.exp(6 + 0.28 * z)]), samples)[0])
            low, high = scale.similarity(mean, ci95).ci95
            hits.append(low <= 1 - (1 + math.erf(z / math.sqrt(2))) / 2 <= high)
        covered[z] = np.mean(hits)
    assert min(covered.values()) > 0.92, covered
    assert np.mean(list(covered.values())) > 0.94, covered


def test_constant_distances_are_not_corrected():
    scale = exact_scale([0.0, 0.0, 0.0])
    assert scale.similarity(0.0, (0.0, 0.0)).value == 0.5
    assert exact_scale([2.0, 2.0]).similarity(1.0, NO_ERROR).value == 1.0


def test_auc_and_its_interval():
    scale = exact_scale([3.0, 4.0, 5.0, 6.0], [1.0, 3.0, 5.5])
    assert scale.auc == pytest.approx((4 + 3.5 + 1) / 12)
    low, high = scale.auc_ci95
    assert 0 < low < scale.auc < high < 1
    perfect = _auc_interval(1.0, 100, 300)
    assert perfect[1] == 1
    assert 0.97 < perfect[0] < 1
    assert _auc_interval(0.0, 100, 300) == pytest.approx((0, 1 - perfect[0]), abs=1e-9)


def test_auc_intervals_cover_the_true_auc():
    rng = np.random.default_rng(0)
    true, hits = 0.5 * (1 + math.erf(1.5 / 2)), []
    for _ in range(400):
        near, far = rng.normal(0, 1, 100), rng.normal(1.5, 1, 300)
        low, high = _auc_interval(float((near[:, None] < far).mean()), 100, 300)
        hits.append(low <= true <= high)
    assert 0.92 < np.mean(hits) <= 1


def test_wilson_interval_matches_the_score_test():
    low, high = _wilson_interval(np.array([0.0, 0.3, 1.0]), 50)
    for share, ends in zip((0.0, 0.3, 1.0), zip(low, high, strict=True), strict=True):
        for end in ends:
            if end not in (0.0, 1.0):
                assert abs(share - end) / math.sqrt(end * (1 - end) / 50) == pytest.approx(1.959964, abs=1e-5)


def test_the_summary_is_plain_data():
    summary = exact_scale([3.0, 4.0, 5.0], [1.0, 2.0]).to_dict()
    assert summary["unrelated"]["50%"] == pytest.approx(4.0)
    assert summary["paraphrase_similarity"] == 1.0
    assert summary["auc"] == 1.0

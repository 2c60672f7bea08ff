"""Distances of pairs: what holds for every process, the divergences, sampling up to a target error, and invalid input."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import conjure
from conjure import InputError
from conjure.diffusion.seeding import NoiseSeeds
from conjure.similarity import sampling
from denoisers import initial_noise

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default_process, tiny_sd) -> conjure.Process:
    return (default_process if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)).set(steps=3)


def test_a_text_has_no_distance_to_itself(process):
    assert conjure.distance(process, A, A, samples=2).distance == 0
    assert conjure.distance(process, A, A, samples=1, divergence="direct").distance == 0
    assert conjure.distance(process, A, A, samples=1, antithetic=True).distance == 0


def test_symmetry(process):
    estimate, reverse = conjure.distance(process, A, B), conjure.distance(process, B, A)
    assert estimate.samples == pytest.approx(reverse.samples, rel=1e-5)
    assert (estimate.forward, estimate.backward) == pytest.approx((reverse.backward, reverse.forward), rel=1e-5)


def test_more_samples_keep_the_first(process):
    few, many = conjure.distance(process, A, B, samples=2), conjure.distance(process, A, B, samples=4)
    assert many.samples[:2] == pytest.approx(few.samples, rel=1e-5)


def test_divergences_follow_from_the_same_steps(process):
    def estimate(divergence):
        return conjure.distance(process, A, B, samples=1, divergence=divergence)

    jeffreys = estimate("jeffreys")
    assert estimate("kl").distance == pytest.approx(jeffreys.forward, rel=1e-5)
    assert jeffreys.distance == pytest.approx(jeffreys.forward + jeffreys.backward, rel=1e-5)
    assert sum(jeffreys.per_step) == pytest.approx(jeffreys.distance)
    assert estimate("initial").distance == pytest.approx(jeffreys.per_step[0] * process.steps, rel=1e-5)
    assert estimate("final").distance == pytest.approx(jeffreys.per_step[-1] * process.steps, rel=1e-5)


def test_mean_over_dimensions(process):
    total, mean = (conjure.distance(process, A, B, samples=2, reduction=reduction) for reduction in ("sum", "mean"))
    dimensions = initial_noise(process, 0).numel()
    assert mean.samples == pytest.approx([sample / dimensions for sample in total.samples], rel=1e-6)
    assert mean.unit.startswith("mean square")
    nats = conjure.distance(process, A, B, samples=2, reduction="mean", weighting="girsanov")
    assert nats.unit == "nats per dimension"


def test_nats_do_not_depend_on_the_unit(process):
    nats = {conjure.distance(process, A, B, samples=2, weighting="girsanov", unit=unit).samples for unit in ("epsilon", "x0")}
    nats |= {
        conjure.distance(process.set(default_unit=unit), A, B, samples=2, weighting="girsanov").samples
        for unit in ("epsilon", "x0")
    }
    assert len(nats) == 1


def test_the_unit_of_a_call_replaces_that_of_the_process(process):
    by_call = conjure.distance(process, A, B, samples=1, unit="velocity")
    by_process = conjure.distance(process.set(default_unit="velocity"), A, B, samples=1)
    assert by_call.samples == by_process.samples
    assert by_call.unit == by_process.unit == "squared norm of velocity"


def test_distances_with_direct_comparison_are_those_of_single_pairs(process):
    pairs = [(A, B), (B, "pizza")]
    estimates = conjure.distances(process, pairs, samples=2, divergence="direct")
    for pair, estimate in zip(pairs, estimates, strict=True):
        single_pair = conjure.distance(process, *pair, samples=2, divergence="direct")
        assert estimate.samples == pytest.approx(single_pair.samples, rel=1e-4)


def test_matrices_of_kl_have_a_direction(process):
    matrix = conjure.matrix(process, [A, B, "pizza"], samples=2, divergence="kl")
    forward, backward = (conjure.distance(process, *pair, samples=2, divergence="kl").distance for pair in ((A, B), (B, A)))
    assert (matrix.distance[0, 1], matrix.distance[1, 0]) == (pytest.approx(forward, rel=1e-5), pytest.approx(backward, rel=1e-5))


def test_antithetic_noise(default_process):
    """The text that sorts second starts from the opposite noise. The error falls, the value stays, and pairs stay symmetric."""
    process = default_process.set(steps=2)
    common, antithetic = (conjure.distance(process, A, B, samples=24, antithetic=value) for value in (False, True))
    reverse = conjure.distance(process, B, A, samples=24, antithetic=True)
    assert antithetic.backward == pytest.approx(common.backward, rel=1e-5)  # "bengal tiger" sorts first and keeps its noise
    assert antithetic.samples == pytest.approx(reverse.samples, rel=1e-5)
    assert abs(antithetic.distance - common.distance) < 3 * np.hypot(antithetic.stderr, common.stderr)
    assert antithetic.to_dict()["antithetic"]
    with pytest.raises(InputError, match="without antithetic noise"):
        conjure.distance(process, A, B, antithetic=True, divergence="direct")
    # a single direction gains nothing: its trajectories are those of the common noise, so antithetic noise is no default
    single, same = (conjure.distance(process, B, A, samples=2, divergence="kl", antithetic=value) for value in (False, True))
    assert single.samples == pytest.approx(same.samples, rel=1e-5)


def test_target_relative_error(default_process):
    """Samples are drawn until the interval is narrow enough. The first ones are those of every call."""
    process = default_process.set(steps=3)
    three_samples = conjure.distance(process, A, B)
    precise = conjure.distance(process, A, B, target_relative_error=0.1)
    assert (precise.ci95[1] - precise.ci95[0]) / 2 <= 0.1 * precise.distance
    assert len(precise.samples) > len(three_samples.samples)
    assert precise.samples[:3] == pytest.approx(three_samples.samples, rel=1e-5)
    assert len(conjure.distance(process, A, B, target_relative_error=0.9).samples) == 3
    assert len(conjure.distance(process, A, A, samples=1, target_relative_error=0.1).samples) == 2
    explanation = conjure.explain(process.set(steps=2), A, B, target_relative_error=0.2)
    assert len(explanation.estimate.samples) >= 3


def test_a_target_that_is_never_reached(default_process, monkeypatch):
    monkeypatch.setattr("conjure.similarity.sampling.MAX_SAMPLES", 5)
    for target in (1e-9, 1e-200, 5e-324):
        assert len(conjure.distance(default_process.set(steps=2), A, B, target_relative_error=target).samples) == 5


def test_precision_is_the_old_name_of_the_target(default_process):
    process = default_process.set(steps=2)
    with pytest.warns(DeprecationWarning, match=r"'precision' of distance\(\) was renamed to 'target_relative_error'"):
        estimate = conjure.distance(process, A, B, precision=0.3)  # type: ignore[call-arg]
    assert estimate.samples == conjure.distance(process, A, B, target_relative_error=0.3).samples
    with pytest.raises(TypeError, match=r"distance\(\) got both 'precision' and 'target_relative_error'"):
        conjure.distance(process, A, B, precision=0.3, target_relative_error=0.3)  # type: ignore[call-arg]


@pytest.mark.parametrize("max_targets", [pytest.param(128, marks=pytest.mark.slow), 8])
def test_more_targets_than_one_job_holds(default_process, monkeypatch, max_targets):
    """The targets of a source text are split into several jobs, which changes no distance."""
    assert sampling.MAX_TARGETS_PER_JOB == 128
    monkeypatch.setattr(sampling, "MAX_TARGETS_PER_JOB", max_targets)
    pairs = [("pizza", f"{word} {number}") for word in ("apple", "boat") for number in range(max_targets * 5 // 8)]
    jobs = sampling.jobs_for_pairs(pairs, range(1), NoiseSeeds())
    assert [len(job.targets) for job in jobs if job.text == "pizza"] == [max_targets, max_targets // 4]
    process = default_process.set(steps=2)
    first, *_, last = conjure.distances(process, pairs, samples=1)
    assert first.distance == pytest.approx(conjure.distance(process, *pairs[0], samples=1).distance, rel=1e-5)
    assert last.distance == pytest.approx(conjure.distance(process, *pairs[-1], samples=1).distance, rel=1e-5)


@pytest.mark.slow  # the golden numbers are computed in a new process too
def test_another_process_gives_the_same_numbers(default_process):
    """The seed of the run fixes all noise, in every process of the operating system."""
    code = "import conjure, json; print(json.dumps(conjure.distance(conjure.load(), 'snow leopard', 'bengal tiger').to_dict()))"
    output = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    estimate = conjure.distance(default_process, A, B)
    assert output["samples"] == pytest.approx(estimate.samples, rel=1e-6)
    assert output["fingerprint"] == estimate.fingerprint


def test_no_pairs(default_process, tmp_path):
    for process in (default_process, default_process.set(store=conjure.Store(tmp_path / "store"))):
        assert conjure.distances(process, [], samples=1) == []


def test_pairs_and_texts_from_iterators(default_process):
    process = default_process.set(steps=2)
    (estimate,) = conjure.distances(process, zip(["sun"], ["moon"], strict=True), samples=1)
    assert estimate.texts == ("sun", "moon")
    assert conjure.matrix(process, (text for text in ("sun", "moon")), samples=1).texts == ("sun", "moon")
    for texts in ("abc", ["sun"], ["sun", "sun"]):
        with pytest.raises(InputError):
            conjure.matrix(process, texts)


@pytest.mark.parametrize(
    "pairs", [["ab"], [("a", "b", "c")], ["sun", "moon"], [3], [("sun", None)]], ids=["word", "three", "words", "number", "none"]
)
def test_values_that_are_not_pairs_are_refused(default_process, pairs):
    with pytest.raises(InputError):
        conjure.distances(default_process, pairs)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (("", B), {}, "the text '' is blank"),
        ((A, " \n\t"), {}, "is blank"),
        ((A, "\u2028\x01"), {}, "is blank"),
        ((A, "a\udcff"), {}, "not valid Unicode"),
        ((None, B), {}, "a text is None; must be a string"),
        ((A, B), {"samples": 0}, "samples is 0; must be an integer"),
        ((A, B), {"seed": -1}, "seed is -1; must be an integer"),
        ((A, B), {"divergence": "js"}, "unknown divergence 'js'; must be one of jeffreys"),
        ((A, B), {"weighting": "bits"}, "unknown weighting 'bits'; must be one of uniform, girsanov"),
        ((A, B), {"weighting": "girsanov", "divergence": "final"}, "no value in nats"),
        ((A, B), {"reduction": "max"}, "unknown reduction 'max'; must be one of sum, mean"),
        ((A, B), {"unit": "metres"}, "unknown unit 'metres'; must be one of output, epsilon, x0, score, velocity"),
        ((A, B), {"target_relative_error": 0}, "target_relative_error is 0; must be a number between 0 and 1"),
        ((A, B), {"target_relative_error": 5}, "target_relative_error is 5; must be a number between 0 and 1: 0.05 is ± 5%"),
        ((A, B), {"target_relative_error": True}, "target_relative_error is True"),
        ((A, B), {"samples": True}, "samples is True; must be an integer"),
        ((A, B), {"seed": False}, "seed is False; must be an integer"),
        ((A, B), {"target_relative_error": float("nan")}, "target_relative_error is nan"),
    ],
)
def test_invalid_input_is_refused(default_process, texts, options, message):
    with pytest.raises(InputError, match=message):
        conjure.distance(default_process, *texts, **options)

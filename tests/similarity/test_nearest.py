"""Nearest neighbours: the ranking is that of the distances, eliminations are significant, and they save samples."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.diffusion.seeding import noise_seed
from conjure.similarity.nearest import _rounds, _significantly_farther, nearest

CANDIDATES = ["poodle", "aeroplane", "kitten", "spoon"]


@functools.cache
def standard_normal(*entropy: int) -> float:
    return np.random.default_rng(entropy).normal()


@pytest.fixture
def simulate(monkeypatch, default_process):
    """Replace the engine: distances are drawn from given normal distributions.

    The fixture is a function of the distributions, text -> (mean, standard deviation), and a seed. About half of the variance is
    common to all texts, as with common noise. The returned object counts the trajectories.
    """

    def start(distributions: dict[str, tuple[float, float]], seed: int) -> SimpleNamespace:
        counter = SimpleNamespace(trajectories=0)

        def iter_result_batches(process, jobs, *, keep_latents=(), progress=None):
            counter.trajectories += len(jobs)
            for job in jobs:
                squared = np.array([[directed_divergence(job, target)] for target in job.targets])
                yield [TrajectoryResult(job, squared, (0.0,), (NoiseLevel(1.0, 1.0),), torch.zeros(3), None)]

        def directed_divergence(job: TrajectoryJob, target: str) -> float:
            candidate = target if job.text == "origin" else job.text
            mean, deviation = distributions[candidate]
            key = (seed, job.seed % 2**32)
            noise = 0.7 * standard_normal(*key) + 0.7 * standard_normal(*key, list(distributions).index(candidate))
            return (mean + deviation * noise) / 2  # one half per direction

        monkeypatch.setattr("conjure.similarity.trajectory_cache.iter_result_batches", iter_result_batches)
        monkeypatch.setattr("conjure.diffusion.process.Process.fingerprint", lambda process: "simulated")
        monkeypatch.setattr("conjure.diffusion.seeding.noise_seed", functools.cache(noise_seed))
        return counter

    return start


def test_ranking_is_that_of_the_distances(default_process):
    process = default_process.set(steps=2)
    neighbours = nearest(process, "puppy", CANDIDATES, samples=4)
    assert {neighbour.text for neighbour in neighbours.ranked[:2]} == {"poodle", "kitten"}
    estimates = {candidate: conjure.distance(process, "puppy", candidate, samples=4) for candidate in CANDIDATES}
    for neighbour in neighbours.ranked:
        assert neighbour.distance == pytest.approx(estimates[neighbour.text].distance, rel=1e-4)
        assert neighbour.stderr == pytest.approx(estimates[neighbour.text].stderr, rel=1e-3)
    expected = sorted(CANDIDATES, key=lambda candidate: estimates[candidate].distance)
    assert [neighbour.text for neighbour in neighbours.ranked] == expected


def test_far_candidates_are_eliminated(simulate, default_process):
    counter = simulate({"near": (10, 1), "next": (10.2, 1), "far": (60, 2), "farther": (90, 2)}, 0)
    neighbours = nearest(default_process, "origin", ["far", "near", "farther", "next"], samples=64)
    samples = {neighbour.text: neighbour.samples for neighbour in neighbours.ranked}
    assert samples["far"] <= 8
    assert samples["farther"] <= 8
    assert min(samples["near"], samples["next"]) >= 16
    assert [neighbour.text for neighbour in neighbours.ranked][2:] == ["far", "farther"]
    assert neighbours.trajectories_run == counter.trajectories < neighbours.trajectories_max * 0.7


def test_nearest_is_eliminated_with_at_most_the_stated_probability(simulate, default_process):
    eliminated = certain = 0
    distributions = {f"text {i}": (10 + 0.8 * i, 1.5) for i in range(5)}
    for seed in range(120):
        simulate(distributions, seed)
        neighbours = nearest(default_process, "origin", list(distributions), samples=32, confidence=0.8)
        certain += neighbours.is_certain
        eliminated += next(neighbour for neighbour in neighbours.ranked if neighbour.text == "text 0").eliminated
    assert eliminated <= 120 * 0.2
    assert certain > 60


def test_top_of_several(simulate, default_process):
    simulate({f"text {i}": (10 * (i + 1), 0.5) for i in range(6)}, 1)
    neighbours = nearest(default_process, "origin", [f"text {i}" for i in (5, 3, 1, 0, 2, 4)], top=3)
    assert [neighbour.text for neighbour in neighbours.ranked][:3] == ["text 0", "text 1", "text 2"]
    assert neighbours.is_certain
    assert [neighbour.eliminated for neighbour in neighbours.ranked] == [False] * 3 + [True] * 3


def test_all_samples_are_drawn_where_all_candidates_are_ranked(simulate, default_process):
    """There is nothing to eliminate, so `samples` alone determines the error."""
    simulate({f"text {i}": (10 * (i + 1), 0.5) for i in range(3)}, 1)
    neighbours = nearest(default_process, "origin", [f"text {i}" for i in range(3)], top=3, samples=8)
    assert {neighbour.samples for neighbour in neighbours.ranked} == {8}
    assert neighbours.trajectories_run == neighbours.trajectories_max


def test_noisy_candidate_does_not_eliminate_a_near_one(simulate, default_process):
    """A noisy candidate may be first by chance; the two others must not be eliminated because they are farther than the first."""
    eliminated = 0
    for seed in range(100):
        simulate({"first": (10, 0.05), "second": (11, 0.05), "noisy": (14, 20)}, seed)
        neighbours = nearest(default_process, "origin", ["first", "second", "noisy"], top=2, samples=16)
        eliminated += next(neighbour for neighbour in neighbours.ranked if neighbour.text == "second").eliminated
    assert eliminated <= 5


def test_one_sample_gives_no_certainty(simulate, default_process):
    simulate({"a": (1, 0.1), "b": (50, 0.1)}, 0)
    neighbours = nearest(default_process, "origin", ["b", "a"], samples=1)
    assert not neighbours.is_certain
    assert [neighbour.text for neighbour in neighbours.ranked] == ["a", "b"]
    assert neighbours.to_dict()["ranked"][0]["stderr"] is None


def test_rounds_and_t_test():
    assert _rounds(32) == [4, 8, 16, 32]
    assert _rounds(3) == [3]
    assert _rounds(10) == [4, 8, 10]
    values = np.array([3.0, 3.1, 2.9, 3.0])
    other_values = np.stack([values - 2 + np.array([0, 0.1, 0, -0.1]), values[::-1], values + 2])
    assert _significantly_farther(values, other_values, 0.01).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ([], {}, "no candidates"),
        (["a", "b", "a"], {}, "'a'"),
        ("abc", {}, "give a list of texts"),
        (["a", "b"], {"top": 3}, "top is 3"),
        (["a", "b"], {"confidence": 1.0}, "confidence is 1.0"),
        (["a", " "], {}, "blank"),
    ],
)
def test_invalid_arguments(default_process, candidates, options, message):
    with pytest.raises(InputError, match=message):
        nearest(default_process, "text", candidates, **options)


def test_command(conjure_command, tmp_path):
    path = tmp_path / "candidates.txt"
    path.write_text("poodle\nspoon\n\naeroplane\n")
    code, out, _ = conjure_command("nearest", "puppy", "--candidates", path, "--steps", 2, "--samples", 4, "--json")
    plain = json.loads(out)
    assert (code, plain["ranked"][0]["text"], plain["text"]) == (0, "poodle", "puppy")
    code, out, _ = conjure_command("nearest", "puppy", "--candidates", path, "--steps", 2, "--samples", 2)
    assert code == 0
    assert "trajectories run" in out


def test_deprecated_names(simulate, default_process):
    simulate({"a": (1, 0.1), "b": (50, 0.1)}, 0)
    old_keywords: dict[str, Any] = {"among": ["b", "a"]}
    with pytest.warns(DeprecationWarning, match="among"):
        neighbours = nearest(default_process, "origin", samples=4, **old_keywords)
    assert neighbours == nearest(default_process, "origin", candidates=["b", "a"], samples=4)
    for owner, old_name, new_name in (
        (neighbours, "settled", "is_certain"),
        (neighbours, "sources", "trajectories_run"),
        (neighbours, "most_sources", "trajectories_max"),
        (neighbours, "identity", "fingerprint"),
        (neighbours.ranked[0], "out", "eliminated"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old_name} was renamed"):
            assert getattr(owner, old_name) == getattr(owner, new_name)

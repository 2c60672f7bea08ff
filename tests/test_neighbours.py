"""Neighbours: the ranking is that of the distances, what is given up is surely not wanted, and that saves samples."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import conjure
from conjure import InputError
from conjure.neighbours import _further, _rounds, nearest
from conjure.run import Measured, Source
from conjure.units import Level

AMONG = ["poodle", "aeroplane", "kitten", "spoon"]


@pytest.fixture
def drawn(monkeypatch, default):
    """Make sources answer with distances drawn from known ones: text -> (mean, spread), noise partly shared between texts."""

    def draw(truth: dict[str, tuple[float, float]], seed: int) -> SimpleNamespace:
        spent = SimpleNamespace(sources=0)

        def run_batches(process, sources, *, pictures, progress):
            spent.sources += len(sources)
            for source in sources:
                squared = np.array([[value(source, target)] for target in source.targets])
                yield [Measured(source, squared, (0.0,), (Level(1.0, 1.0),), torch.zeros(3), None)]

        def value(source: Source, other: str) -> float:
            candidate = other if source.text == "origin" else source.text
            mean, spread = truth[candidate]
            key = (seed, source.seed % 2**32)
            shared, own = (np.random.default_rng(words).normal() for words in (key, (*key, list(truth).index(candidate))))
            return (mean + spread * (0.7 * shared + 0.7 * own)) / 2  # half of it in either direction

        monkeypatch.setattr("conjure.similarity.run_batches", run_batches)
        return spent

    return draw


def test_ranking_is_that_of_the_distances(default):
    short = default.set(steps=2)
    found = nearest(short, "puppy", AMONG, samples=4)
    assert {one.text for one in found.ranked[:2]} == {"poodle", "kitten"}
    known = {other: conjure.distance(short, "puppy", other, samples=4) for other in AMONG}
    for one in found.ranked:
        assert one.distance == pytest.approx(known[one.text].distance, rel=1e-4)
        assert one.stderr == pytest.approx(known[one.text].stderr, rel=1e-3)
    assert [one.text for one in found.ranked] == sorted(AMONG, key=lambda text: known[text].distance)


def test_the_far_are_given_up(drawn, default):
    spent = drawn({"near": (10, 1), "next": (10.2, 1), "far": (60, 2), "further": (90, 2)}, 0)
    found = nearest(default, "origin", ["far", "near", "further", "next"], samples=64)
    samples = {one.text: one.samples for one in found.ranked}
    assert samples["far"] <= 8
    assert samples["further"] <= 8
    assert min(samples["near"], samples["next"]) >= 16
    assert [one.text for one in found.ranked][2:] == ["far", "further"]
    assert found.sources == spent.sources < found.most_sources * 0.7


def test_the_nearest_is_lost_no_more_often_than_promised(drawn, default):
    lost = settled = 0
    truth = {f"text {i}": (10 + 0.8 * i, 1.5) for i in range(5)}
    for seed in range(120):
        drawn(truth, seed)
        found = nearest(default, "origin", list(truth), samples=32, confidence=0.8)
        settled += found.settled
        lost += next(one for one in found.ranked if one.text == "text 0").out
    assert lost <= 120 * 0.2
    assert settled > 60


def test_top_of_several(drawn, default):
    drawn({f"text {i}": (10 * (i + 1), 0.5) for i in range(6)}, 1)
    found = nearest(default, "origin", [f"text {i}" for i in (5, 3, 1, 0, 2, 4)], top=3)
    assert [one.text for one in found.ranked][:3] == ["text 0", "text 1", "text 2"]
    assert found.settled
    assert [one.out for one in found.ranked] == [False] * 3 + [True] * 3


def test_a_noisy_text_does_not_drive_out_a_near_one(drawn, default):
    """It may stand before them by chance; they are not to be given up for being further than the first."""
    lost = 0
    for seed in range(100):
        drawn({"first": (10, 0.05), "second": (11, 0.05), "noisy": (14, 20)}, seed)
        found = nearest(default, "origin", ["first", "second", "noisy"], top=2, samples=16)
        lost += next(one for one in found.ranked if one.text == "second").out
    assert lost <= 5


def test_one_sample_tells_nothing(drawn, default):
    drawn({"a": (1, 0.1), "b": (50, 0.1)}, 0)
    found = nearest(default, "origin", ["b", "a"], samples=1)
    assert not found.settled
    assert [one.text for one in found.ranked] == ["a", "b"]
    assert found.to_dict()["ranked"][0]["stderr"] is None


def test_rounds_and_test():
    assert _rounds(32) == [4, 8, 16, 32]
    assert _rounds(3) == [3]
    assert _rounds(10) == [4, 8, 10]
    values = np.array([3.0, 3.1, 2.9, 3.0])
    others = np.stack([values - 2 + np.array([0, 0.1, 0, -0.1]), values[::-1], values + 2])
    assert _further(values, others, 0.01).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("among", "options", "told"),
    [
        ([], {}, "no texts"),
        (["a", "b", "a"], {}, "twice"),
        ("abc", {}, "lists of texts"),
        (["a", "b"], {"top": 3}, "from 1 to 2"),
        (["a", "b"], {"confidence": 1}, "between 0 and 1"),
        (["a", " "], {}, "blank"),
    ],
)
def test_refuses(default, among, options, told):
    with pytest.raises(InputError, match=told):
        nearest(default, "text", among, **options)


def test_command(conjure_command, tmp_path):
    file = tmp_path / "among.txt"
    file.write_text("poodle\nspoon\n\naeroplane\n")
    code, out, _ = conjure_command("nearest", "puppy", "--among", file, "--steps", 2, "--samples", 4, "--json")
    told = json.loads(out)
    assert (code, told["ranked"][0]["text"], told["text"]) == (0, "poodle", "puppy")
    code, out, _ = conjure_command("nearest", "puppy", "--among", file, "--steps", 2, "--samples", 2)
    assert code == 0
    assert "trajectories walked" in out

"""How many denoiser rows and text encodings a call needs. What several pairs share is evaluated once."""

from __future__ import annotations

import pytest

import conjure
from denoisers import record_batch_sizes

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default_process, tiny_sd) -> conjure.Process:
    return (default_process if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)).set(steps=3)


def test_a_pair_needs_six_rows_per_step(process, monkeypatch):
    """Two directions times the predictions without text and with either text."""
    batch_sizes = record_batch_sizes(process, monkeypatch)
    conjure.distance(process, A, B, samples=3)
    # At the first step both directions have the same noise, so they share all their rows
    assert batch_sizes == [3 * 3] + [3 * 6] * (process.steps - 1)


def test_without_guidance_a_pair_needs_four_rows_per_step(process, monkeypatch):
    batch_sizes = record_batch_sizes(process, monkeypatch)
    conjure.distance(process.set(guidance=1.0), A, B, samples=1)
    assert batch_sizes == [2] + [4] * (process.steps - 1)


def test_a_matrix_of_n_texts_needs_n_times_n_plus_one_rows_per_step(process, monkeypatch):
    """72 for eight texts, where the reference algorithm evaluates 336. The distances are those of single pairs."""
    texts = ["puppy", "poodle", "whale", "shark", "a red car", "pizza", "the sun", "a house"]
    with monkeypatch.context() as patch:
        batch_sizes = record_batch_sizes(process, patch)
        matrix = conjure.matrix(process.set(batch_size=1000), texts, samples=2)
    assert batch_sizes == [2 * 9] + [2 * 72] * (process.steps - 1)
    for i, j in ((0, 1), (2, 7), (5, 3)):
        estimate = conjure.distance(process, texts[i], texts[j], samples=2)
        assert matrix.distance[i, j] == matrix.distance[j, i] == pytest.approx(estimate.distance, rel=1e-5)
        assert matrix.raw_stderr[i, j] == matrix.raw_stderr[j, i] == pytest.approx(estimate.stderr, rel=1e-3)
    assert not matrix.distance.diagonal().any()


def test_antithetic_matrices_share_trajectories(process, monkeypatch):
    """Both signs of a trajectory are simulated and each evaluates its part of the texts.

    That is N (N - 1) + 4 N rows, without those of the two texts that sort first and last, which need only one sign.
    """
    texts = [f"thing {letter}" for letter in "abcde"]
    with monkeypatch.context() as patch:
        batch_sizes = record_batch_sizes(process, patch)
        matrix = conjure.matrix(process.set(batch_size=1000), texts, samples=1, antithetic=True)
    assert batch_sizes[-1] == 5 * 4 + 2 * 2 * 5 - 4
    estimate = conjure.distance(process, texts[3], texts[1], samples=1, antithetic=True)
    assert matrix.distance[3, 1] == pytest.approx(estimate.distance, rel=1e-5)


def test_texts_are_encoded_once_and_trajectories_simulated_once(process, monkeypatch):
    """Three pairs over three texts: three trajectories per sample, and three texts and the empty one to encode in total."""
    pairs = [(A, B), (B, "pizza"), ("pizza", A), (A, B)]
    single_pairs = [conjure.distance(process, *pair, samples=2).samples for pair in pairs]
    encoder, encoded = process.pipeline.text_encoder, list[int]()
    forward = encoder.forward

    def recording_forward(*args, **kwargs):
        encoded.append(len(args[0] if args else kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(encoder, "forward", recording_forward)
    batch_sizes = record_batch_sizes(process, monkeypatch)
    estimates = conjure.distances(process.set(batch_size=8), pairs, samples=2)
    assert encoded == [1] * 4
    assert sum(batch_sizes) <= 2 * 3 * 4 * process.steps
    assert [estimate.samples for estimate in estimates] == [pytest.approx(samples, rel=1e-5) for samples in single_pairs]
    assert estimates[2].texts == ("pizza", A)


def test_batch_size_limits_the_rows_of_a_call(process, monkeypatch):
    batch_sizes = record_batch_sizes(process, monkeypatch)
    conjure.matrix(process.set(batch_size=4), [A, B, "pizza", "a house", "a red car"], samples=1)
    assert max(batch_sizes) <= 4
    assert sum(batch_sizes) <= 5 * 6 * process.steps

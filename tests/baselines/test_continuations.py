"""Distances by continuations of a causal language model, compared with an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as t

from conjure import InputError
from conjure.baselines.continuations import ContinuationDistance
from tiny_language_models import save_gpt2

PAIRS = [("a red apple", "a green apple"), ("a red apple", "the moon"), ("the moon", "the moon")]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return str(save_gpt2(tmp_path_factory.mktemp("gpt2")))


def test_distances_equal_an_independent_loop(gpt2):
    """The reference takes one continuation at a time, without a cache, and its likelihood from the loss of transformers."""
    baseline = ContinuationDistance.load(gpt2, num_continuations=6, max_tokens=5, batch_size=4)
    tokenizer, model = t.AutoTokenizer.from_pretrained(gpt2), t.AutoModelForCausalLM.from_pretrained(gpt2).eval()

    def log_likelihood(text, tokens):
        prompt = tokenizer(text).input_ids
        token_ids = torch.tensor([prompt + tokens])
        labels = token_ids.clone()
        labels[0, : len(prompt)] = -100
        return -float(model(token_ids, labels=labels).loss.detach())

    def continuations(text):
        sampled = baseline.continuations(text)
        return [row[mask].tolist() for row, mask in zip(sampled.tokens, sampled.mask, strict=True)]

    for (a, b), distance in zip(PAIRS[:2], baseline.distances(PAIRS[:2]), strict=True):
        all_tokens = [tokens for text in (a, b) for tokens in continuations(text)]
        expected = np.mean([abs(log_likelihood(a, tokens) - log_likelihood(b, tokens)) for tokens in all_tokens])
        assert distance[0] == pytest.approx(expected, rel=1e-4)
    assert baseline.distances([("the moon", "the moon")])[0, 0] == pytest.approx(0, abs=1e-6)
    assert {len(tokens) for tokens in continuations("the moon")} <= set(range(1, 6))


def test_continuations_follow_the_model(gpt2):
    """First tokens, and second tokens after a cached step, have the frequencies that the model predicts. The mask ends with the
    end token."""
    baseline = ContinuationDistance.load(gpt2, num_continuations=4000, max_tokens=2)
    sampled = baseline.continuations("moon")
    tokenizer, model = baseline.tokenizer, baseline.model
    prompt = torch.tensor([tokenizer("moon").input_ids])
    first = model(prompt).logits[0, -1].detach().softmax(-1).numpy()
    counts = np.bincount(sampled.tokens[:, 0], minlength=len(first))
    np.testing.assert_allclose(counts / 4000, first, atol=4 * 0.5 / 4000**0.5)
    mode = int(counts.argmax())
    second = model(torch.cat([prompt, torch.tensor([[mode]])], 1)).logits[0, -1].detach().softmax(-1).numpy()
    after_mode = sampled.tokens[sampled.tokens[:, 0] == mode, 1]
    frequencies = np.bincount(after_mode, minlength=len(second)) / len(after_mode)
    np.testing.assert_allclose(frequencies, second, atol=4 * 0.5 / len(after_mode) ** 0.5)
    has_ended = sampled.tokens[:, 0] == tokenizer.eos_token_id
    assert not sampled.mask[has_ended, 1].any()
    assert sampled.mask[~has_ended, 1].all()


def test_continuations_depend_on_text_and_seed_only(gpt2):
    def distances(pairs, seed=0):
        return ContinuationDistance.load(gpt2, num_continuations=4, max_tokens=4, seed=seed).distances(pairs)

    expected = distances(PAIRS)
    np.testing.assert_allclose(distances(PAIRS[::-1])[::-1], expected, rtol=1e-5)
    assert not np.allclose(distances(PAIRS[:2], seed=1), expected[:2])


def test_text_longer_than_the_context_is_refused(gpt2):
    message = "has 402 tokens, and a continuation 20 more; .* takes at most 128; leave out this baseline"
    with pytest.raises(InputError, match=message):
        ContinuationDistance.load(gpt2).distances([("a " * 400, "moon")])


def test_keys_of_settings_are_those_of_existing_stores(gpt2):
    settings = ContinuationDistance.load(gpt2, seed=5).settings()
    assert settings.keys() == {"name", "weights", "number", "length", "seed"}
    assert {key: settings[key] for key in ("name", "number", "length", "seed")} == {
        "name": f"trajectories:{gpt2}", "number": 20, "length": 20, "seed": 5,
    }  # fmt: skip

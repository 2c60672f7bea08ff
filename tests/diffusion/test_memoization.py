"""Outputs that depend on texts only are computed at the first step, and all others at every step."""

from __future__ import annotations

import pytest
import torch

from conjure.diffusion.deduplication import deduplicate_rows
from conjure.diffusion.memoization import StaticInputCache


class CountingLinear(torch.nn.Linear):
    """A projection that counts its calls."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.num_calls = 0

    def forward(self, x):
        self.num_calls += 1
        return super().forward(x)


class Network(torch.nn.Module):
    """A denoiser with the structure of cross-attention: it embeds the text, projects it, and adds a projection of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.caption, self.key = CountingLinear(), CountingLinear(), CountingLinear()

    def forward(self, x, t, text, pooled):
        states = self.caption(text).view(len(x), -1, 4)
        return (self.image(x) + t[:, None] + self.key(states).mean(1) + pooled,)

    def reset_counts(self) -> None:
        self.image.num_calls = self.caption.num_calls = self.key.num_calls = 0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().eval().requires_grad_(False)


def run_steps(network, text, pooled, steps=5):
    """Return the outputs of several denoising steps, shape (steps, rows, 4)."""
    rows, outputs = len(text), []
    for step in range(steps):
        x = torch.full((rows, 4), float(step))
        outputs.append(network(x, torch.full((rows,), float(step)), text, pooled)[0])
    return torch.stack(outputs)


@pytest.mark.parametrize(("order", "max_rows"), [([0, 1, 2], None), ([0, 1, 0, 2, 1], None), ([0, 1, 0, 2, 1], 2)])
def test_texts_are_projected_once(network, order, max_rows, monkeypatch):
    # The check of independent rows calls the network too, again after each change of an attribute such as the counters
    monkeypatch.setattr("conjure.diffusion.deduplication.has_independent_rows", lambda *_: True)
    text, pooled = torch.randn(3, 7, 4)[order], torch.randn(3, 4)[order]
    expected = run_steps(network, text, pooled)
    network.reset_counts()
    with deduplicate_rows(network, max_rows):
        memoized = run_steps(network, text, pooled)
    chunks = 2 if max_rows else 1
    assert (network.image.num_calls, network.caption.num_calls, network.key.num_calls) == (5 * chunks, chunks, chunks)
    torch.testing.assert_close(memoized, expected, rtol=0, atol=1e-6)
    assert all("forward" not in vars(module) for module in network.modules())


def test_changed_texts_are_projected_again(network):
    """Some pipelines change texts in place, and a new tensor may have the address of a deleted one."""
    text, pooled = torch.randn(3, 7, 4), torch.randn(3, 4)
    with deduplicate_rows(network):
        before = run_steps(network, text, pooled, 2)
        text += 1
        after = run_steps(network, text, pooled, 2)
    torch.testing.assert_close(before, run_steps(network, text - 1, pooled, 2))
    torch.testing.assert_close(after, run_steps(network, text, pooled, 2))
    with deduplicate_rows(network):
        for shift in range(5):
            shifted = text + shift
            outputs = run_steps(network, shifted, pooled, 3)
            del shifted
            torch.testing.assert_close(outputs, run_steps(network, text + shift, pooled, 3))


def test_an_edited_output_is_computed_again(network):
    cache, text = StaticInputCache(), torch.randn(3, 4)
    expected = network.key(text)
    cache.register(text)
    with cache.memoized(network):
        network.key(text).mul_(2)
        torch.testing.assert_close(network.key(text), expected)


def test_inference_tensors_are_never_static(network):
    """Torch does not count their in-place changes."""
    with torch.inference_mode(), deduplicate_rows(network):
        text, pooled = torch.randn(3, 7, 4), torch.randn(3, 4)
        before = run_steps(network, text, pooled, 2)
        text += 1
        assert not torch.allclose(run_steps(network, text, pooled, 2), before)
    assert network.caption.num_calls == 4


def test_the_cache_is_bounded(network):
    text = torch.randn(3, 4)
    cache = StaticInputCache(max_bytes=text.nbytes)
    cache.register(text)
    network.reset_counts()
    with cache.memoized(network):
        for _ in range(3):
            network.caption(text)
            network.key(text)
    assert (network.caption.num_calls, network.key.num_calls) == (1, 3)


def test_compiled_modules_are_not_patched(network):
    """A new `forward` would make torch compile them again in every batch."""
    network.key._compiled_call_impl = network.key.forward
    with StaticInputCache().memoized(network):
        assert "forward" in vars(network.caption)
        assert "forward" not in vars(network.key)
    network._compiled_call_impl = network.forward  # the state after compile() of the network
    with StaticInputCache().memoized(network):
        assert "forward" not in vars(network.caption)
    network._compiled_call_impl = None
    network.forward = torch.compile(network.forward, backend="eager")
    with StaticInputCache().memoized(network):
        assert "forward" not in vars(network.caption)

"""Networks whose output for a row depends on its position or on the number of rows get whole batches."""

from __future__ import annotations

import itertools

import pytest
import torch

import conjure
from conjure.diffusion import row_independence
from conjure.diffusion.deduplication import deduplicate_rows
from conjure.diffusion.row_independence import runs_whole_batches
from conjure.pipeline_checks import CHECKS, _run_stock_pipeline
from tiny_pipelines import FAMILIES

A, B = "red apple", "green pear"


class ByRow(torch.nn.Module):
    def forward(self, x):
        return x * 2


class ByPosition(torch.nn.Module):
    def forward(self, x):
        first, second, third = x.chunk(3)
        return torch.cat([first, second, third * 2])


class ByNumber(torch.nn.Module):
    def forward(self, x):
        return x + len(x)


@pytest.mark.parametrize(("network", "is_whole"), [(ByRow(), False), (ByPosition(), True), (ByNumber(), True)])
@pytest.mark.parametrize("max_rows", [None, 2])
def test_dependent_rows_are_not_merged(network, is_whole, max_rows):
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [3.0], [4.0]])
    expected = network(x)
    with deduplicate_rows(network, max_rows):
        assert network(x).equal(expected)
    assert runs_whole_batches(network) is is_whole


def by_position(x, scale=2.0):
    *others, last = x.chunk(3)
    return torch.cat([*others, last * scale])


class Switched(torch.nn.Module):
    """A network whose behaviour an attribute, a hook or a method changes."""

    scale: float | torch.Tensor = 1.0

    def __init__(self):
        super().__init__()
        self.gate = torch.nn.Parameter(torch.zeros(1))
        self.inner = torch.nn.Identity()

    def forward(self, x):
        return by_position(self.inner(x), self.scale) + self.gate * torch.arange(len(x))[:, None]


CHANGES = {
    "forward of the module": lambda network, patch: setattr(network, "forward", by_position),
    "forward of the class": lambda network, patch: patch.setattr(Switched, "forward", lambda self, x: by_position(x)),
    "hook": lambda network, patch: network.inner.register_forward_hook(lambda module, arguments, output: by_position(output)),
    "attribute": lambda network, patch: setattr(network, "scale", 2.0),
    "tensor": lambda network, patch: setattr(network, "scale", torch.tensor(2.0)),
    "weight": lambda network, patch: torch.nn.init.ones_(network.gate),
}


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_the_verdict_is_found_again_after_a_change(change, monkeypatch):
    network, x = Switched(), torch.tensor([[1.0], [2.0], [3.0], [1.0], [2.0], [3.0]])
    with deduplicate_rows(network):
        assert network(x).equal(x)
    assert not runs_whole_batches(network)
    CHANGES[change](network, monkeypatch)
    expected = network(x)
    assert not expected.equal(x)
    with deduplicate_rows(network):
        assert network(x).equal(expected)
    assert runs_whole_batches(network)


def test_the_verdict_is_not_kept_where_behaviour_is_unknown():
    network, x = Switched(), torch.tensor([[1.0], [2.0], [3.0], [1.0], [2.0], [3.0]])
    is_changed = itertools.chain([False] * 2, itertools.repeat(True))  # one comparison of rows calls the network twice
    network.inner.register_forward_hook(lambda module, arguments, output: by_position(output) if next(is_changed) else output)
    for _ in range(2):
        with deduplicate_rows(network), torch.no_grad():
            network(x)
    assert runs_whole_batches(network)


def test_the_verdict_is_kept_for_equal_behaviour(monkeypatch):
    calls = []
    compare = row_independence._compare_rows

    def count(*arguments):
        calls.append(1)
        return compare(*arguments)

    monkeypatch.setattr(row_independence, "_compare_rows", count)
    network, x = Switched(), torch.tensor([[1.0], [1.0]])
    for _ in range(3):
        with deduplicate_rows(network), torch.no_grad():
            network(x)
    assert len(calls) == 1


@pytest.fixture(scope="module")
def pag():
    """A pipeline with perturbed-attention guidance."""
    return conjure.load(FAMILIES["Stable Diffusion PAG"].build(), steps=3, height=64, width=64)


@pytest.mark.parametrize("samples", [1, 2])
def test_perturbed_attention_guidance_matches_the_stock_pipeline(pag, samples):
    """The expected distance is the sum over both directions, from runs of the stock pipeline with one text each."""
    value = conjure.distance(pag, A, B, samples=samples).samples[0]
    expected = 0.0
    for source, target in ((A, B), (B, A)):
        own = _run_stock_pipeline(pag, source)
        other = _run_stock_pipeline(pag, target, own.states)
        expected += sum(float((a - b).square().sum()) for a, b in zip(own.predictions, other.predictions, strict=True)) / 3
    assert value == pytest.approx(expected, rel=1e-4)


def test_the_checks_report_that_rows_are_not_merged(pag):
    detail = CHECKS["batch size and other texts change nothing"](pag)[1]
    assert detail.endswith("predictions depend on the position or number of rows, so that equal rows are not merged")


def test_images_with_perturbed_attention_guidance(pag):
    assert conjure.explain(pag, A, B, samples=1).forward.x_t.shape == (3, 64, 64, 3)

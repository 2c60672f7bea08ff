"""Networks whose output for a row depends on its position or on the number of rows get whole batches."""

from __future__ import annotations

import pytest
import torch

import conjure
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

"""Rows are evaluated once, whatever the shape of the call, and the result is the same."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from conjure.once import distinct_rows, rows_once


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(4, 4)
        self.rows: list[int] = []

    def forward(self, x, t, *, text=None, extra=None, return_dict=False):
        self.rows.append(len(x))
        y = self.line(x) + t.reshape(-1, 1) + (0 if text is None else text.mean(1)) + (0 if extra is None else extra["size"])
        return Transformer2DModelOutput(sample=y) if return_dict else (y, "kept")


@pytest.mark.parametrize("return_dict", [False, True])
def test_same_values_fewer_rows(return_dict):
    torch.manual_seed(0)
    network = Network()
    x = torch.randn(3, 4)[[0, 0, 1, 2, 1]]
    text = torch.randn(2, 5, 4)[[0, 0, 1, 1, 1]]
    inputs = {"text": text, "extra": {"size": torch.ones(5, 4)}, "return_dict": return_dict}
    plain = network(x, torch.tensor(3.0), **inputs)[0]
    with rows_once(network):
        once = network(x, torch.tensor(3.0), **inputs)[0]
    torch.testing.assert_close(once, plain)
    assert network.rows == [5, 3]
    assert "forward" not in vars(network)


def test_rows_that_differ_in_anything_are_kept_apart():
    network = Network()
    x, t = torch.zeros(2, 4), torch.tensor([1.0, 2.0])
    with rows_once(network):
        y = network(x, t)[0]
    assert network.rows == [2]
    assert not y[0].equal(y[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_equal_rows_are_found_wherever_they_stand(dtype, width):
    rows = (torch.randn(9, width, generator=torch.Generator().manual_seed(width)) * 10).to(dtype)
    order = [4, 0, 4, 4, 8, 0, 2, 2, 4]
    found = distinct_rows([rows[order], torch.tensor(order)])
    assert found is not None
    kept, source = found
    assert kept.tolist() == [0, 1, 4, 6]
    assert source.tolist() == [0, 1, 0, 0, 2, 1, 3, 3, 0]


def test_not_a_number_is_equal_to_nothing():
    assert distinct_rows([torch.full((2, 3), torch.nan)]) is None


def test_patched_forward_comes_back():
    network = Network()
    original = network.forward
    network.forward = original  # type: ignore[method-assign]  # as hooks of accelerate put one on an instance
    with rows_once(network):
        network(torch.zeros(2, 4), torch.zeros(()))
    assert vars(network)["forward"] is original


def test_outputs_without_rows_are_left_alone():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return OrderedDict(rows=x * 2, note="text", scalar=x.sum())

    with rows_once(odd := Odd()):
        out = odd(torch.ones(3, 2))
    assert out["rows"].shape == (3, 2)
    assert (out["note"], float(out["scalar"])) == ("text", 2.0)

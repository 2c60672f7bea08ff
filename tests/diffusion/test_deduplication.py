"""Rows are evaluated once, whatever the shape of the call, and the result is the same."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from conjure.once import Encoded, rows_once


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


class Seeing(torch.nn.Module):
    """Answers with its input and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def forward(self, x, **others):
        self.asked.append(x)
        return (x,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_equal_rows_are_found_wherever_they_stand(dtype, width):
    rows = (torch.randn(9, width, generator=torch.Generator().manual_seed(width)) * 10).to(dtype)
    order = [4, 0, 4, 4, 8, 0, 2, 2, 4]
    with rows_once(network := Seeing()):
        answer = network(rows[order], which=torch.tensor(order))[0]
    assert network.asked[0].equal(rows[[4, 0, 8, 2]])
    assert answer.equal(rows[order])


def test_not_a_number_is_equal_to_nothing():
    with rows_once(network := Seeing()):
        network(torch.full((2, 3), torch.nan))
    assert len(network.asked[0]) == 2


def test_marks_that_collide_are_found_out(monkeypatch):
    monkeypatch.setattr("conjure.once._marks", lambda rows: torch.zeros(len(rows), dtype=torch.int64))
    with rows_once(network := Seeing()):
        assert network(x := torch.randn(3, 2))[0].equal(x)
    assert len(network.asked[0]) == 3


def test_texts_changed_in_place_are_seen_again():
    with rows_once(network := Seeing()):
        x, text = torch.zeros(2, 1), torch.zeros(2, 4)
        network(x, text=text)
        network(x, text=text)
        text[1] += 1
        network(x, text=text)
    assert [len(asked) for asked in network.asked] == [1, 1, 2]


def test_lists_whose_items_change_are_seen_again():
    with rows_once(network := Seeing()):
        rows = [torch.zeros(2), torch.zeros(2)]
        network(rows)
        rows[1] = torch.ones(2)
        assert network(rows)[0][1].tolist() == [1, 1]


def test_inference_tensors_have_no_versions():
    with torch.inference_mode(), rows_once(network := Seeing()):
        x = torch.zeros(2, 1)
        network(x)
        x[1] += 1
        network(x)
    assert [len(asked) for asked in network.asked] == [1, 2]


@pytest.mark.parametrize("at_most", [1, 2, 3, 4, 5])
def test_many_rows_are_taken_in_turns(at_most):
    x = torch.arange(5.0)[[0, 1, 2, 2, 3, 4, 0], None]
    with rows_once(network := Seeing(), at_most):
        assert network(x)[0].equal(x)
    sizes = [len(asked) for asked in network.asked]
    assert sum(sizes) == 5
    assert max(sizes) <= at_most
    assert max(sizes) - min(sizes) <= 1


def test_rows_as_lists_of_tensors():
    """As Z-Image passes pictures and texts of any length."""
    rows = [torch.full((2, 3), 1.0), torch.full((4, 3), 2.0), torch.full((2, 3), 1.0)]
    with rows_once(network := Seeing(), 1):
        answer = network(rows, t=torch.zeros(3))[0]
    assert [len(asked) for asked in network.asked] == [1, 1]
    assert all(one.equal(other) for one, other in zip(answer, rows, strict=True))


def test_positions_are_no_rows():
    with rows_once(network := Seeing()):
        network(torch.zeros(3, 2), txt_ids=(ids := torch.arange(3)[:, None]), freqs_cis=ids)
    assert len(network.asked[0]) == 1


def test_texts_are_encoded_once_and_alone():
    encoded, encoder = Encoded(), Network()
    words, t = torch.randn(3, 4), torch.tensor(1.0)
    plain = encoder(words, t)[0]
    encoder.rows.clear()
    for _ in range(2):
        with encoded.texts_once(encoder, "text_encoder"):
            once = encoder(words[[0, 1, 0, 2]], t)
        torch.testing.assert_close(once[0], plain[[0, 1, 0, 2]])
        assert once[1] == "kept"
    assert encoder.rows == [1, 1, 1]
    with encoded.texts_once(encoder, "text_encoder"):
        encoder(words[:1], torch.tensor(2.0))
    with encoded.texts_once(encoder, "text_encoder_2"):
        encoder(words[:1], t)
    assert encoder.rows == [1, 1, 1, 1, 1]


def test_memory_of_texts_is_bounded():
    encoded, encoder = Encoded(limit=100), Seeing()
    words = torch.randn(50, 4)
    with encoded.texts_once(encoder, "text_encoder"):
        for row in words:
            assert encoder(row[None])[0].equal(row[None])
        assert encoded.size <= 100
        assert encoder(words)[0].equal(words)  # more than it may keep
    assert encoded.size <= 100
    assert encoded.size == sum(16 for _ in encoded.rows)


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

"""Equal rows are evaluated once, whatever the structure of the call, and the outputs are those of the network."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from conjure.diffusion.deduplication import TextEmbeddingCache, deduplicate_rows


@pytest.fixture(autouse=True)
def _without_check_of_rows(monkeypatch):
    """Leave out the check of the rows, which calls the network twice more (see test_row_independence.py)."""
    monkeypatch.setattr("conjure.diffusion.deduplication.has_independent_rows", lambda *_: True)


class Network(torch.nn.Module):
    """A network with the calling convention of diffusers that records the number of rows of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.num_rows: list[int] = []

    def forward(self, x, t, *, text=None, extra=None, return_dict=False):
        self.num_rows.append(len(x))
        y = self.linear(x) + t.reshape(-1, 1) + (0 if text is None else text.mean(1)) + (0 if extra is None else extra["size"])
        return Transformer2DModelOutput(sample=y) if return_dict else (y, "unchanged")


class Identity(torch.nn.Module):
    """Returns its input, and records it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Any] = []

    def forward(self, x, **others):
        self.inputs.append(x)
        return (x,)


@pytest.mark.parametrize("return_dict", [False, True])
def test_same_outputs_from_fewer_rows(return_dict):
    torch.manual_seed(0)
    network = Network()
    x = torch.randn(3, 4)[[0, 0, 1, 2, 1]]
    text = torch.randn(2, 5, 4)[[0, 0, 1, 1, 1]]
    inputs = {"text": text, "extra": {"size": torch.ones(5, 4)}, "return_dict": return_dict}
    expected = network(x, torch.tensor(3.0), **inputs)[0]
    with deduplicate_rows(network):
        deduplicated = network(x, torch.tensor(3.0), **inputs)[0]
    torch.testing.assert_close(deduplicated, expected)
    assert network.num_rows == [5, 3]
    assert "forward" not in vars(network)


def test_rows_that_differ_in_one_input_are_both_evaluated():
    network = Network()
    x, t = torch.zeros(2, 4), torch.tensor([1.0, 2.0])
    with deduplicate_rows(network):
        y = network(x, t)[0]
    assert network.num_rows == [2]
    assert not y[0].equal(y[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_equal_rows_are_detected_in_any_order(dtype, width):
    rows = (torch.randn(9, width, generator=torch.Generator().manual_seed(width)) * 10).to(dtype)
    order = [4, 0, 4, 4, 8, 0, 2, 2, 4]
    with deduplicate_rows(network := Identity()):
        output = network(rows[order], which=torch.tensor(order))[0]
    assert network.inputs[0].equal(rows[[4, 0, 8, 2]])
    assert output.equal(rows[order])


def test_nan_rows_are_never_equal():
    with deduplicate_rows(network := Identity()):
        network(torch.full((2, 3), torch.nan))
    assert len(network.inputs[0]) == 2


def test_rows_with_equal_hashes_are_compared(monkeypatch):
    monkeypatch.setattr("conjure.diffusion.deduplication._row_hashes", lambda rows: torch.zeros(len(rows), dtype=torch.int64))
    with deduplicate_rows(network := Identity()):
        assert network(x := torch.randn(3, 2))[0].equal(x)
    assert len(network.inputs[0]) == 3


def test_in_place_changes_of_texts_are_detected():
    with deduplicate_rows(network := Identity()):
        x, text = torch.zeros(2, 1), torch.zeros(2, 4)
        network(x, text=text)
        network(x, text=text)
        text[1] += 1
        network(x, text=text)
    assert [len(x) for x in network.inputs] == [1, 1, 2]


def test_replaced_items_of_lists_are_detected():
    with deduplicate_rows(network := Identity()):
        rows = [torch.zeros(2), torch.zeros(2)]
        network(rows)
        rows[1] = torch.ones(2)
        assert network(rows)[0][1].tolist() == [1, 1]


def test_inference_tensors_are_compared_in_every_call():
    """Torch does not count their in-place changes."""
    with torch.inference_mode(), deduplicate_rows(network := Identity()):
        x = torch.zeros(2, 1)
        network(x)
        x[1] += 1
        network(x)
    assert [len(x) for x in network.inputs] == [1, 2]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 4, 5])
def test_rows_are_evaluated_in_chunks_of_similar_size(max_rows):
    x = torch.arange(5.0)[[0, 1, 2, 2, 3, 4, 0], None]
    with deduplicate_rows(network := Identity(), max_rows):
        assert network(x)[0].equal(x)
    sizes = [len(chunk) for chunk in network.inputs]
    assert sum(sizes) == 5
    assert max(sizes) <= max_rows
    assert max(sizes) - min(sizes) <= 1


def test_lists_of_tensors_count_as_rows():
    """Z-Image passes latents and texts of different lengths as lists."""
    rows = [torch.full((2, 3), 1.0), torch.full((4, 3), 2.0), torch.full((2, 3), 1.0)]
    with deduplicate_rows(network := Identity(), 1):
        outputs = network(rows, t=torch.zeros(3))[0]
    assert [len(chunk) for chunk in network.inputs] == [1, 1]
    assert all(output.equal(row) for output, row in zip(outputs, rows, strict=True))


def test_positions_do_not_count_as_rows():
    with deduplicate_rows(network := Identity()):
        network(torch.zeros(3, 2), txt_ids=(ids := torch.arange(3)[:, None]), freqs_cis=ids)
    assert len(network.inputs[0]) == 1


def test_outputs_without_rows_are_returned_unchanged():
    class MixedOutput(torch.nn.Module):
        def forward(self, x):
            return OrderedDict(rows=x * 2, note="text", scalar=x.sum())

    with deduplicate_rows(network := MixedOutput()):
        output = network(torch.ones(3, 2))
    assert output["rows"].shape == (3, 2)
    assert (output["note"], float(output["scalar"])) == ("text", 2.0)


def test_forward_of_an_instance_is_restored():
    network = Network()
    original = network.forward
    network.forward = original  # type: ignore[method-assign]  # hooks of accelerate set the method of an instance
    with deduplicate_rows(network):
        network(torch.zeros(2, 4), torch.zeros(()))
    assert vars(network)["forward"] is original


def test_each_text_is_encoded_once_and_by_itself():
    cache, encoder = TextEmbeddingCache(), Network()
    texts, t = torch.randn(3, 4), torch.tensor(1.0)
    expected = encoder(texts, t)[0]
    encoder.num_rows.clear()
    for _ in range(2):
        with cache.cached_encoder(encoder, "text_encoder"):
            output = encoder(texts[[0, 1, 0, 2]], t)
        torch.testing.assert_close(output[0], expected[[0, 1, 0, 2]])
        assert output[1] == "unchanged"
    assert encoder.num_rows == [1, 1, 1]
    with cache.cached_encoder(encoder, "text_encoder"):
        encoder(texts[:1], torch.tensor(2.0))
    with cache.cached_encoder(encoder, "text_encoder_2"):
        encoder(texts[:1], t)
    assert encoder.num_rows == [1, 1, 1, 1, 1]


def test_the_text_embedding_cache_is_bounded():
    cache, encoder = TextEmbeddingCache(max_bytes=100), Identity()
    texts = torch.randn(50, 4)
    with cache.cached_encoder(encoder, "text_encoder"):
        for text in texts:
            assert encoder(text[None])[0].equal(text[None])
        assert cache.size <= 100
        assert encoder(texts)[0].equal(texts)  # one call with more texts than fit into the cache
    assert cache.size <= 100
    assert cache.size == 16 * len(cache.entries)

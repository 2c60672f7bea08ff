"""A compiled denoiser receives the same number of rows in every call, and is compiled where that pays."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import conjure
from conjure.diffusion.compilation import CALL_NUMBERS, MAX_ROWS, MIN_ROWS, compile_denoiser, constant_rows, optimize_denoiser
from conjure.diffusion.deduplication import deduplicate_rows
from conjure.diffusion.process import Process
from conjure.engine.forecast import COMPILATION_PAYS, Forecast, compile_if_it_pays
from denoisers import record_batch_sizes


class Network(torch.nn.Module):
    """A network that records the number of rows of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.num_rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.num_rows.append(len(x))
        return self.linear(x)


def mark_as_compiled(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring a module into the state after its `compile`, without the compiler."""
    monkeypatch.setattr(module, "_compiled_call_impl", module.forward)


@pytest.mark.parametrize(("num_rows", "chunks"), [(2, [4]), (4, [4]), (5, [4, 4]), (8, [4, 4]), (9, [4, 4, 4])])
def test_calls_are_filled_up(monkeypatch, num_rows, chunks):
    monkeypatch.setattr("conjure.diffusion.deduplication.has_independent_rows", lambda *_: True)
    network, x = Network(), torch.randn(num_rows, 4)
    expected = network.linear(x)
    mark_as_compiled(network.linear, monkeypatch)
    with deduplicate_rows(network, max_rows=4), torch.no_grad():
        torch.testing.assert_close(network(x), expected)
    assert network.num_rows == chunks


def test_number_of_rows():
    assert constant_rows(torch.zeros(2, 4, 64, 64), None) == 16
    assert constant_rows(torch.zeros(2, 4, 64, 64), 5) == 5
    assert constant_rows([torch.zeros(4, 128, 128)], None) == MIN_ROWS
    assert constant_rows(torch.zeros(2, 1), None) == MAX_ROWS < CALL_NUMBERS


def test_distances_have_one_shape_and_the_same_numbers(default_process, monkeypatch):
    """All steps and batches, also the last, smaller one."""
    process = default_process.set(steps=2, batch_size=16)
    expected = conjure.distance(process, "sun", "moon", samples=3)
    num_rows = record_batch_sizes(process, monkeypatch)
    mark_as_compiled(process.pipeline.transformer.transformer_blocks[0], monkeypatch)
    estimate = conjure.distance(process, "sun", "moon", samples=3)
    assert set(num_rows) == {16}
    assert estimate.samples == pytest.approx(expected.samples, rel=1e-4)


@pytest.mark.slow
def test_other_shapes_are_not_compiled(tiny_sd):
    """The check that rows are independent evaluates fewer rows. It runs without the compiled code."""
    process = conjure.load(tiny_sd, steps=2, compile=False).set(batch_size=16)
    expected = conjure.distance(process, "sun", "moon", samples=3)
    num_rows: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        num_rows.extend(len(value) for value in inputs if isinstance(value, torch.Tensor) and value.ndim == 3)
        return graph.forward

    compiled = conjure.load(tiny_sd, steps=2, compile=False).set(batch_size=16)
    for block in compiled.pipeline.unet.modules():
        if type(block).__name__ == "BasicTransformerBlock":
            block.compile(backend=backend, dynamic=False)
    assert conjure.distance(compiled, "sun", "moon", samples=3).samples == pytest.approx(expected.samples, rel=1e-4)
    assert set(num_rows) - {1} == {16}


class Denoiser:
    """Counts how often it is compiled."""

    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def compile_repeated_blocks(self, **options: Any) -> None:
        self.options.append(options)


class Pipeline:
    def __init__(self, device: str = "cpu") -> None:
        self._execution_device = torch.device(device)
        self.denoiser = self.unet = Denoiser()


@pytest.mark.parametrize(
    ("device", "seconds", "compile", "is_compiled"),
    [
        ("cuda", COMPILATION_PAYS + 1, None, True),
        ("cuda", COMPILATION_PAYS - 1, None, False),
        ("cuda", None, None, False),  # a short run has no forecast
        ("cpu", COMPILATION_PAYS + 1, None, False),
        ("cuda", COMPILATION_PAYS + 1, False, False),
    ],
)
def test_automatic_choice(monkeypatch, device, seconds, compile, is_compiled):
    monkeypatch.setattr(os, "environ", {})
    pipeline = Pipeline(device)
    optimize_denoiser(pipeline, compile, channels_last=False)
    process = object.__new__(Process)  # without the checks of a pipeline that runs
    object.__setattr__(process, "pipeline", pipeline)
    expected = None if seconds is None else Forecast(seconds, 0)
    assert compile_if_it_pays(process, expected) is is_compiled
    assert pipeline.denoiser.options == [{"dynamic": False}] * is_compiled
    assert not compile_if_it_pays(process, expected)  # once


def test_results_of_the_compiler_are_kept(monkeypatch, tmp_path):
    variables = {"XDG_CACHE_HOME": str(tmp_path)}
    monkeypatch.setattr(os, "environ", variables)
    compile_denoiser(Pipeline())
    assert variables["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "conjure" / "compiled")
    variables["TORCHINDUCTOR_CACHE_DIR"] = "chosen by the user"
    compile_denoiser(Pipeline())
    assert variables["TORCHINDUCTOR_CACHE_DIR"] == "chosen by the user"

"""Networks whose output for a row depends on its position or on the number of rows get whole batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

import conjure
from conjure.diffusion import row_independence
from conjure.diffusion.deduplication import deduplicate_rows
from conjure.diffusion.pipeline_patching import needs_single_rows
from conjure.diffusion.row_independence import runs_whole_batches
from conjure.pipeline_checks import CHECKS, _run_stock_pipeline
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.added_code

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


@pytest.fixture
def tiny(tiny_sd):
    return conjure.load(tiny_sd, steps=4, height=64, width=64, scheduler="ddim")


def stock_distance(process):
    """Return the distance from runs of the stock pipeline with one text each."""
    total = 0.0
    for source, target in ((A, B), (B, A)):
        own = _run_stock_pipeline(process, source)
        other = _run_stock_pipeline(process, target, own.states)
        total += sum(float((a - b).square().sum()) for a, b in zip(own.predictions, other.predictions, strict=True))
    return total / process.steps


def change(output, function):
    return (function(output[0]), *output[1:]) if isinstance(output, tuple) else function(output)


def later_half(x):
    first, last = x.chunk(2)
    return torch.cat([first, 1.5 * last])


def counting_hook():
    """Return a hook that changes its output in the second half of a run of four steps, as caches of steps do."""
    calls = itertools.count()
    return lambda module, arguments, output: change(output, lambda x: 1.5 * x if next(calls) % 4 >= 2 else x)


def timed_hook(module, arguments, keywords, output):
    timestep = arguments[1] if len(arguments) > 1 else keywords["timestep"]
    return change(output, later_half) if float(torch.as_tensor(timestep).flatten()[0]) < 500 else output


HOOKS = {
    "mean of the rows": lambda module, arguments, output: change(output, lambda x: x + x.mean(0, keepdim=True)),
    "first row": lambda module, arguments, output: change(output, lambda x: x + x[:1]),
    "position": lambda module, arguments, output: change(output, lambda x: later_half(x) if len(x) % 2 == 0 else x),
    "counter": counting_hook(),
    "harmless": lambda module, arguments, output: change(output, lambda x: 1.1 * x),
}


@pytest.mark.filterwarnings("ignore::conjure.errors.UnknownBehaviorWarning")  # of the counter
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("part", ["", "conv_in"])
def test_networks_with_hooks_are_called_as_the_stock_pipeline_calls_them(tiny, part, hook, guidance):
    process = tiny.set(guidance=guidance)
    with process.pipeline.unet.get_submodule(part).register_forward_hook(HOOKS[hook]):
        expected = stock_distance(process)
        for samples in (1, 3):
            assert conjure.distance(process, A, B, samples=samples).samples[0] == pytest.approx(expected, rel=1e-4)
        assert conjure.matrix(process, [A, B, "blue sea"], samples=1).distance[0, 1] == pytest.approx(expected, rel=1e-4)
    assert not needs_single_rows(process.pipeline)
    after = conjure.distance(process, A, B, samples=1).samples[0]
    assert after == pytest.approx(stock_distance(process), rel=1e-4)


def test_hooks_that_begin_at_a_later_step(tiny):
    process = tiny.set(guidance=3.0)
    before = stock_distance(process)
    with process.pipeline.unet.register_forward_hook(timed_hook, with_kwargs=True):
        expected = stock_distance(process)
        assert expected != pytest.approx(before, rel=1e-2)
        assert conjure.distance(process, A, B, samples=2).samples[0] == pytest.approx(expected, rel=1e-4)


def test_a_drift_of_a_network_with_hooks_does_not_depend_on_the_batch(tiny, tiny_sd):
    other = conjure.load(tiny_sd, steps=4, height=64, width=64, scheduler="ddim")
    with other.pipeline.unet.register_forward_hook(HOOKS["mean of the rows"]):
        together = conjure.drift(tiny, other, [A, B], samples=2)
        alone = conjure.drift(tiny, other, [A], samples=1)
    (text,) = (text for text in together.texts if text.text == A)
    assert text.samples[0] == pytest.approx(alone.texts[0].samples[0], rel=1e-4)


@pytest.mark.parametrize("name", ["Stable Diffusion 1.x", "Flux dev", "Stable Diffusion PAG"])
def test_stock_networks_are_batched(name):
    family = FAMILIES[name]
    assert not needs_single_rows(conjure.load(family.build(), steps=2, **family.settings).pipeline)


def test_replaced_functions_and_processors_need_single_rows(tiny, monkeypatch):
    class Processor(AttnProcessor2_0):
        def __call__(self, attention, hidden_states, *arguments, **options):
            return super().__call__(attention, hidden_states, *arguments, **options)

    stock = tiny.pipeline.unet.attn_processors
    tiny.pipeline.unet.set_attn_processor(Processor())
    assert needs_single_rows(tiny.pipeline)
    tiny.pipeline.unet.set_attn_processor(stock)
    assert not needs_single_rows(tiny.pipeline)
    silu = torch.nn.functional.silu
    monkeypatch.setattr(torch.nn.functional, "silu", lambda x, inplace=False: silu(x, inplace))
    assert needs_single_rows(tiny.pipeline)

"""Behaviour outside the weights changes the fingerprint; where it cannot be hashed, results are not stored."""

from __future__ import annotations

import inspect
import itertools
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.hooks import RemovableHandle

import conjure
from conjure.diffusion import fingerprint
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.errors import InputError, UnknownBehaviorWarning
from conjure.evaluation.pair_files import read_file
from rated_pairs import write_pairs
from tiny_pipelines import FAMILIES

TEXTS = ("red apple", "green pear")


def tiny_process(name="Stable Diffusion 1.x"):
    family = FAMILIES[name]
    return conjure.load(family.build(), steps=3, **family.settings)


def measure(process):
    return conjure.distance(process, *TEXTS, samples=1).distance


def check_stored(process, folder, variants):
    """Each variant has its own fingerprint, and its own distance, which a store returns too."""
    stored = process.set(store=conjure.Store(folder / "s.sqlite"))
    distances, fingerprints = [], []
    for change in variants:
        change(process.pipeline)
        fingerprints.append(process.fingerprint())
        distances.append(measure(process))
        assert process.fingerprint() == fingerprints[-1]
        assert measure(stored) == measure(stored) == distances[-1]
    assert len(set(distances)) == len(set(fingerprints)) == len(variants)
    return distances


def test_freeu_is_part_of_the_fingerprint(tmp_path):
    distances = check_stored(
        tiny_process(),
        tmp_path,
        [
            lambda pipeline: None,
            lambda pipeline: pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6),
            lambda pipeline: pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
        ],
    )
    assert distances[0] == pytest.approx(231.7096, rel=1e-3)


def add_adapters(pipeline):
    from peft import LoraConfig

    for seed, name in enumerate("ab"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of every second adapter
            pipeline.unet.add_adapter(
                LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False), adapter_name=name
            )
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in pipeline.unet.named_parameters():
            if f".{name}." in key:
                parameter.data.normal_(std=0.3, generator=generator)
    pipeline.unet.eval()


def test_active_adapters_are_part_of_the_fingerprint(tmp_path):
    process = tiny_process()
    add_adapters(process.pipeline)
    check_stored(
        process,
        tmp_path,
        [
            lambda pipeline: pipeline.unet.set_adapters("a"),
            lambda pipeline: pipeline.unet.set_adapters("b"),
            lambda pipeline: pipeline.unet.set_adapters(["a", "b"]),
            lambda pipeline: pipeline.unet.set_adapters(["a", "b"], [1.0, 0.5]),
            lambda pipeline: pipeline.unet.disable_adapters(),
        ],
    )


class Scaled:
    """A processor of attention that no library knows."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **options):
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        return self.factor * attn.to_v(states).mean(1, keepdim=True).expand(-1, hidden_states.shape[1], -1)


def scaling_hook(factor):
    return lambda module, arguments, output: output * factor


def test_processors_hooks_and_functions_are_part_of_the_fingerprint(tmp_path):
    process = tiny_process()
    unet = process.pipeline.unet
    handles: list[RemovableHandle] = []
    original = unet.attn_processors

    def hook(factor):
        def change(pipeline):
            unet.set_attn_processor(dict(original))
            for handle in handles:
                handle.remove()
            handles[:] = [unet.conv_in.register_forward_hook(scaling_hook(factor))]

        return change

    def replace_forward(pipeline):
        handles[0].remove()
        unet.conv_in.forward = lambda states: torch.nn.Conv2d.forward(unet.conv_in, states) * 0.7

    variants = [
        lambda pipeline: unet.set_attn_processor(Scaled(0.5)),
        lambda pipeline: unet.set_attn_processor(Scaled(2.0)),
        hook(1.1),
        hook(1.2),
        replace_forward,
    ]
    check_stored(process, tmp_path, variants)


def test_a_patched_class_is_part_of_the_fingerprint(monkeypatch):
    """Token merging replaces the class of blocks; other patches replace a method of a class of diffusers."""
    process = tiny_process()
    before = process.fingerprint()
    block = next(module for module in process.pipeline.unet.modules() if type(module).__name__ == "BasicTransformerBlock")
    original = type(block)

    class Merged(original):  # type: ignore[valid-type, misc]
        def forward(self, hidden_states, *args, **kwargs):
            return super().forward(hidden_states * 0.5, *args, **kwargs)

    block.__class__ = Merged
    assert process.fingerprint() != before
    block.__class__ = original
    assert process.fingerprint() == before
    forward = original.forward
    monkeypatch.setattr(original, "forward", lambda self, states, *args, **kwargs: forward(self, states * 2, *args, **kwargs))
    assert process.fingerprint() != before


def test_layerwise_casting_is_part_of_the_fingerprint():
    process = tiny_process()
    before = process.fingerprint()
    process.pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    first = process.fingerprint()
    measure(process)
    assert process.fingerprint() == first != before


class ScaledConv(torch.nn.Conv2d):
    """A convolution with values outside of its parameters and buffers."""

    scale: torch.Tensor
    tables: dict[str, torch.Tensor]
    parts: list[torch.nn.Linear]

    def forward(self, states):
        return super().forward(states) * self.scale * self.tables["scale"][0] * self.parts[0].weight.mean()


def test_tensors_that_are_plain_attributes_are_part_of_the_fingerprint(tmp_path):
    process = tiny_process().set(steps=1)
    conv = process.pipeline.unet.conv_in
    conv.__class__ = ScaledConv
    part = torch.nn.Linear(1, 1, bias=False)
    part.weight.data.fill_(1.0)
    conv.scale, conv.tables, conv.parts = torch.tensor(1.0), {"scale": [torch.tensor(1.0)]}, [part]

    def edit(tensor, value):
        return lambda pipeline: tensor.data.fill_(value)

    variants = [
        lambda pipeline: None,
        lambda pipeline: setattr(conv, "scale", torch.tensor(1.1)),
        lambda pipeline: conv.scale.fill_(1.2),
        lambda pipeline: setattr(conv, "scale", np.float32(1.3)),
        edit(conv.tables["scale"][0], 1.4),
        edit(part.weight, 1.5),
    ]
    check_stored(process, tmp_path, variants)


def test_weights_of_a_network_in_a_hook_are_part_of_the_fingerprint():
    process = tiny_process()
    extra = torch.nn.Linear(1, 1)
    process.pipeline.unet.conv_in.register_forward_hook(lambda module, arguments, output: output * extra.weight)
    before = process.fingerprint()
    with torch.no_grad():
        extra.weight += 1
    assert process.fingerprint() != before


def test_a_network_that_two_attributes_refer_to():
    """The order of networks of a pipeline in a list counts, and a network may refer to itself."""
    process = tiny_process()
    unet = process.pipeline.unet
    unet.chosen = {"blocks": [unet.conv_in, unet.conv_out, unet]}
    before = process.fingerprint()
    unet.chosen["blocks"].reverse()
    assert process.fingerprint() != before


def check_computed_attributes(name):
    process = tiny_process(name).set(pipeline_kwargs=FAMILIES[name].pipeline_kwargs)
    before = process.fingerprint()
    measure(process)
    conjure.explain(process, *TEXTS, samples=1)
    fingerprint._cached_fingerprints.clear()
    assert process.fingerprint() == before


@pytest.mark.parametrize("name", ["Qwen-Image", "Z-Image"])
def test_what_a_run_computes_does_not_change_the_fingerprint(name):
    """Z-Image computes rotary tables when it is first called, and the autoencoder of Qwen-Image has a cache."""
    check_computed_attributes(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_run_of_any_family_computes_does_not_change_the_fingerprint(name):
    check_computed_attributes(name)


def test_rotary_tables_are_part_of_the_fingerprint():
    process, unchanged = tiny_process("Qwen-Image"), tiny_process("Qwen-Image")
    assert process.fingerprint() == unchanged.fingerprint()
    positions = process.pipeline.transformer.pos_embed
    positions.pos_freqs = positions.pos_freqs**2
    assert process.fingerprint() != unchanged.fingerprint()
    assert measure(process) != measure(unchanged)


def test_replaced_methods_of_a_scheduler_are_part_of_the_fingerprint():
    """They change generated images. Distances cannot be measured with them, and are not measured without them."""
    process = tiny_process()
    before, latents = process.fingerprint(), process.run(["a"], [0])
    step = process.scheduler.step

    def half_step(prediction, *arguments, **keywords):
        return step(prediction * 0.5, *arguments, **keywords)

    half_step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    process.scheduler.step = half_step
    assert process.fingerprint() != before
    assert not process.run(["a"], [0]).equal(latents)
    with pytest.raises(InputError, match=r"the scheduler has replaced methods \(step\)"):
        measure(process)
    del process.scheduler.step
    assert measure(process) > 0
    process.pipeline.scheduler.step = half_step
    with pytest.raises(InputError, match=r"the scheduler has replaced methods \(step\)"):
        conjure.load(process.pipeline)
    assert process.fingerprint() == before


def test_the_fingerprint_is_not_computed_while_a_run_replaces_parts():
    process = tiny_process()
    before = process.fingerprint()
    with ThreadPoolExecutor() as executor, process.patched_pipeline(TextEmbeddingCache()):
        result = executor.submit(process.fingerprint)
        wait([result], timeout=0.5)
        assert not result.done()
    assert result.result() == before


def test_weights_without_counted_edits():
    """Torch does not count edits of weights that were made in inference mode."""
    with torch.inference_mode():
        process = tiny_process()
        assert next(process.pipeline.unet.parameters()).is_inference()
        assert process.fingerprint() == tiny_process().fingerprint()
        assert measure(process) > 0


def counting_hook():
    """Return a hook with state that cannot be read."""
    numbers = itertools.count(1)
    return lambda module, arguments, output: output * next(numbers) ** 0


def test_results_are_not_stored_where_behaviour_is_unknown(tmp_path):
    process = tiny_process()
    process.pipeline.unet.conv_in.register_forward_hook(counting_hook())
    with pytest.warns(UnknownBehaviorWarning, match=r"unet\.conv_in, forward hook: itertools.count") as caught:
        process.fingerprint()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownBehaviorWarning)
        assert measure(process) > 0
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("text1\ttext2\tscore\na\tb\t1\na\tc\t2\nb\tc\t3\n")
    tasks = read_file(pairs)
    with pytest.raises(InputError, match=r"results cannot be stored.*unet\.conv_in"):
        measure(process.set(store=conjure.Store(tmp_path / "s.sqlite")))
    with pytest.raises(InputError, match=r"results cannot be stored.*unet\.conv_in"):
        conjure.evaluate(process, [tasks], samples=1, out=tmp_path / "run")
    assert not Path(tmp_path / "run").exists()


def test_step_caches_are_not_stored(tmp_path):
    from diffusers import FirstBlockCacheConfig

    process = tiny_process("Flux schnell")
    process.pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    with pytest.warns(UnknownBehaviorWarning, match="cache of steps"):
        process.fingerprint()
    with pytest.raises(InputError, match="cache of steps"):
        process.storable_fingerprint()


@pytest.fixture
def uncovered():
    """A process with a hook that cannot be hashed."""
    process = tiny_process().set(steps=2)
    process.pipeline.unet.conv_in.register_forward_hook(counting_hook())
    with pytest.warns(UnknownBehaviorWarning):
        process.fingerprint()
    return process


REFUSED = r"results cannot be stored, because the fingerprint does not cover unet\.conv_in"


def test_an_ablation_is_not_stored_where_behaviour_is_unknown(uncovered, tmp_path):
    pairs = read_file(write_pairs(tmp_path / "pairs.tsv", [("a", "b", 1), ("a", "c", 2), ("b", "c", 3)]))
    with pytest.raises(InputError, match=REFUSED):
        conjure.ablate(uncovered, [pairs], {"steps": [1]}, out=tmp_path / "run")
    assert not Path(tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["encoder", "mmd", "jensen-shannon"])
def test_baselines_are_not_stored_where_behaviour_is_unknown(uncovered, tmp_path, name):
    """The process that is evaluated may be another one than that of the baseline."""
    pairs = read_file(write_pairs(tmp_path / "pairs.tsv", [("a", "b", 1), ("a", "c", 2), ("b", "c", 3)]))
    (baseline,) = conjure.make_baselines([name], uncovered, images=2)
    with pytest.raises(InputError, match=REFUSED):
        conjure.evaluate(tiny_process().set(steps=1), [pairs], baselines=[baseline], out=tmp_path / "run")
    assert conjure.evaluate(uncovered, [pairs], baselines=[baseline]).tasks["pairs"].baselines.keys() == {name}


def test_a_scheduler_of_unknown_behaviour_is_not_stored():
    process = tiny_process()
    process.scheduler.numbers = itertools.count(1)
    process.scheduler.scale_model_input = (lambda numbers: lambda sample, timestep: sample * next(numbers) ** 0)(
        itertools.count(1)
    )
    with pytest.raises(InputError, match=r"does not cover scheduler, replaced method: itertools\.count"):
        process.storable_fingerprint()

"""Behaviour outside the weights changes the fingerprint; where it cannot be hashed, results are not stored."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.hooks import RemovableHandle

import conjure
from conjure.diffusion import fingerprint
from conjure.errors import InputError, UnknownBehaviorWarning
from conjure.evaluation.pair_files import read_file
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
        fingerprint.check_storable(process.pipeline)

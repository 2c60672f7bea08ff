"""Weights that are offloaded or quantised are read, and where they are kept does not change the fingerprint."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import conjure
from conjure.errors import InputError
from tiny_pipelines import FAMILIES

FAMILY = FAMILIES["Stable Diffusion 1.x"]


def tiny_process():
    return conjure.load(FAMILY.build(), steps=1, **FAMILY.settings)


def test_offloading_by_accelerate_does_not_change_the_fingerprint():
    from accelerate import cpu_offload

    process = tiny_process()
    before = process.fingerprint()
    cpu_offload(process.pipeline.unet, execution_device=torch.device("cpu"))
    assert next(process.pipeline.unet.parameters()).is_meta
    assert process.fingerprint() == before
    other = tiny_process()
    with torch.no_grad():
        other.pipeline.unet.conv_in.weight[0] += 1
    cpu_offload(other.pipeline.unet, execution_device=torch.device("cpu"))
    assert other.fingerprint() != before


@pytest.mark.parametrize("on_disk", [False, True])
def test_group_offloading_does_not_change_the_fingerprint(tmp_path, on_disk):
    process = tiny_process()
    before = process.fingerprint()
    process.pipeline.unet.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type="leaf_level",
        offload_to_disk_path=str(tmp_path) if on_disk else None,
    )  # fmt: skip
    assert process.fingerprint() == before
    conjure.distance(process, "a", "b", samples=1)
    assert process.fingerprint() == before


def test_weights_without_values_are_refused():
    process = tiny_process()
    process.pipeline.unet.conv_in.to("meta")
    with pytest.raises(InputError, match=r"'conv_in\.weight' of UNet2DConditionModel have no values"):
        process.fingerprint()


def run_quantized(quantize):
    """Print fingerprints of one model before and after quantisation and again, in a new process: the libraries print warnings."""
    code = f"""
    import warnings
    warnings.simplefilter("ignore")
    import torch, conjure
    from tiny_pipelines import FAMILIES
    family = FAMILIES["Stable Diffusion 1.x"]
    def process(scale=1):
        pipeline = family.build()
        with torch.no_grad():
            pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.mul_(scale)
        return conjure.load(pipeline, steps=1, **family.settings)
    def quantize(unet):
        {quantize}
        return unet
    plain, one, same, other = process(), process(), process(), process(-1)
    for changed in (one, same, other):
        quantize(changed.pipeline.unet.eval())
        changed.pipeline.unet.eval()
    first = one.fingerprint()
    conjure.distance(one, "a", "b", samples=1)
    print(plain.fingerprint() != first, first == same.fingerprint() == one.fingerprint(), first != other.fingerprint())
    """
    folders = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": folders}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.split()[-3:] == ["True"] * 3, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantize",
    [
        "from torchao.quantization import Int8WeightOnlyConfig, quantize_; quantize_(unet, Int8WeightOnlyConfig())",
        "from optimum.quanto import freeze, qint8, quantize as q; q(unet, weights=qint8); freeze(unet)",
    ],
    ids=["torchao", "quanto"],
)
def test_quantised_weights_are_hashed(quantize):
    for package in ("accelerate", quantize.split()[1].partition(".")[0]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    run_quantized(quantize)

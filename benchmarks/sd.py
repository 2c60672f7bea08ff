"""The architecture of Stable Diffusion v1.4: 860 M parameters, latents of 4 x 64 x 64, beside the authors' kind of loop.

    python benchmarks/sd.py                                                 # on a GPU: 64 pairs, T = 10, bfloat16
    python benchmarks/sd.py --pairs 1 --steps 1 --dtype float32 --rounds 1  # a look at it on a CPU, some minutes

Writes benchmarks/sd-DEVICE.md. The weights are random, since speed does not depend on them. The share of the device's matrix rate
is the work of the denoiser rows that were evaluated, by torch's own count, over what a product of large matrices takes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from families import BETAS, clip  # noqa: E402
from plain import algorithm_1, guided_unet  # noqa: E402

import conjure  # noqa: E402
from conjure.estimate import noise_seed  # noqa: E402
from conjure.process import Process, scheduler_for  # noqa: E402

SIZE = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # the rest is the default of the class


def build(device: str, dtype: torch.dtype, steps: int) -> Process:
    """The process, without the autoencoder and the judge of pictures, which distances do not need."""
    _, tokenizer = clip()
    words = {"vocab_size": len(tokenizer), "hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        unet = UNet2DConditionModel(**SIZE)
        encoder = CLIPTextModel(CLIPTextConfig(num_hidden_layers=12, num_attention_heads=12, **words, **ends))
        torch.set_default_dtype(torch.float32)
    pipeline = StableDiffusionPipeline(
        vae=None, text_encoder=encoder.eval(), tokenizer=tokenizer, unet=unet.eval(), scheduler=PNDMScheduler(**BETAS),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return Process(pipeline, scheduler_for(pipeline.scheduler, "lms"), steps=steps, guidance=7.5, height=512, width=512)


def row_flops() -> float:
    """Floating-point operations of one denoiser row."""
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        UNet2DConditionModel(**SIZE)(torch.zeros(1, 4, 64, 64), torch.tensor(1.0), torch.zeros(1, 77, 768))
    return float(counted.get_total_flops())


def synchronised(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    synchronised(device)
    begun = time.perf_counter()
    work()
    synchronised(device)
    return time.perf_counter() - begun


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product of large matrices, the best of ten."""
    size = 8192 if device == "cuda" else 2048
    one, other = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(seconds(lambda: one @ other, device) for _ in range(10))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-pairs", type=int, default=4, help="pairs that the plain loop is timed on; its time is scaled")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, options.dtype)
    process = build(device, dtype, options.steps)
    pairs = [(f"a picture of thing {number}", f"another thing, {number}") for number in range(options.pairs)]
    few = pairs[: options.plain_pairs]
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(noise_seed(0, 0))).to(device, dtype)
    rows: list[int] = []
    forward = process.pipeline.unet.forward

    def counting(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        rows.append(len(sample))
        return forward(sample, *args, **kwargs)

    def plain() -> None:
        guided = guided_unet(process.pipeline, 7.5)
        for pair in few:
            algorithm_1(guided, process.scheduler, noise, *pair, process.steps)

    def engine() -> None:
        conjure.distances(process, pairs, samples=1)

    rate = matrix_rate(device, dtype)
    if device == "cuda":  # a warm-up
        plain()
        engine()
    process.pipeline.unet.forward = counting
    times = [(seconds(plain, device) * len(pairs) / len(few), seconds(engine, device)) for _ in range(options.rounds)]
    in_plain = options.rounds * 12 * process.steps * len(few)
    share = (sum(rows) - in_plain) * row_flops() / sum(two for _, two in times) / rate
    ratios = [one / two for one, two in times]
    name = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    lines = [
        f"Stable Diffusion v1.4's architecture with random weights, {len(pairs)} pairs, T = {process.steps}, k = 1, "
        f"{options.dtype}; {name}, torch {torch.__version__}, {options.rounds} rounds in turn.",
        "",
        "| | |",
        "|---|---|",
        f"| plain loop (timed on {len(few)} pairs) | {statistics.median(one for one, _ in times):.1f} s |",
        f"| Conjure | {statistics.median(two for _, two in times):.1f} s |",
        f"| plain / Conjure, round by round | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times |",
        f"| denoiser rows, plain / Conjure | {in_plain / len(few) * len(pairs) / (sum(rows) - in_plain):.2f} times |",
        f"| matrix rate of the device in {options.dtype} | {rate / 1e12:.2f} Tflop/s |",
        f"| share of it that the run reaches | {100 * share:.0f} % |",
    ]
    (HERE / f"sd-{device}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""Measure Conjure on the architecture of Stable Diffusion v1.4: 860 M parameters, latents of 4 x 64 x 64.

    python benchmarks/stable_diffusion.py                   # on a GPU: 64 pairs, T = 10, bfloat16
    python benchmarks/stable_diffusion.py --pairs 1 --steps 1 --dtype float32 --rounds 1    # a short run on a CPU, some minutes

Writes benchmarks/stable_diffusion-DEVICE.md. The weights are random, because the speed does not depend on them. The reference
loop is a plain implementation of Algorithm 1, like the code of the paper's authors. The share of the device's
matrix-multiplication rate is the number of floating-point operations of the evaluated denoiser rows, as counted by torch, per
second, divided by the rate of a product of large matrices. A denoiser row is one element of a batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from timing import describe_machine, describe_rounds, format_ratios, seconds

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import conjure  # noqa: E402
from conjure.diffusion.process import Process  # noqa: E402
from conjure.diffusion.schedulers import make_scheduler  # noqa: E402
from conjure.diffusion.seeding import noise_seed  # noqa: E402
from conjure.reference import algorithm_1  # noqa: E402
from reference_algorithm import guided_unet  # noqa: E402
from tiny_pipelines import BETAS, clip  # noqa: E402

UNET_CONFIG = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # the rest are defaults of the class


def build_process(device: str, dtype: torch.dtype, steps: int) -> Process:
    """Return the process with random weights, without the autoencoder and the safety checker, which distances do not use."""
    _, tokenizer = clip()
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
    special_tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        unet = UNet2DConditionModel(**UNET_CONFIG)
        encoder = CLIPTextModel(CLIPTextConfig(num_hidden_layers=12, num_attention_heads=12, **sizes, **special_tokens))
        torch.set_default_dtype(torch.float32)
    pipeline = StableDiffusionPipeline(
        vae=None, text_encoder=encoder.eval(), tokenizer=tokenizer, unet=unet.eval(), scheduler=PNDMScheduler(**BETAS),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return Process(pipeline, make_scheduler(pipeline.scheduler, "lms"), steps=steps, guidance=7.5, height=512, width=512)


def flops_per_row() -> float:
    """Return the number of floating-point operations of one denoiser row."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        UNet2DConditionModel(**UNET_CONFIG)(torch.zeros(1, 4, 64, 64), torch.tensor(1.0), torch.zeros(1, 77, 768))
    return float(counter.get_total_flops())


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a product of large matrices: the maximum of ten."""
    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64, help="number of pairs")
    parser.add_argument("--steps", type=int, default=10, help="number of sampling steps T")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the weights")
    parser.add_argument("--rounds", type=int, default=3, help="number of times that each measurement is repeated")
    parser.add_argument(
        "--reference-pairs", type=int, default=4, help="number of pairs on which the reference loop is timed; its time is scaled"
    )
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, options.dtype)
    process = build_process(device, dtype, options.steps)
    pairs = [(f"a picture of thing {number}", f"another thing, {number}") for number in range(options.pairs)]
    reference_pairs = pairs[: options.reference_pairs]
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(noise_seed(0, 0))).to(device, dtype)
    batch_sizes: list[int] = []
    forward = process.pipeline.unet.forward

    def counting_forward(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
        batch_sizes.append(len(sample))
        return forward(sample, *args, **kwargs)

    def reference() -> None:
        guided = guided_unet(process.pipeline, 7.5)
        for pair in reference_pairs:
            algorithm_1(guided, process.scheduler, noise, *pair, process.steps)

    def engine() -> None:
        conjure.distances(process, pairs, samples=1)

    rate = matmul_rate(device, dtype)
    if device == "cuda":  # warm-up
        reference()
        engine()
    process.pipeline.unet.forward = counting_forward
    scale = len(pairs) / len(reference_pairs)
    times = [(seconds(reference, device) * scale, seconds(engine, device)) for _ in range(options.rounds)]
    reference_rows = options.rounds * 12 * process.steps * len(reference_pairs)
    engine_rows = sum(batch_sizes) - reference_rows
    share = engine_rows * flops_per_row() / sum(engine_time for _, engine_time in times) / rate
    ratios = [reference_time / engine_time for reference_time, engine_time in times]
    device_name = torch.cuda.get_device_name() if device == "cuda" else describe_machine()
    lines = [
        f"The architecture of Stable Diffusion v1.4 with random weights, {len(pairs)} pair{'s' * (len(pairs) != 1)}, "
        f"T = {process.steps}, k = 1, {options.dtype}; {device_name}, torch {torch.__version__}, "
        f"{describe_rounds(options.rounds)}.",
        "",
        "| | |",
        "|---|---|",
        f"| reference loop (timed on {len(reference_pairs)} of the pairs, scaled) | "
        f"{statistics.median(reference_time for reference_time, _ in times):.1f} s |",
        f"| Conjure | {statistics.median(engine_time for _, engine_time in times):.1f} s |",
        f"| reference / Conjure (range over rounds) | {format_ratios(ratios)} times |",
        f"| denoiser rows, reference / Conjure | {reference_rows * scale / engine_rows:.2f} times |",
        f"| matrix-multiplication rate of the device in {options.dtype} | {rate / 1e12:.2f} Tflop/s |",
        f"| share of this rate that Conjure reaches | {100 * share:.0f}% |",
    ]
    (HERE / f"stable_diffusion-{device}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

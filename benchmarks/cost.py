"""Estimate the time that the paper's Table 1 takes on large models.

    python benchmarks/cost.py --data FOLDER               # writes benchmarks/cost.md; about a minute, on any machine
    python benchmarks/cost.py --data FOLDER --rate 400    # for another sustained rate of a GPU, in Tflop/s

A denoiser row is one element of a batch that the denoiser evaluates. The number of rows is counted from the datasets, and the
floating-point operations per row are counted by torch; both are exact. The rate is given, or the one that
benchmarks/stable_diffusion.py measured on a GPU (matrix-multiplication rate times the share that Conjure reaches).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from conjure.diffusion.seeding import NoiseSeeds
from conjure.engine.ray_workers import GPU_CHUNK_ROWS
from conjure.evaluation.datasets import PAPER_TABLE_1, read
from conjure.similarity.sampling import jobs_for_pairs

HERE = Path(__file__).parent
DATASETS = (*PAPER_TABLE_1, "rg65", "simlex999")
STEPS = 10
GPU_COUNTS = (1, 8, 64)
MEASURED_RATE = 260.0  # Tflop/s, Stable Diffusion's architecture on an H200 in bfloat16 (stable_diffusion-cuda.md: 34% of 763)
FLOAT32_SLOWDOWN = 989 / 67  # bfloat16 over float32 rate of an H100 in NVIDIA's specifications (SXM, dense, without TF32)


def sd14() -> tuple[Any, dict[str, Any]]:
    """Return the UNet of Stable Diffusion v1.4 and its inputs for 512x512 pixels."""
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8), {
        "sample": torch.zeros(1, 4, 64, 64), "encoder_hidden_states": torch.zeros(1, 77, 768),
    }  # fmt: skip


def sdxl() -> tuple[Any, dict[str, Any]]:
    """Return the UNet of Stable Diffusion XL and its inputs for 1024x1024 pixels."""
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return unet, {
        "sample": torch.zeros(1, 4, 128, 128), "encoder_hidden_states": torch.zeros(1, 77, 2048),
        "added_cond_kwargs": {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)},
    }  # fmt: skip


def sd35(layers: int, dual_attention_layers: int, max_size: int) -> tuple[Any, dict[str, Any]]:
    """Return the transformer of Stable Diffusion 3.5 and its inputs: 1024x1024 pixels, 333 tokens of its three text encoders."""
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=layers, attention_head_dim=64,
        num_attention_heads=layers, joint_attention_dim=4096, caption_projection_dim=64 * layers, pooled_projection_dim=2048,
        pos_embed_max_size=max_size, dual_attention_layers=tuple(range(dual_attention_layers)), qk_norm="rms_norm",
    )  # fmt: skip
    return transformer, {
        "hidden_states": torch.zeros(1, 16, 128, 128), "encoder_hidden_states": torch.zeros(1, 333, 4096),
        "pooled_projections": torch.zeros(1, 2048),
    }  # fmt: skip


MODELS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "Stable Diffusion v1.4, 512": sd14,
    "Stable Diffusion XL, 1024": sdxl,
    "Stable Diffusion 3.5 medium, 1024": lambda: sd35(24, 13, 384),
    "Stable Diffusion 3.5 large, 1024": lambda: sd35(38, 0, 192),
}


def count_work(build: Callable[[], tuple[Any, dict[str, Any]]]) -> tuple[float, float]:
    """Return the number of parameters, and of floating-point operations of one denoiser row."""
    with torch.device("meta"):
        network, inputs = build()
        with FlopCounterMode(display=False) as counter:
            network(timestep=torch.zeros(1), **inputs)
    return float(sum(parameter.numel() for parameter in network.parameters())), float(counter.get_total_flops())


def count_rows(data: Path) -> int:
    """Return the denoiser rows of all datasets at one sample; the trajectory of a text in several pairs is simulated once."""
    pairs = (pair for name in DATASETS for pair in read(name, data).texts)
    return STEPS * sum(job.num_rows for job in jobs_for_pairs(pairs, [0], NoiseSeeds()))


def format_time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("--rate", type=float, help=f"sustained Tflop/s of one GPU (default: {MEASURED_RATE:g})")
    arguments = parser.parse_args()
    rate = arguments.rate or MEASURED_RATE
    total_rows = count_rows(arguments.data)
    source = "given" if arguments.rate else "measured on an H200 in bfloat16 for the first model, assumed for the others"
    columns = [f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPU_COUNTS]
    lines = [
        f"The nine datasets of Tables 1 and 2, k = 1, T = {STEPS}: {total_rows:,} denoiser rows (elements of a batch). "
        f"Sustained rate of one GPU: {rate:g} Tflop/s ({source}).",
        "",
        f"| model | parameters | work per row | rows per second on one GPU | {' | '.join(columns)} |",
        "|---|---|---|---|" + "---|" * len(GPU_COUNTS),
    ]
    for name, build in MODELS.items():
        parameters, flops = count_work(build)
        speed = rate * 1e12 / flops
        # work is distributed in chunks; at the end, all GPUs wait for the last chunk
        times = [format_time(total_rows / speed / gpus + STEPS * GPU_CHUNK_ROWS / speed) for gpus in GPU_COUNTS]
        lines.append(f"| {name} | {parameters / 1e9:.2f} G | {flops / 1e12:.2f} Tflop | {speed:,.0f} | {' | '.join(times)} |")
    lines += [
        "",
        f"In float32, without `--dtype bfloat16`, a run may take up to {FLOAT32_SLOWDOWN:.0f} times as long, according to "
        "NVIDIA's specifications. This was not measured.",
    ]
    (HERE / "cost.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

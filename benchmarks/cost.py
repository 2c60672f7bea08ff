"""What the paper's Table 1 costs on a large model: denoiser rows counted from the sets, the work of a row counted by torch.

    python benchmarks/cost.py --data FOLDER               # writes benchmarks/cost.md; about a minute, on any machine
    python benchmarks/cost.py --data FOLDER --rate 400    # at another sustained rate of a GPU, in Tflop/s

Rows and work are exact. The rate is what you give, or what benchmarks/sd.py measured on a GPU (matrix rate times the share that
the run reaches).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from conjure.benchmarks import SEVEN, read
from conjure.estimate import Noise
from conjure.run import cost
from conjure.similarity import sources_of
from conjure.workers import ON_GPU

HERE = Path(__file__).parent
NINE = (*SEVEN, "rg65", "simlex999")
STEPS = 10
GPUS = (1, 8, 64)
MEASURED = 260.0  # Tflop/s that Stable Diffusion's architecture reaches on an H200 in bfloat16 (sd-cuda.md: 34 % of 763)
SLOWER = 989 / 67  # in float32, by what NVIDIA gives for an H100 (SXM, dense, without TF32)


def sd14() -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion v1.4 at 512x512."""
    return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8), {
        "sample": torch.zeros(1, 4, 64, 64), "encoder_hidden_states": torch.zeros(1, 77, 768),
    }  # fmt: skip


def sdxl() -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion XL at 1024x1024."""
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


def sd35(layers: int, dual: int, widest: int) -> tuple[Any, dict[str, Any]]:
    """Stable Diffusion 3.5 at 1024x1024, with the 333 tokens that its three text encoders give."""
    transformer = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=layers, attention_head_dim=64,
        num_attention_heads=layers, joint_attention_dim=4096, caption_projection_dim=64 * layers, pooled_projection_dim=2048,
        pos_embed_max_size=widest, dual_attention_layers=tuple(range(dual)), qk_norm="rms_norm",
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


def work(build: Callable[[], tuple[Any, dict[str, Any]]]) -> tuple[float, float]:
    """Parameters, and floating-point operations of one denoiser row."""
    with torch.device("meta"):
        network, inputs = build()
        with FlopCounterMode(display=False) as counted:
            network(timestep=torch.zeros(1), **inputs)
    return float(sum(parameter.numel() for parameter in network.parameters())), float(counted.get_total_flops())


def rows(data: Path) -> int:
    """Denoiser rows of the nine sets at one sample, texts that several pairs share walked once."""
    pairs = (pair for task in NINE for pair in read(task, data).texts)
    return STEPS * sum(map(cost, sources_of(pairs, [0], Noise())))


def time(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--rate", type=float, help=f"Tflop/s that a GPU sustains; {MEASURED:g} if not given")
    arguments = parser.parse_args()
    rate = arguments.rate or MEASURED
    many = rows(arguments.data)
    heads = [f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS]
    measured = "measured on an H200 in bfloat16 with the first of these models, assumed for the others"
    source = "as given" if arguments.rate else measured
    lines = [
        f"The nine sets of Table 1, k = 1, T = {STEPS}: {many:,} denoiser rows. A GPU that sustains {rate:g} Tflop/s ({source}).",
        "",
        f"| model | parameters | work of a row | a GPU's rows a second | {' | '.join(heads)} |",
        "|---|---|---|---|" + "---|" * len(GPUS),
    ]
    for name, build in MODELS.items():
        parameters, flops = work(build)
        speed = rate * 1e12 / flops
        # each GPU takes parcels; at the end all wait for the last one
        times = [time(many / speed / gpus + STEPS * ON_GPU / speed) for gpus in GPUS]
        lines.append(f"| {name} | {parameters / 1e9:.2f} G | {flops / 1e12:.2f} Tflop | {speed:,.0f} | {' | '.join(times)} |")
    slower = f"it may take up to {SLOWER:.0f} times as long, by NVIDIA's figures; not measured."
    lines += ["", f"In float32, that is without `--dtype bfloat16`, {slower}"]
    (HERE / "cost.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

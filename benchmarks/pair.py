"""Measure the time of one pair: Conjure, compared with the reference loop, and the whole command in a new process.

The time of the command is compared with that of a new process which only imports the classes of the default model.

    python benchmarks/pair.py            # writes benchmarks/pair.md, the table that the documentation shows

The reference loop is a plain implementation of Algorithm 1. Both implementations alternate within each round and each ratio is
taken within a round, so that a change of the machine's speed does not affect it; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from timing import describe_machine, describe_rounds, seconds

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import conjure  # noqa: E402
from conjure.diffusion.seeding import noise_seed  # noqa: E402
from conjure.reference import algorithm_1  # noqa: E402
from reference_algorithm import guided_pixart  # noqa: E402

TEXTS = ("snow leopard", "bengal tiger")
SAMPLES = 3
IMPORTS = (  # of the classes of which the default model consists
    "from diffusers import AutoencoderTiny, LMSDiscreteScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel\n"
    "from transformers import BertModel, BertTokenizerFast"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of times that each measurement is repeated")
    rounds = parser.parse_args().rounds
    process = conjure.load()
    network, guidance = process.pipeline.transformer, process.guidance
    assert guidance is not None
    shape = (1, network.config.in_channels, network.config.sample_size, network.config.sample_size)

    def reference() -> float:
        # a new closure per call, because its cache of encoded texts must be empty: each call encodes each text once
        guided = guided_pixart(process.pipeline, guidance, process.pipeline_kwargs["max_sequence_length"])
        total = 0.0
        for sample in range(SAMPLES):
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(noise_seed(0, sample)))
            result = algorithm_1(
                guided, process.scheduler, noise, *TEXTS, process.steps, velocity_as_noise=process.default_unit == "epsilon"
            )
            total += result.forward + result.backward
        return total / SAMPLES

    def engine() -> float:
        return conjure.distance(process, *TEXTS, samples=SAMPLES).distance

    error = abs(reference() / engine() - 1)  # warms both up, and proves that they compute the same distance
    assert error < 1e-4, f"the relative difference between the reference loop and Conjure is {error:.1e}"
    times = [(seconds(reference), seconds(engine)) for _ in range(rounds)]
    figure = str(HERE / "pair.png")
    command = [sys.executable, "-m", "conjure", "compare", *TEXTS, "--json"]
    quiet: Any = {"check": True, "capture_output": True}
    commands = ([sys.executable, "-c", IMPORTS], command, [*command, "--figure", figure])
    new_processes = [[seconds(partial(subprocess.run, words, **quiet)) for words in commands] for _ in range(rounds)]
    imports, cold, with_figure = zip(*new_processes, strict=True)
    Path(figure).unlink()

    def row(name: str, values: Sequence[float], unit: str = "s") -> str:
        return f"| {name} | {statistics.median(values):.2f} {unit} | {min(values):.2f} to {max(values):.2f} |"

    lines = [
        f"One pair at k = {SAMPLES}, T = {process.steps} on the default model, {describe_rounds(rounds)}; "
        f"{describe_machine()}, torch {torch.__version__}, float32.",
        "",
        "| | median | range |",
        "|---|---|---|",
        row("reference loop, model loaded", [reference for reference, _ in times]),
        row("Conjure, model loaded", [engine for _, engine in times]),
        row("reference / Conjure", [reference / engine for reference, engine in times], "times"),
        row("the imports of the default model in a new process", imports),
        row("`conjure compare` in a new process", cold),
        row("the same with `--figure`", with_figure),
        row("command / imports", [command / imported for imported, command in zip(imports, cold, strict=True)], "times"),
        "",
        f"The two distances agree within {error:.0e}. Per sample and step, the reference loop evaluates 12 denoiser rows for a "
        "pair, and Conjure 6 (fewer at the first step).",
    ]
    (HERE / "pair.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""How fast is a pair? The engine beside the plain Algorithm 1, in turn in one run, and the whole command as a cold process.

    python benchmarks/pair.py            # writes benchmarks/pair.md, the table that the documentation shows

Ratios are taken round by round, so that a machine whose speed drifts does not decide them; medians are reported.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from plain import algorithm_1, guided_pixart  # noqa: E402

import conjure  # noqa: E402
from conjure.estimate import noise_seed  # noqa: E402

TEXTS = ("snow leopard", "bengal tiger")
SAMPLES = 3


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    process = conjure.load()
    network, guidance = process.pipeline.transformer, process.guidance
    assert guidance is not None
    shape = (1, network.config.in_channels, network.config.sample_size, network.config.sample_size)

    def plain() -> float:
        # a new closure each time: the plain loop, too, embeds every text once and no more
        guided = guided_pixart(process.pipeline, guidance, process.call["max_sequence_length"])
        total = 0.0
        for sample in range(SAMPLES):
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(noise_seed(0, sample)))
            one = algorithm_1(guided, process.scheduler, noise, *TEXTS, process.steps, process.unit == "epsilon")
            total += one.forward + one.backward
        return total / SAMPLES

    def engine() -> float:
        return conjure.distance(process, *TEXTS, samples=SAMPLES).distance

    apart = abs(plain() / engine() - 1)  # a warm-up of both, and the proof that they do the same
    assert apart < 1e-4, f"the plain loop and the engine differ by {apart:.1e}"
    times = [(seconds(plain), seconds(engine)) for _ in range(rounds)]
    command = [sys.executable, "-m", "conjure", "compare", *TEXTS, "--json"]
    cold = [seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)]
    figure = str(HERE / "pair.png")
    pictured = [
        seconds(lambda: subprocess.run([*command, "--figure", figure], check=True, capture_output=True)) for _ in range(rounds)
    ]
    Path(figure).unlink()

    def row(name: str, values: list[float], unit: str = "s") -> str:
        return f"| {name} | {statistics.median(values):.2f} {unit} | {min(values):.2f} to {max(values):.2f} |"

    lines = [
        f"Pair at k = {SAMPLES}, T = {process.steps} on the default model, {rounds} rounds in turn; "
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, float32.",
        "",
        "| | median | range |",
        "|---|---|---|",
        row("plain Algorithm 1, loaded", [p for p, _ in times]),
        row("engine, loaded", [e for _, e in times]),
        row("plain / engine, round by round", [p / e for p, e in times], "times"),
        row("`conjure compare` as a cold process", cold),
        row("the same with `--figure`", pictured),
        "",
        f"Both gave the same distance within {apart:.0e}. A pair costs 6 denoiser rows a sample and step, in the plain loop 12.",
    ]
    (HERE / "pair.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

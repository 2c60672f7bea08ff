"""What is saved when many pairs are asked for at once: denoiser rows, time, memory, beside the plain Algorithm 1.

    python benchmarks/many.py            # writes benchmarks/many.md and docs/cost.png

Ratios are taken round by round, both sides in turn in one run; medians are reported. One sample a pair, T = 10.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from plain import algorithm_1, guided_pixart  # noqa: E402

import conjure  # noqa: E402
from conjure.estimate import noise_seed  # noqa: E402
from conjure.steady import Steady  # noqa: E402

COLOURS = ["red", "blue", "green", "yellow", "black", "white", "brown", "pink"]
THINGS = [
    "apple",
    "car",
    "house",
    "fish",
    "bird",
    "flower",
    "boat",
    "hat",
    "dog",
    "cat",
    "tree",
    "ball",
    "shoe",
    "star",
    "cup",
    "book",
]
TEXTS = [f"a {colour} {thing}" for thing in THINGS for colour in COLOURS]  # 128, so 64 pairs that share none
Pairs = list[tuple[str, str]]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def normal(process: conjure.Process, many: int, seed: int) -> torch.Tensor:
    """So many latents of pure noise."""
    of = process.pipeline.transformer.config
    shape = (many, of.in_channels, of.sample_size, of.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(process: conjure.Process, pairs: Pairs) -> list[float]:
    """The plain loop over `pairs`; it, too, embeds every text once."""
    guided = guided_pixart(process.pipeline, process.guidance or 0.0, process.call["max_sequence_length"])
    noise = normal(process, 1, noise_seed(0, 0))
    values = []
    for pair in pairs:
        one = algorithm_1(guided, process.scheduler, noise, *pair, process.steps, process.unit == "epsilon")
        values.append(one.forward + one.backward)
    return values


def rows(process: conjure.Process, work: Callable[[], object]) -> float:
    """Denoiser rows a step that `work` takes."""
    network = process.pipeline.transformer
    forward, counted = network.forward, []

    def counting(*args: Any, **kwargs: Any) -> Any:
        counted.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    network.forward = counting
    work()
    del network.forward
    return sum(counted) / process.steps


@torch.inference_mode()
def milliseconds_a_row(process: conjure.Process, batch: int) -> float:
    """What the denoiser alone takes for a row in batches of `batch`, the best of seven calls."""
    network, latents = process.pipeline.transformer, normal(process, batch, 0)
    texts = torch.randn(batch, 1, network.config.caption_channels)
    call = partial(network, latents, encoder_hidden_states=texts, timestep=torch.full((batch,), 500))
    call()  # a compiled one may compile for this batch
    return 1e3 * min(seconds(call) for _ in range(7)) / batch


def peak(pairs: int) -> int:
    """Peak memory, in MB, of a process of its own that measures so many pairs."""
    code = (
        "import sys, resource, conjure; sys.path.insert(0, 'benchmarks'); from many import TEXTS; "
        f"pairs = [(a, b) for a in TEXTS for b in TEXTS if a < b][:{pairs}]; "
        "conjure.distances(conjure.load(steps=2), pairs, samples=1); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    return int(done.stdout)


def plot(path: Path, counts: dict[int, tuple[float, float]]) -> None:
    """Rows a sample and step against texts, all against all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    texts = list(counts)
    for label, values, marker in (
        ("plain loop, 6 N (N - 1)", [one for one, _ in counts.values()], "s"),
        ("Conjure, N (N + 1), less the first step", [two for _, two in counts.values()], "o"),
    ):
        axes.plot(texts, values, marker=marker, label=label)
    axes.set(xlabel="texts, all against all", ylabel="denoiser rows a sample and step", xticks=texts)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    process = conjure.load()
    pairs = list(zip(TEXTS[::2], TEXTS[1::2], strict=True))
    sixteen = TEXTS[:16]
    quads = list(combinations(sixteen, 2))
    lines = [
        f"Default model, k = 1, T = {process.steps}, {rounds} rounds in turn; {os.cpu_count()} cores, {platform.machine()}, "
        f"torch {torch.__version__}, float32.",
        "",
        "| denoiser rows a sample and step | plain loop | Conjure |",
        "|---|---|---|",
    ]
    counts = {}
    for texts in (2, 4, 8, 12, 16):
        some = TEXTS[: 8 * texts : 8]
        counts[texts] = (
            6.0 * texts * (texts - 1),
            rows(process, lambda some=some: conjure.matrix(process, some, samples=1)),  # type: ignore[misc]
        )
    counted = rows(process, lambda: plain(process, pairs[:1]))
    lines.append(f"| a pair | {counted:g} | {rows(process, lambda: conjure.distances(process, pairs[:1], samples=1)):g} |")
    lines += [f"| matrix of {texts} texts | {one:g} | {two:g} |" for texts, (one, two) in counts.items() if texts > 2]
    lines += [
        "",
        "Six rows and N (N + 1), less what sources share at the first step, where all stand at the same noise.",
        "",
        "| time | plain loop | Conjure | plain / Conjure, round by round |",
        "|---|---|---|---|",
    ]

    def many() -> list[float]:
        return [one.distance for one in conjure.distances(process, pairs, samples=1)]

    def matrix() -> list[float]:
        found = conjure.matrix(process, sixteen, samples=1)
        return [found.distance[i, j] for i, j in combinations(range(16), 2)]

    for name, work, all_pairs in (("64 pairs of 128 texts", many, pairs), ("matrix of 16 texts", matrix, quads)):
        times = []
        for _ in range(rounds):
            begun = time.perf_counter()
            theirs = plain(process, all_pairs)
            between = time.perf_counter()
            ours = work()
            times.append((between - begun, time.perf_counter() - between))
            apart = max(abs(one / other - 1) for one, other in zip(ours, theirs, strict=True))
            assert apart < 1e-3, f"{name}: the plain loop and the engine differ by {apart:.1e}"
        ratios = [one / two for one, two in times]
        median = [statistics.median(column) for column in zip(*times, strict=True)]
        lines.append(
            f"| {name} | {median[0]:.1f} s | {median[1]:.1f} s | {statistics.median(ratios):.1f} "
            f"({min(ratios):.1f} to {max(ratios):.1f}) times |"
        )
        print(lines[-1], flush=True)
    half = pairs[:32]
    lines += ["", "| rows in a denoiser call (`rows`) | 32 pairs |", "|---|---|"]
    for size in (6, 12, 24, 48, 96, 192):
        sized = process.set(rows=size)
        taken = [seconds(lambda p=sized: conjure.distances(p, half, samples=1)) for _ in range(rounds)]  # type: ignore[misc]
        lines.append(f"| {size} | {statistics.median(taken):.1f} s |")
    lines += ["", "| variant of the default model | 32 pairs, after a warm-up | of the plain process' time |", "|---|---|---|"]
    variants = {
        "as it is": process,
        "`compile`": conjure.load(compile=True),
        "`channels_last`": conjure.load(channels_last=True),
        "`dtype` bfloat16": conjure.load(dtype="bfloat16"),
    }
    for variant in variants.values():
        conjure.distances(variant, half, samples=1)
    every_step = "as it is, but texts projected at every step"
    taken_by = {name: [] for name in (*variants, every_step)}  # type: dict[str, list[float]]
    for _ in range(rounds):
        for name, variant in variants.items():
            taken_by[name].append(seconds(lambda v=variant: conjure.distances(v, half, samples=1)))  # type: ignore[misc]
        with unittest.mock.patch("conjure.once.Steady", partial(Steady, limit=0)):
            taken_by[every_step].append(seconds(lambda: conjure.distances(process, half, samples=1)))
    for name, all_taken in taken_by.items():
        ratio = statistics.median(one / other for one, other in zip(all_taken, taken_by["as it is"], strict=True))
        lines.append(f"| {name} | {statistics.median(all_taken):.1f} s | {ratio:.2f} |")
    lines += ["", "| the denoiser alone, a row, best of seven calls, in batches of | as it is | `compile` |", "|---|---|---|"]
    for batch in (48, 96, 192):
        each = [milliseconds_a_row(variants[name], batch) for name in ("as it is", "`compile`")]
        lines.append(f"| {batch} | {each[0]:.2f} ms | {each[1]:.2f} ms |")
    memory = {number: peak(number) for number in (32, 512)}
    lines += ["", "Peak memory: " + ", ".join(f"{megabytes} MB for {number} pairs" for number, megabytes in memory.items()) + "."]
    (HERE / "many.md").write_text("\n".join(lines) + "\n")
    plot(HERE.parent / "docs" / "cost.png", counts)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

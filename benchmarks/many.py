"""Measure what Conjure saves for many pairs, compared with the reference loop: denoiser rows, time and memory.

    python benchmarks/many.py            # writes benchmarks/many.md and docs/cost.png

A denoiser row is one element of a batch that the denoiser evaluates. The reference loop is a plain implementation of Algorithm 1.
Both implementations alternate within each round; each ratio is taken within a round, and medians are reported. One sample per
pair, T = 10.
"""

from __future__ import annotations

import argparse
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

from timing import describe_machine, describe_rounds, format_ratios, seconds

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import conjure  # noqa: E402
from conjure.diffusion.memoization import StaticInputCache  # noqa: E402
from conjure.diffusion.seeding import noise_seed  # noqa: E402
from conjure.reference import algorithm_1  # noqa: E402
from reference_algorithm import guided_pixart  # noqa: E402

COLOURS = "red blue green yellow black white brown pink".split()  # noqa: SIM905
OBJECTS = "apple car house fish bird flower boat hat dog cat tree ball shoe star cup book".split()  # noqa: SIM905
TEXTS = [f"a {colour} {thing}" for thing in OBJECTS for colour in COLOURS]  # 128 texts, so 64 pairs that share none
PAIRS = list(zip(TEXTS[::2], TEXTS[1::2], strict=True))
MATRIX_TEXTS = TEXTS[:16]
Pairs = list[tuple[str, str]]


def make_noise(process: conjure.Process, batch: int, seed: int) -> torch.Tensor:
    """Return latents of pure noise, (batch, channels, size, size)."""
    config = process.pipeline.transformer.config
    shape = (batch, config.in_channels, config.sample_size, config.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reference_distances(process: conjure.Process, pairs: Pairs) -> list[float]:
    """Return the distances of the reference loop, which also encodes each text only once."""
    guided = guided_pixart(process.pipeline, process.guidance or 0.0, process.pipeline_kwargs["max_sequence_length"])
    noise = make_noise(process, 1, noise_seed(0, 0))
    distances = []
    for pair in pairs:
        result = algorithm_1(
            guided, process.scheduler, noise, *pair, process.steps, velocity_as_noise=process.default_unit == "epsilon"
        )
        distances.append(result.forward + result.backward)
    return distances


def pair_distances(process: conjure.Process) -> list[float]:
    return [estimate.distance for estimate in conjure.distances(process, PAIRS, samples=1)]


def matrix_distances(process: conjure.Process) -> list[float]:
    matrix = conjure.matrix(process, MATRIX_TEXTS, samples=1)
    return [matrix.distance[i, j] for i, j in combinations(range(len(MATRIX_TEXTS)), 2)]


def rows_per_step(process: conjure.Process, work: Callable[[], object]) -> float:
    """Return the number of denoiser rows that `work` evaluates, per sampling step."""
    network = process.pipeline.transformer
    forward, batch_sizes = network.forward, []

    def counting_forward(*args: Any, **kwargs: Any) -> Any:
        batch_sizes.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    network.forward = counting_forward
    work()  # the first run of a network evaluates further rows, to check that its rows are independent
    batch_sizes.clear()
    work()
    del network.forward
    return sum(batch_sizes) / process.steps


@torch.inference_mode()
def milliseconds_per_row(process: conjure.Process, batch: int) -> float:
    """Return the time of the denoiser alone, per row, in batches of `batch`: the minimum of seven calls."""
    network, latents = process.pipeline.transformer, make_noise(process, batch, 0)
    text_states = torch.randn(batch, 1, network.config.caption_channels)
    call = partial(network, latents, encoder_hidden_states=text_states, timestep=torch.full((batch,), 500))
    call()  # a compiled network may compile for this batch size
    return 1e3 * min(seconds(call) for _ in range(7)) / batch


def peak_memory(num_pairs: int) -> int:
    """Return the peak memory, in MB, of a new process that computes `num_pairs` distances."""
    code = (
        "import sys, resource, conjure; sys.path.insert(0, 'benchmarks'); from many import TEXTS; "
        f"pairs = [(a, b) for a in TEXTS for b in TEXTS if a < b][:{num_pairs}]; "
        "conjure.distances(conjure.load(steps=2), pairs, samples=1); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, capture_output=True, text=True, check=True)
    return int(result.stdout)


def row_counts(process: conjure.Process) -> dict[int, tuple[float, float]]:
    """Return the rows per sample and step of matrices, by number of texts: of the reference loop (computed) and of Conjure."""
    counts = {}
    for num_texts in (2, 4, 8, 12, 16):
        texts = TEXTS[: 8 * num_texts : 8]
        engine = rows_per_step(process, partial(conjure.matrix, process, texts, samples=1))
        counts[num_texts] = (6.0 * num_texts * (num_texts - 1), engine)
    return counts


def rows_section(process: conjure.Process, counts: dict[int, tuple[float, float]]) -> list[str]:
    reference = rows_per_step(process, lambda: reference_distances(process, PAIRS[:1]))
    engine = rows_per_step(process, lambda: conjure.distances(process, PAIRS[:1], samples=1))
    return [
        "| denoiser rows per sample and step | reference loop | Conjure |",
        "|---|---|---|",
        f"| one pair | {reference:g} | {engine:g} |",
        *(f"| matrix of {texts} texts | {loop:g} | {matrix:g} |" for texts, (loop, matrix) in counts.items() if texts > 2),
        "",
        "Conjure evaluates 6 rows for a pair and N (N + 1) rows for a matrix of N texts, fewer at the first step, because all "
        "trajectories start from the same noise.",
    ]


def times_section(process: conjure.Process, rounds: int) -> list[str]:
    """Return the table of times; raise AssertionError if the two implementations disagree."""
    lines = ["| time | reference loop | Conjure | reference / Conjure (range over rounds) |", "|---|---|---|---|"]
    for name, engine, pairs in (
        (f"{len(PAIRS)} pairs of {len(TEXTS)} texts", pair_distances, PAIRS),
        (f"matrix of {len(MATRIX_TEXTS)} texts", matrix_distances, list(combinations(MATRIX_TEXTS, 2))),
    ):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            expected = reference_distances(process, pairs)
            middle = time.perf_counter()
            actual = engine(process)
            times.append((middle - start, time.perf_counter() - middle))
            error = max(abs(a / e - 1) for a, e in zip(actual, expected, strict=True))
            assert error < 1e-3, f"{name}: the relative difference between the reference loop and Conjure is {error:.1e}"
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        ratios = format_ratios([reference / ours for reference, ours in times], digits=1)
        lines.append(f"| {name} | {medians[0]:.1f} s | {medians[1]:.1f} s | {ratios} |")
        print(lines[-1], flush=True)
    return lines


def batch_sizes_section(process: conjure.Process, rounds: int) -> list[str]:
    lines = ["| denoiser rows per call (`batch_size`) | 32 pairs |", "|---|---|"]
    for batch_size in (6, 12, 24, 48, 96, 192):
        work = partial(conjure.distances, process.set(batch_size=batch_size), PAIRS[:32], samples=1)
        lines.append(f"| {batch_size} | {statistics.median(seconds(work) for _ in range(rounds)):.1f} s |")
    return lines


def variants_section(variants: dict[str, conjure.Process], rounds: int) -> list[str]:
    for variant in variants.values():
        conjure.distances(variant, PAIRS[:32], samples=1)
    uncached = "default, without caching the text projections"
    times: dict[str, list[float]] = {name: [] for name in (*variants, uncached)}
    for _ in range(rounds):
        for name, variant in variants.items():
            times[name].append(seconds(partial(conjure.distances, variant, PAIRS[:32], samples=1)))
        with unittest.mock.patch("conjure.diffusion.deduplication.StaticInputCache", partial(StaticInputCache, max_bytes=0)):
            times[uncached].append(seconds(partial(conjure.distances, variants["default"], PAIRS[:32], samples=1)))
    lines = ["| variant of the default model | 32 pairs, after a warm-up | relative to the default |", "|---|---|---|"]
    for name, values in times.items():
        ratio = statistics.median(value / default for value, default in zip(values, times["default"], strict=True))
        lines.append(f"| {name} | {statistics.median(values):.1f} s | {ratio:.2f} |")
    return lines


def denoiser_section(variants: dict[str, conjure.Process]) -> list[str]:
    names = ("default", "`compile`")
    lines = ["| batch size | denoiser alone, time per row (minimum of 7 calls) | with `compile` |", "|---|---|---|"]
    for batch in (48, 96, 192):
        default, compiled = (milliseconds_per_row(variants[name], batch) for name in names)
        lines.append(f"| {batch} | {default:.2f} ms | {compiled:.2f} ms |")
    return lines


def plot_row_counts(path: Path, counts: dict[int, tuple[float, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    num_texts = list(counts)
    for label, values, marker in (
        ("reference loop, 6 N (N - 1)", [reference for reference, _ in counts.values()], "s"),
        ("Conjure, N (N + 1), fewer at the first step", [engine for _, engine in counts.values()], "o"),
    ):
        axes.plot(num_texts, values, marker=marker, label=label)
    axes.set(xlabel="texts in the distance matrix", ylabel="denoiser rows per sample and step", xticks=num_texts)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of times that each measurement is repeated")
    rounds = parser.parse_args().rounds
    process = conjure.load()
    counts = row_counts(process)
    lines = [
        f"Default model, k = 1, T = {process.steps}, {describe_rounds(rounds)}; {describe_machine()}, "
        f"torch {torch.__version__}, float32.",
        "",
        *rows_section(process, counts),
        "",
        *times_section(process, rounds),
        "",
        *batch_sizes_section(process, rounds),
        "",
    ]
    variants = {
        "default": process,
        "`compile`": conjure.load(compile=True),
        "`channels_last`": conjure.load(channels_last=True),
        "`dtype` bfloat16": conjure.load(dtype="bfloat16"),
    }
    lines += [*variants_section(variants, rounds), "", *denoiser_section(variants), ""]
    memory = {num_pairs: peak_memory(num_pairs) for num_pairs in (32, 512)}
    lines.append("Peak memory: " + ", ".join(f"{size} MB for {num_pairs} pairs" for num_pairs, size in memory.items()) + ".")
    (HERE / "many.md").write_text("\n".join(lines) + "\n")
    plot_row_counts(HERE.parent / "docs" / "cost.png", counts)
    print("\n".join(lines))


if __name__ == "__main__":
    main()

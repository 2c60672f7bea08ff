"""Measure the throughput of worker processes on one machine, compared with the same work without workers.

    python benchmarks/workers.py            # 1 and 2 workers; writes benchmarks/workers.md
    python benchmarks/workers.py --workers 1,2,4,8

The pairs share no text; default model, k = 1, T = 10. Workers are warmed up before they are timed. All configurations alternate
within each round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

import conjure
from many import PAIRS
from timing import describe_machine, describe_rounds, format_ratios

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", help="numbers of workers, separated by commas")
    parser.add_argument("--pairs", type=int, default=64, help="number of pairs, at most 64")
    parser.add_argument("--rounds", type=int, default=3, help="number of times that each measurement is repeated")
    arguments = parser.parse_args()
    pairs = PAIRS[: arguments.pairs]
    process = conjure.load()
    counts = [0, *map(int, arguments.workers.split(","))]
    names = ["no workers", *(f"{count} worker{'s' * (count > 1)}" for count in counts[1:])]
    times: dict[str, list[float]] = {name: [] for name in names}
    distances = {}
    for _ in range(arguments.rounds):
        for name, count in zip(names, counts, strict=True):
            workers = conjure.Workers(count) if count else None
            process_with_workers = process.set(workers=workers)
            conjure.distances(process_with_workers, pairs, samples=1)  # loads the model in all workers, and warms them up
            start = time.perf_counter()
            distances[name] = [estimate.distance for estimate in conjure.distances(process_with_workers, pairs, samples=1)]
            times[name].append(time.perf_counter() - start)
            if workers:
                workers.close()  # frees the cores for the next configuration
    expected = distances["no workers"]
    error = max(abs(a / e - 1) for actual in distances.values() for a, e in zip(actual, expected, strict=True))
    lines = [
        f"{len(pairs)} pairs of {2 * len(pairs)} texts on the default model, k = 1, T = 10, {describe_rounds(arguments.rounds)}; "
        f"{describe_machine()}, torch {torch.__version__}. The distances of all configurations agree within {error:.0e}.",
        "",
        "| | median | speed-up over no workers (range over rounds) |",
        "|---|---|---|",
    ]
    for name, values in times.items():
        speed_ups = [baseline / value for baseline, value in zip(times["no workers"], values, strict=True)]
        lines.append(f"| {name} | {statistics.median(values):.1f} s | {format_ratios(speed_ups)} |")
    (HERE / "workers.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

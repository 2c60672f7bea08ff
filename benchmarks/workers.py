"""Throughput against workers on this machine, beside the same work without any.

    python benchmarks/workers.py            # 1 and 2 workers; writes benchmarks/workers.md
    python benchmarks/workers.py --workers 1,2,4,8

Pairs that share no text, on the default model at k = 1, T = 10. Workers are warm; all take turns, round by round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from many import TEXTS

import conjure

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    pairs = list(zip(TEXTS[::2], TEXTS[1::2], strict=True))[: arguments.pairs]
    plain = conjure.load()
    counts = [0, *map(int, arguments.workers.split(","))]
    names = ["no workers", *(f"{count} worker{'s' * (count > 1)}" for count in counts[1:])]
    times: dict[str, list[float]] = {name: [] for name in names}
    found = {}
    for _ in range(arguments.rounds):
        for name, count in zip(names, counts, strict=True):
            workers = conjure.Workers(count) if count else None
            process = plain.set(workers=workers)
            conjure.distances(process, pairs, samples=1)  # all have the model, and are warm
            begun = time.perf_counter()
            found[name] = [one.distance for one in conjure.distances(process, pairs, samples=1)]
            times[name].append(time.perf_counter() - begun)
            if workers:
                workers.close()  # what the next are to have
    apart = max(abs(one / other - 1) for many in found.values() for one, other in zip(many, found["no workers"], strict=True))
    lines = [
        f"{len(pairs)} pairs of {2 * len(pairs)} texts on the default model, k = 1, T = 10, {arguments.rounds} rounds in turn; "
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}. "
        f"All gave the same distances within {apart:.0e}.",
        "",
        "| | median | without workers / this, round by round |",
        "|---|---|---|",
    ]
    for name, own in times.items():
        ratios = [one / other for one, other in zip(times["no workers"], own, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {statistics.median(own):.1f} s | {spread} |")
    (HERE / "workers.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

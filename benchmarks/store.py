"""Measure a store of ten million results: the rate of writing, the file size, and the time that a resumed run needs to start.

    python benchmarks/store.py              # writes benchmarks/store.md; needs 9 GB of disk space temporarily
    python benchmarks/store.py --rows 100000

A row holds the squared differences of one pair of texts along one trajectory: T = 10 values. Texts are about as long as those of
the benchmark datasets. Each trajectory has its final latents, as large as those of the default model (4 kB). Rows are written in
batches as large as those that a CPU computes. The rates are absolute, for one machine and its disk; they show whether writing can
limit the speed of a run.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import conjure
from conjure.diffusion.batch_size import CPU_BATCH
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from timing import describe_machine

HERE = Path(__file__).parent
TARGETS = 8  # texts that are compared along a trajectory: more than the one of a pair, fewer than those of a matrix
BATCH = CPU_BATCH // (2 + TARGETS)  # trajectories that are computed, and written, together
CHUNK = 10_000  # trajectories whose texts are in memory at the same time


def make_job(number: int) -> TrajectoryJob:
    text = f"a sentence of about the length that benchmarks have, number {number}"
    return TrajectoryJob(text, number % 4, tuple(f"{text}, candidate {i}" for i in range(TARGETS)))


def make_result(number: int, rng: np.random.Generator) -> TrajectoryResult:
    """Return random results for the job of the same number."""
    levels = tuple(NoiseLevel(alpha=0.9, sigma=0.4) for _ in range(10))
    return TrajectoryResult(make_job(number), rng.random((TARGETS, 10)), tuple(range(10)), levels, torch.rand(16, 8, 8), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="number of rows to write")
    arguments = parser.parse_args()
    rng, process, num_trajectories = np.random.default_rng(0), conjure.load(), arguments.rows // TARGETS
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        path = Path(folder) / "store.sqlite"
        store = conjure.Store(path)
        fingerprint, settings = process.fingerprint(), process.settings()
        process_results = store.for_process(fingerprint, settings)
        rates, last = [], time.perf_counter()
        for start, end in itertools.pairwise(np.linspace(0, num_trajectories, 11, dtype=int).tolist()):
            for first in range(start, end, BATCH):
                process_results.add([make_result(number, rng) for number in range(first, min(first + BATCH, end))])
            now = time.perf_counter()
            rates.append((end - start) * TARGETS / (now - last))
            print(f"{end * TARGETS:,} rows, {rates[-1]:,.0f} per second", flush=True)
            last = now
        store.close()
        size = path.stat().st_size
        num_requested = num_trajectories + CHUNK  # a run that requests CHUNK trajectories more than are stored
        lookup_times = {}
        for finals in (False, True):
            store, num_missing, begin = conjure.Store(path), 0, time.perf_counter()
            for start in range(0, num_requested, CHUNK):
                jobs = [make_job(number) for number in range(start, min(start + CHUNK, num_requested))]
                num_missing += len(store.for_process(fingerprint, settings).missing(jobs, final_latents=finals))
            lookup_times[finals] = time.perf_counter() - begin
            store.close()
            assert num_missing == CHUNK
    lines = [
        f"{num_trajectories * TARGETS:,} rows of {num_trajectories:,} trajectories; {describe_machine()}, local disk. "
        "A row holds the squared differences of one pair of texts along one trajectory.",
        "",
        "| | |",
        "|---|---|",
        f"| file size | {size / 1e9:.2f} GB, {size / num_trajectories / TARGETS:.0f} bytes per row |",
        f"| writing rate, first and last tenth | {rates[0]:,.0f} and {rates[-1]:,.0f} rows per second |",
        f"| finding the missing ones of {num_requested:,} trajectories | {lookup_times[False]:.0f} s |",
        f"| the same with final latents, which `direct` needs | {lookup_times[True]:.0f} s |",
    ]
    (HERE / "store.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""A store of ten million judgements: how fast it is written, how large it gets, how soon a resumed run knows what is left.

    python benchmarks/store.py              # writes benchmarks/store.md; needs 9 GB of disk for a while
    python benchmarks/store.py --rows 100000

Rows are of texts as in the benchmarks, T = 10 differences each, with the final latents of the default model (4 kB), in the
batches in which a CPU measures them. The rates are absolute, of one machine and its disk: they say whether the writer can be
what limits a run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import conjure
from conjure.memory import ON_CPU
from conjure.run import Measured, Source
from conjure.units import Level

HERE = Path(__file__).parent
TARGETS = 8  # that judge a trajectory: between a pair's one and a matrix' many
BATCH = ON_CPU // (2 + TARGETS)  # trajectories that are measured together, and kept together
ASKED = 10_000  # trajectories whose texts are in memory at once


def source(number: int) -> Source:
    text = f"a sentence of about the length that benchmarks have, number {number}"
    return Source(text, number % 4, tuple(f"{text}, judged by {i}" for i in range(TARGETS)))


def measured(number: int, rng: np.random.Generator) -> Measured:
    """What the source of that number gave."""
    levels = tuple(Level(alpha=0.9, sigma=0.4) for _ in range(10))
    return Measured(source(number), rng.random((TARGETS, 10)), tuple(range(10)), levels, torch.rand(16, 8, 8), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    arguments = parser.parse_args()
    rng, process, sources = np.random.default_rng(0), conjure.load(), arguments.rows // TARGETS
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        path = Path(folder) / "store.sqlite"
        store = conjure.Store(path)
        kept = store.of(process)
        rates, begun = [], time.perf_counter()
        for start, end in itertools.pairwise(np.linspace(0, sources, 11, dtype=int).tolist()):
            for first in range(start, end, BATCH):
                kept.add([measured(number, rng) for number in range(first, min(first + BATCH, end))])
            now = time.perf_counter()
            rates.append((end - start) * TARGETS / (now - begun))
            print(f"{end * TARGETS:,} rows, {rates[-1]:,.0f} a second", flush=True)
            begun = now
        store.close()
        size = path.stat().st_size
        resumed = {}
        for finals in (False, True):
            store, left, begun = conjure.Store(path), 0, time.perf_counter()
            for start in range(0, sources + ASKED, ASKED):  # a run that wants ASKED trajectories more than there are
                asked = [source(number) for number in range(start, min(start + ASKED, sources + ASKED))]
                left += len(store.of(process).missing(asked, finals=finals))
            resumed[finals] = time.perf_counter() - begun
            store.close()
            assert left == ASKED
    lines = [
        f"{sources * TARGETS:,} judgements of {sources:,} trajectories; {os.cpu_count()} cores, {platform.machine()}, "
        "this machine's disk.",
        "",
        "| | |",
        "|---|---|",
        f"| file | {size / 1e9:.2f} GB, {size / sources / TARGETS:.0f} bytes a judgement |",
        f"| written at first, and at last | {rates[0]:,.0f} and {rates[-1]:,.0f} judgements a second |",
        f"| what is left of {sources + ASKED:,} trajectories, all looked at | {resumed[False]:.0f} s |",
        f"| the same with their last latents, for `direct` | {resumed[True]:.0f} s |",
    ]
    (HERE / "store.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""A store of ten million judgements: how fast it is written, how large it gets, how soon a resumed run knows what is left.

    python benchmarks/store.py              # writes benchmarks/store.md; needs 5 GB of disk for a while
    python benchmarks/store.py --rows 100000

Rows are of texts as in the benchmarks, T = 10 differences each, with the final latents of the default model (4 kB), source by
source. The rates are absolute, of one machine and its disk: they say whether the writer can be what limits a run.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import conjure
from conjure.run import Measured, Source
from conjure.units import Level

HERE = Path(__file__).parent
TARGETS = 8  # that judge a trajectory: between a pair's one and a matrix' many


def measured(number: int, rng: np.random.Generator) -> Measured:
    """What the source of that number gave."""
    text = f"a sentence of about the length that benchmarks have, number {number}"
    source = Source(text, number % 4, tuple(f"{text}, judged by {i}" for i in range(TARGETS)))
    levels = tuple(Level(alpha=0.9, sigma=0.4) for _ in range(10))
    return Measured(source, rng.random((TARGETS, 10)), tuple(range(10)), levels, torch.rand(16, 8, 8), None)


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
        for number in range(sources):
            kept.add(measured(number, rng))
            if (number + 1) % max(1, sources // 10) == 0:
                now = time.perf_counter()
                rates.append(max(1, sources // 10) * TARGETS / (now - begun))
                print(f"{(number + 1) * TARGETS:,} rows, {rates[-1]:,.0f} a second", flush=True)
                begun = now
        store.close()
        size = path.stat().st_size
        asked = [measured(int(number), rng).source for number in rng.choice(2 * sources, 40_000, replace=False)]
        begun = time.perf_counter()
        store = conjure.Store(path)
        left = store.of(process).missing(asked)
        resumed = time.perf_counter() - begun
        store.close()
    assert len(left) == sum(int(source.text.rsplit(" ", 1)[1]) >= sources for source in asked)
    lines = [
        f"{sources * TARGETS:,} judgements of {sources:,} trajectories; {os.cpu_count()} cores, {platform.machine()}, "
        "this machine's disk.",
        "",
        "| | |",
        "|---|---|",
        f"| file | {size / 1e9:.2f} GB, {size / sources / TARGETS:.0f} bytes a judgement |",
        f"| written at first, and at last | {rates[0]:,.0f} and {rates[-1]:,.0f} judgements a second |",
        f"| what is left of 40,000 trajectories (320,000 judgements), half of them there | {resumed:.1f} s |",
    ]
    (HERE / "store.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

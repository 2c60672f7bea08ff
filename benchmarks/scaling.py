"""Project the throughput of 1 to 64 GPU workers from measured rates, and test whether the store keeps up with 64 of them.

    python benchmarks/scaling.py                 # writes benchmarks/scaling.md; half a minute, and 2 GB of disk space temporarily
    python benchmarks/scaling.py --rate 30       # with another rate of one GPU, in trajectories per second

No cluster is needed. The rate of one GPU is that of Stable Diffusion v1.4 in benchmarks/stable_diffusion-cuda.md. Workers encode
texts, evaluate the denoiser and serialise their results in parallel; the calling process reads the results and writes them to the
store, one chunk after the other. This serial work is measured with synthetic results of the same size. With n workers a
trajectory takes at least the larger of its time on a GPU divided by n and its serial time, if both overlap completely, and at
most their sum, if they do not overlap at all (Amdahl's law). The network between the nodes is not part of the projection.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import conjure
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.engine.ray_workers import GPU_CHUNK_ROWS
from conjure.engine.store import ProcessResults
from timing import describe_machine

HERE = Path(__file__).parent
STEPS, LATENT = 10, (4, 64, 64)
COUNTS = (1, 2, 4, 8, 64)
CHUNK = GPU_CHUNK_ROWS // 3  # trajectories of one worker's chunk: the rows of a trajectory are those of two texts and of no text


def rate_of_one_gpu() -> tuple[float, str]:
    """Return the measured trajectories per second of one GPU, with the conditions of the measurement."""
    text = (HERE / "stable_diffusion-cuda.md").read_text()
    pairs, seconds = re.search(r"(\d+) pairs", text), re.search(r"\| Conjure \| ([\d.]+) s", text)
    assert pairs, "stable_diffusion-cuda.md has another form"
    assert seconds, "stable_diffusion-cuda.md has another form"
    return 2 * int(pairs[1]) / float(seconds[1]), text.splitlines()[0].partition(", 2 rounds")[0].rstrip(".")


def make_chunk(number: int, rng: np.random.Generator) -> bytes:
    """Return the serialised results of a chunk, with new texts, as a worker sends them."""
    levels = tuple(NoiseLevel(alpha=0.9, sigma=0.4) for _ in range(STEPS))
    results = []
    for index in range(number * CHUNK, (number + 1) * CHUNK):
        text = f"a sentence of about the length that benchmarks have, number {index}"
        job = TrajectoryJob(text, index % 4, (f"{text}, the other one",))
        latent = torch.from_numpy(rng.standard_normal(LATENT, dtype=np.float32))
        results.append(TrajectoryResult(job, rng.random((1, STEPS)), tuple(map(float, range(STEPS))), levels, latent, None))
    return pickle.dumps(results)


def write_at_rate(store: ProcessResults, chunks: list[bytes], rate: float) -> tuple[float, float]:
    """Read and write chunks that arrive at a rate.

    Args:
        store: The results of a process in a store.
        chunks: Serialised results.
        rate: Trajectories per second; infinity for chunks that are all there at the start.

    Returns:
        The seconds of work per trajectory, and the longest time in seconds that a chunk waited until it was stored.
    """
    busy = delay = 0.0
    begin = time.perf_counter()
    for number, chunk in enumerate(chunks):
        arrival = begin + number * CHUNK / rate
        time.sleep(max(0.0, arrival - time.perf_counter()))
        start = time.perf_counter()
        store.add(pickle.loads(chunk))
        end = time.perf_counter()
        busy += end - start
        delay = max(delay, end - arrival)
    return busy / len(chunks) / CHUNK, delay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="trajectories per second of one GPU; by default the measured rate")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of the arrival of results")
    arguments = parser.parse_args()
    measured, conditions = rate_of_one_gpu()
    rate, source = (measured, conditions) if arguments.rate is None else (arguments.rate, "given with --rate")
    full_rate = COUNTS[-1] * rate
    rng = np.random.default_rng(0)
    num_chunks = max(2, round(arguments.seconds * full_rate / CHUNK))
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        store = conjure.Store(Path(folder) / "store.sqlite")
        results = store.for_process("0" * 64, {"model": "synthetic results"})
        serial, _ = write_at_rate(results, [make_chunk(next(numbers), rng) for _ in range(num_chunks)], np.inf)
        paced, delay = write_at_rate(results, [make_chunk(next(numbers), rng) for _ in range(num_chunks)], full_rate)
        store.close()
    keeps_up = "keeps up" if paced * full_rate < 1 else "does not keep up"
    lines = [
        f"Rate of one GPU: {rate:.1f} trajectories per second ({source}). Serial work: {serial * 1e3:.2f} ms per trajectory, "
        f"{1 / serial:,.0f} trajectories per second, measured with synthetic results; {describe_machine()}, local disk. "
        f"The serial share of the work of one GPU is {serial * rate:.1%}.",
        "",
        "| GPUs | trajectories per second, without and with overlap | times one GPU |",
        "|---|---|---|",
    ]
    for count in COUNTS:
        rates = [1 / (1 / (count * rate) + serial), 1 / max(1 / (count * rate), serial)]
        factors = [value / rate for value in rates]
        lines.append(f"| {count} | {rates[0]:,.0f} to {rates[1]:,.0f} | {factors[0]:.2f} to {factors[1]:.2f} |")
    lines += [
        "",
        f"The store {keeps_up} with {COUNTS[-1]} workers: {num_chunks * CHUNK:,} results arrived at {full_rate:,.0f} per second. "
        f"Writing took {paced * full_rate:.0%} of the time, and no chunk of {CHUNK} waited longer than {delay:.2f} s.",
        "",
        "Projected, not measured on several GPUs.",
    ]
    (HERE / "scaling.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

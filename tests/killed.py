"""Runs an evaluation again and again, and kills it at random moments; used by test_bench.py in a process of its own.

python killed.py MODEL PAIRS FOLDER KILLS: one folder a run, each as often killed and continued as it takes to end by itself. The
first is let alone. It forks, so that a run starts at once, from a process in which no thread but the first has ever been.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import conjure
from conjure.benchmarks import read_file


def main(model: str, pairs: str, folder: Path, kills: int) -> None:
    process, judged = conjure.load(model, steps=3), [read_file(Path(pairs))]
    conjure.evaluate(process, judged, samples=2)  # all is imported, and no time goes by before the first source

    def run(out: Path, until: float | None) -> bool:
        """Whether it ended before it was killed, `until` seconds from now."""
        child = os.fork()
        if child == 0:
            os._exit(0 if conjure.evaluate(process, judged, samples=2, out=out) else 1)
        if until is not None:
            time.sleep(until)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), f"a continued run failed with {status}"
        return status == 0

    start = time.monotonic()
    run(folder / "0", None)
    whole = time.monotonic() - start
    moments, killed, number = random.Random(0), 0, 0
    while killed < kills:
        number += 1
        while not run(folder / str(number), moments.uniform(0, 1.1 * whole) if killed < kills else None):
            killed += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))

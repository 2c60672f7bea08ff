"""Run an evaluation again and again, and kill it at random moments; test_run_folder.py runs this script in a new process.

    python kill_helper.py MODEL PAIRS FOLDER KILLS

Each run has its own folder and is killed and resumed until it finishes. The first run is not killed. Runs are forked from a
process that has never had a second thread, so that a run starts immediately.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import conjure
from conjure.evaluation.datasets import read_file


def main(model: str, path: str, folder: Path, kills: int) -> None:
    process, pairs = conjure.load(model, steps=3), [read_file(Path(path))]
    conjure.evaluate(process, pairs, samples=2, floors=False)  # imports everything, so that no forked run spends time on imports

    def run(out: Path, kill_after: float | None) -> bool:
        """Run an evaluation, kill it after `kill_after` seconds, and return whether it finished before."""
        child = os.fork()
        if child == 0:
            os._exit(0 if conjure.evaluate(process, pairs, samples=2, floors=False, out=out) else 1)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), f"a resumed run failed with status {status}"
        return status == 0

    start = time.monotonic()
    run(folder / "0", None)
    duration = time.monotonic() - start
    rng, num_killed, number = random.Random(0), 0, 0
    while num_killed < kills:
        number += 1
        while not run(folder / str(number), rng.uniform(0, 1.1 * duration) if num_killed < kills else None):
            num_killed += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))

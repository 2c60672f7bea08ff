"""Measure the web app under load: concurrent visitors who send a new request as soon as the last one is answered.

    python benchmarks/app.py --visitors 20 --seconds 60     # writes benchmarks/app.md

Each request must be answered, or refused with a clear message, and the memory of the server must not grow. All texts are
different, so that no answer comes from the store.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from gradio_client import Client

from timing import describe_machine

HERE = Path(__file__).parent
OBJECTS = ("dog", "cat", "whale", "apple", "bicycle", "house", "tree", "boat", "castle", "guitar", "horse", "moon")


def resident_memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def visit(address: str, visitor: int, end: float, responses: list[tuple[str, float]]) -> None:
    """Send requests until `end`, and append the outcome and the waiting time of each; one in ten has a text that is too long."""
    client = Client(address, verbose=False)
    rng = np.random.default_rng(visitor)
    while time.monotonic() < end:
        number = int(rng.integers(10**9))
        first = f"{rng.choice(OBJECTS)} {number}" if number % 10 else "x" * 1000
        start = time.monotonic()
        try:
            client.predict(first, str(rng.choice(OBJECTS)), "default", 1, 5, 0, "", False, "", api_name="/compare")
            outcome = "answered"
        except Exception as error:
            outcome = "refused: " + (str(error).split(";")[0][:60] or type(error).__name__)
        responses.append((outcome, time.monotonic() - start))


def visit_alone(address: str) -> tuple[float, float]:
    """Return after how many seconds a single visitor has the first image of new texts, and the complete answer."""
    client = Client(address, verbose=False)
    start = time.monotonic()
    first = None
    for _, images, *_ in client.submit("a wooden boat", "a paper boat", api_name="/compare"):
        first = first or (time.monotonic() - start if "<img" in images else None)
    assert first is not None
    return first, time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20, help="number of concurrent visitors")
    parser.add_argument("--seconds", type=float, default=60, help="duration of the load")
    parser.add_argument("--port", type=int, default=7899, help="port of the app")
    arguments = parser.parse_args()
    # all visitors of this benchmark have the same address
    limit = ("--max-jobs-per-visitor", str(arguments.visitors))
    command = [sys.executable, "-m", "conjure", "app", "--port", str(arguments.port), *limit]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        address = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
        time.sleep(10)  # the app computes its examples first
        first_image, complete = visit_alone(address)
        responses: list[tuple[str, float]] = []
        memory = [resident_memory(server.pid)]
        end = time.monotonic() + arguments.seconds
        visitors = [
            threading.Thread(target=visit, args=(address, number, end, responses), daemon=True)
            for number in range(arguments.visitors)
        ]
        for visitor in visitors:
            visitor.start()
        while any(visitor.is_alive() for visitor in visitors):
            time.sleep(1)
            memory.append(resident_memory(server.pid))
    finally:
        server.terminate()
    outcomes = Counter(outcome for outcome, _ in responses)
    waits = [wait for outcome, wait in responses if outcome == "answered"]
    middle = len(memory) // 2
    rows = "\n".join(f"| {outcome.replace('|', ' ')} | {number} |" for outcome, number in outcomes.most_common())
    (HERE / "app.md").write_text(
        f"{arguments.visitors} concurrent visitors for {arguments.seconds:.0f} s, comparisons of new texts at k = 1, T = 5 on "
        f"the default model; {describe_machine()}, torch {torch.__version__}.\n\n"
        f"| | |\n|---|---|\n"
        f"| before the load, one visitor with the default settings: first image | {first_image:.1f} s |\n"
        f"| complete answer | {complete:.1f} s |\n{rows}\n"
        f"| median waiting time of an answer | {np.median(waits):.1f} s |\n| longest waiting time | {max(waits):.1f} s |\n"
        f"| memory before the load | {memory[0]:.0f} MB |\n| peak memory in the first half | {max(memory[:middle]):.0f} MB |\n"
        f"| peak memory in the second half | {max(memory[middle:]):.0f} MB |\n"
    )
    print((HERE / "app.md").read_text())


if __name__ == "__main__":
    main()

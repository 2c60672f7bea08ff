"""The app under load: visitors at once for a while, every one asking again as soon as he is answered.

python benchmarks/app.py --visitors 20 --seconds 60     # writes benchmarks/app.md

Every request must be answered, or refused with a clear message; the server's memory must stay flat. Texts are all
different, so that nothing is answered from what was kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from gradio_client import Client

HERE = Path(__file__).parent
THINGS = ("dog", "cat", "whale", "apple", "bicycle", "house", "tree", "boat", "castle", "guitar", "horse", "moon")


def resident(pid: int) -> float:
    """Megabytes that the process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def visit(address: str, visitor: int, until: float, said: list[tuple[str, float]]) -> None:
    """Ask for comparisons of ever new texts, and for a refusal now and then."""
    client = Client(address, verbose=False)
    rng = np.random.default_rng(visitor)
    while time.monotonic() < until:
        number = int(rng.integers(10**9))
        first = f"{rng.choice(THINGS)} {number}" if number % 10 else "x" * 1000
        begun = time.monotonic()
        try:
            client.predict(first, str(rng.choice(THINGS)), "default", 1, 5, 0, api_name="/compare")
            answer = "answered"
        except Exception as error:
            answer = "refused: " + (str(error).split(";")[0][:60] or type(error).__name__)
        said.append((answer, time.monotonic() - begun))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--port", type=int, default=7899)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "conjure", "app", "--port", str(arguments.port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "listens at" in line).split()[-1]
        time.sleep(10)  # the examples are computed first
        said: list[tuple[str, float]] = []
        memory = [resident(server.pid)]
        until = time.monotonic() + arguments.seconds
        visitors = [
            threading.Thread(target=visit, args=(address, number, until, said), daemon=True)
            for number in range(arguments.visitors)
        ]
        for visitor in visitors:
            visitor.start()
        while any(visitor.is_alive() for visitor in visitors):
            time.sleep(1)
            memory.append(resident(server.pid))
    finally:
        server.terminate()
    counted = Counter(answer for answer, _ in said)
    waits = [wait for answer, wait in said if answer == "answered"]
    half = len(memory) // 2
    rows = "\n".join(f"| {answer.replace('|', ' ')} | {number} |" for answer, number in counted.most_common())
    (HERE / "app.md").write_text(
        f"{arguments.visitors} visitors at once for {arguments.seconds:.0f} s, comparisons of new texts at k = 1, T = 5 on "
        f"the default model; {os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}.\n\n"
        f"| | |\n|---|---|\n{rows}\n"
        f"| median wait for an answer | {np.median(waits):.1f} s |\n| longest | {max(waits):.1f} s |\n"
        f"| memory before | {memory[0]:.0f} MB |\n| highest in the first half | {max(memory[:half]):.0f} MB |\n"
        f"| highest in the second half | {max(memory[half:]):.0f} MB |\n"
    )
    print((HERE / "app.md").read_text())


if __name__ == "__main__":
    main()

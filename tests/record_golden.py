"""Record golden numbers of four models, which test_golden.py compares after every change.

    python tests/record_golden.py          # write tests/golden.json again, after a change that is meant to change numbers

The same machine with the same libraries must give the same bits. Elsewhere float32 kernels sum in another order: with AVX2
instead of AVX-512 the standard errors of two samples differ by up to 5e-4 and most other numbers by less than 2e-5, so the
tolerance is 1e-3.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import conjure
from conjure.evaluation.pair_files import read_file
from tiny_pipelines import FAMILIES

GOLDEN = Path(__file__).with_name("golden.json")
FAMILIES_USED = ("Stable Diffusion 1.x", "Flux dev", "CogView4")  # a noise model, a flow, one without batches of texts
TEXTS = ["puppy", "poodle", "a red apple on a table", "shark"]
PAIRS = "text1\ttext2\tscore\npuppy\tpoodle\t3.5\npuppy\tshark\t1\nred apple\tgreen apple\t3\nsun\ta very long night\t0.5\n"
STEPS = 4
LIBRARIES = ("torch", "numpy", "diffusers", "transformers", "tokenizers")  # fingerprints depend on their versions


def machine() -> dict[str, str]:
    """Return what decides whether results must be equal to the bit."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in LIBRARIES},
    }


def stored_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a store, with the values of their arrays."""
    with sqlite3.connect(path) as database:
        differences = database.execute(
            "SELECT text, seed, target, squared_differences FROM squared_differences ORDER BY text, seed, target"
        ).fetchall()
        finals = database.execute("SELECT text, seed, latents FROM final_latents ORDER BY text, seed").fetchall()
        ((key, metadata),) = database.execute("SELECT key, metadata FROM process").fetchall()
    rows: list[dict[str, Any]] = [{"key": key, "metadata": json.loads(metadata)}]
    rows += [{"row": row[:3], "values": np.frombuffer(row[3]).tolist()} for row in differences]
    for row in finals:
        latents = np.frombuffer(row[2], dtype=np.float32).astype(float)
        rows.append({"row": row[:2], "size": len(latents), "sum": float(latents.sum()), "first": latents[:3].tolist()})
    return rows


def measure_process(process: Any, folder: Path) -> dict[str, Any]:
    """Return distances, a matrix, word effects, an evaluation, the fingerprint and stored rows of one process."""
    store = folder / "store.sqlite"
    stored = process.set(store=conjure.Store(store))
    estimates = {
        "plain": conjure.distance(stored, *TEXTS[:2], samples=2),
        "nats": conjure.distance(process, *TEXTS[:2], samples=2, weighting="girsanov", antithetic=True),
        "kl": conjure.distance(process, *TEXTS[1:3], samples=2, divergence="kl", reduction="mean"),
        "direct": conjure.distance(process, *TEXTS[:2], samples=2, divergence="direct"),
        "x0": conjure.distance(process.set(default_unit="x0"), TEXTS[0], TEXTS[3], samples=2, seed=5),
    }
    fields = ("distance", "stderr", "ci95", "forward", "backward", "per_step", "samples", "timesteps", "snr")
    pairs = folder / "pairs.tsv"
    pairs.write_text(PAIRS)
    summary = conjure.evaluate(process, [read_file(pairs)], samples=2).summary()["tasks"]["pairs"]
    matrix = conjure.matrix(process, TEXTS, samples=2)
    words = conjure.attribute(process, "red apple", "green pear", samples=2)
    explanation = conjure.explain(process, *TEXTS[:2], samples=1)
    images = {
        name: float(np.asarray(array, dtype=float).mean())
        for name, array in (("final", explanation.forward.final), ("first", explanation.forward.first))
    }
    return {
        "fingerprint": process.fingerprint(),
        "estimates": {name: {field: one.to_dict()[field] for field in fields} for name, one in estimates.items()},
        "matrix": {"distance": matrix.distance.tolist(), "stderr": matrix.stderr.tolist(), "order": matrix.order},
        "words": [[effect.word, effect.change, effect.stderr] for effect in words.effects],
        "images": images,
        "summary": {key: np.round(summary[key], 2).tolist() for key in ("spearman", "ci95", "pearson", "reliability", "ceiling")}
        | {key: summary[key] for key in ("p", "pairs")}
        | {"divergences": {name: round(one["spearman"], 2) for name, one in summary["divergences"].items()}},
        "rows": stored_rows(store),
    }


def measure() -> dict[str, Any]:
    """Return all golden numbers as plain data."""
    numbers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "default"
        folder.mkdir()
        numbers["default"] = measure_process(conjure.load(steps=STEPS), folder)
        for name in FAMILIES_USED:
            folder = Path(place) / name
            folder.mkdir()
            family = FAMILIES[name]
            process = conjure.load(family.build(), steps=STEPS, **family.settings)
            numbers[name] = measure_process(process, folder)
    return json.loads(json.dumps(numbers))


def measure_in_new_process() -> dict[str, Any]:
    """Return what `measure` returns in a process with fixed hashing of strings.

    Fingerprints cover the printed form of configurations, which may hold sets.
    """
    done = subprocess.run(
        [sys.executable, __file__, "--print"],
        env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(json.dumps(measure()))
    else:
        GOLDEN.write_text(json.dumps({"machine": machine(), "numbers": measure_in_new_process()}, indent=1) + "\n")
        print(f"wrote {GOLDEN}")

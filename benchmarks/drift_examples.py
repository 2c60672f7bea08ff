"""Measure the examples of docs/howto/drift.md on the default model: bfloat16 against float32, and guidance 3 against 5.

Writes benchmarks/drift_dtype.md and benchmarks/drift_guidance.md (about a minute on a CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import conjure

HERE = Path(__file__).parent
TEXTS = [
    "a red apple", "a black cat", "a snow leopard", "a blue bicycle", "a lighthouse at night", "two birds on a branch",
    "a glass of water", "an old wooden chair", "a pizza with olives", "a crescent moon", "a green tractor", "a sad clown",
]  # fmt: skip
CHANGES: dict[str, Callable[[conjure.Process], conjure.Process]] = {
    "drift_dtype": lambda process: conjure.load(dtype="bfloat16", device="cpu"),
    "drift_guidance": lambda process: process.set(guidance=5.0),
}


def main() -> None:
    """Write the tables."""
    process = conjure.load(device="cpu")
    for name, change in CHANGES.items():
        result = conjure.drift(process, change(process), TEXTS)
        document = result.document()
        table = document.tables[0].to_markdown()
        mean = result.summary["relative"].mean.as_percentage()
        note = f"Mean over texts of the relative divergence: {mean}% ({mean.interval}). {document.note}"
        (HERE / f"{name}.md").write_text(f"{document.settings[0]}\n\n{table}\n\n{note}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

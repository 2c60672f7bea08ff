"""Measure the examples of docs/howto/drift.md on the default model: bfloat16 against float32, and guidance 7.5 against 5.

Writes benchmarks/drift_dtype.md and benchmarks/drift_guidance.md (about a minute on a CPU).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import conjure
from conjure.process_drift.results import Drift

HERE = Path(__file__).parent
TEXTS = [
    "a red apple", "a black cat", "a snow leopard", "a blue bicycle", "a lighthouse at night", "two birds on a branch",
    "a glass of water", "an old wooden chair", "a pizza with olives", "a crescent moon", "a green tractor", "a sad clown",
]  # fmt: skip
CHANGES: dict[str, Callable[[conjure.Process], conjure.Process]] = {
    "drift_dtype": lambda process: conjure.load(dtype="bfloat16", device="cpu"),
    "drift_guidance": lambda process: process.set(guidance=5),
}


def markdown(result: Drift) -> str:
    """Return the headline, the settings, the tables of groups and texts, and the notes of a result."""
    document = result.document()
    tables = [table.to_markdown() for table in document.tables[: 2 if result.groups else 1]]
    return "\n\n".join([document.headline, document.settings[0], *tables, document.note])


def main() -> None:
    """Write the tables."""
    process = conjure.load(device="cpu")
    for name, change in CHANGES.items():
        result = conjure.drift(process, change(process), TEXTS)
        (HERE / f"{name}.md").write_text(markdown(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

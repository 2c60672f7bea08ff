"""Measure the example of docs/howto/drift.md in which agreement with human ratings does not show what broke.

Noise of one standard deviation is added to every weight matrix of the cross-attention of the default model. Writes
benchmarks/drift_damage.md and docs/figures/drift_damage.png (one to two minutes on a CPU).

python benchmarks/drift_damage.py [FOLDER]  # the folder with rg65.tsv; by default ../shared/data/similarity
"""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.attention_processor import Attention

import conjure
from conjure.evaluation.report import format_interval
from conjure.evaluation.results import TaskResult
from drift_examples import HERE, TEXTS, markdown

ROOT = HERE.parent
RATINGS = ROOT.parent / "shared" / "data" / "similarity"
SHOWN = 3  # texts that changed most, and texts that changed least, in the figure


def damage(process: conjure.Process, seed: int = 0) -> conjure.Process:
    """Return a process whose cross-attention matrices have noise of one standard deviation of their weights."""
    pipeline = copy.deepcopy(process.pipeline)
    generator = torch.Generator().manual_seed(seed)
    for layer in pipeline.transformer.modules():
        if isinstance(layer, Attention) and layer.is_cross_attention:
            for linear in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]):
                weight = linear.weight.data
                weight += weight.std() * torch.randn(weight.shape, generator=generator)
    return replace(process, pipeline=pipeline, model="damaged")


def agreement_rows(name: str, result: TaskResult) -> list[str]:
    """Return the agreement of a process on RG65, and its floors, as rows of a Markdown table."""
    floors = result.floors
    assert floors is not None
    measures = {
        name: result.agreement,
        f"{name}, given the text encoder": floors.partial,
        f"{name}, shuffled texts": floors.shuffled,
        "text encoder alone": floors.encoder,
    }
    return [
        f"| {label} | {100 * measure.spearman:.1f} | {format_interval([100 * end for end in measure.ci95])} |"
        for label, measure in measures.items()
        if measure is not None
    ]


def main() -> None:
    """Write the tables and the figure."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RATINGS
    process = conjure.load(device="cpu")
    damaged = damage(process)
    rows: dict[str, None] = {}  # the text encoder is the same for both
    notes = []
    for name, evaluated in (("default model", process), ("damaged model", damaged)):
        evaluation = conjure.evaluate(evaluated, ["rg65"], data=folder, samples=2)
        rows |= dict.fromkeys(agreement_rows(name, evaluation.tasks["rg65"]))
        notes += [f"{name}: {note}." for note in evaluation.notes]
    result = conjure.drift(process, damaged, TEXTS, images=SHOWN)
    table = "\n".join(["| RG65 | Spearman | 95% CI |", "|---|---|---|", *rows])
    parts = [table, *notes, markdown(result)]
    (HERE / "drift_damage.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    result.save(ROOT / "docs" / "figures" / "drift_damage.png")


if __name__ == "__main__":
    main()

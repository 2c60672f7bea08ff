"""Measure the example of docs/howto/drift.md in which a damaged model keeps its agreement with human ratings.

Noise is added to every weight matrix of the cross-attention of the default model. Writes benchmarks/drift_damage.md and
docs/figures/drift_damage.png (two minutes on a CPU).

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
from conjure.diffusion.seeding import noise_seed
from conjure.evaluation.correlation import Agreement
from conjure.evaluation.partial_correlation import PartialCorrelation
from conjure.evaluation.report import format_interval
from conjure.plotting.images import contact_sheet
from drift_examples import HERE, TEXTS, markdown

ROOT = HERE.parent
RATINGS = ROOT.parent / "shared" / "data" / "similarity"
LEVELS = (1.0, 3.0)  # standard deviations of the noise, in those of the weights of each matrix
NUM_TEXTS = 6
SHOWN = 4  # texts in the figure


def damage(process: conjure.Process, level: float = 1.0, seed: int = 0) -> conjure.Process:
    """Return a process whose cross-attention matrices have noise.

    Args:
        process: The process, which is not changed.
        level: The standard deviation of the noise, relative to that of the weights of each matrix.
        seed: The seed of the noise.
    """
    pipeline = copy.deepcopy(process.pipeline)
    generator = torch.Generator().manual_seed(seed)
    for layer in pipeline.transformer.modules():
        if isinstance(layer, Attention) and layer.is_cross_attention:
            for linear in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]):
                weight = linear.weight.data
                weight += level * weight.std() * torch.randn(weight.shape, generator=generator)
    return replace(process, pipeline=pipeline, model=f"noise {level:g}")


def percent(measure: Agreement | PartialCorrelation | None) -> str:
    """Return a correlation times 100 with its interval."""
    if measure is None:
        return ""
    return f"{100 * measure.spearman:.1f} ({format_interval([100 * end for end in measure.ci95])})"


def main() -> None:
    """Write the tables and the figure."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else RATINGS
    process = conjure.load(device="cpu")
    texts = TEXTS[:NUM_TEXTS]
    rows, notes, tables, finals, names = [], [], [], [], []
    for level in (0.0, *LEVELS):
        evaluated = damage(process, level) if level else process
        names.append(f"noise of {level:g} standard deviations" if level else "no noise")
        finals.append(evaluated.run(texts[:SHOWN], [noise_seed(0, 0)] * SHOWN, "np"))
        evaluation = conjure.evaluate(evaluated, ["rg65"], data=folder)
        result = evaluation.tasks["rg65"]
        assert result.floors is not None
        notes += [f"{names[-1][0].upper()}{names[-1][1:]}: {note}." for note in evaluation.notes]
        drift = "0"
        if level:
            measured = conjure.drift(process, evaluated, texts)
            relative = measured.summary["relative"]
            least = min(text.relative.as_percentage().value for text in measured.texts)
            mean = relative.mean.as_percentage()
            drift = f"{mean}% ({mean.interval}); {least:.0f}% for the text that changed least"
            tables.append(markdown(measured))
        cells = [names[-1], percent(result.agreement), percent(result.floors.partial), percent(result.floors.shuffled), drift]
        rows.append(f"| {' | '.join(cells)} |")
    heads = "| | RG65, Spearman (95% CI) | given the text encoder | shuffled texts | mean drift over texts, relative (95% CI) |"
    lines = [
        "\n".join([heads, "|---|---|---|---|---|", *rows]),
        f"The text encoder alone: {percent(result.floors.encoder)}.",
        *notes,
        f"The drift with noise of {LEVELS[0]:g} standard deviation by text:",
        tables[0],
    ]
    (HERE / "drift_damage.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    sheet = contact_sheet([[images[row] for images in finals] for row in range(SHOWN)], texts[:SHOWN], names, "png")
    (ROOT / "docs" / "figures" / "drift_damage.png").write_bytes(sheet)


if __name__ == "__main__":
    main()

"""Agreement with people as something to call again and again: while a model is trained, after it was quantised, in a list of
checks. In the manner of the evaluators of sentence-transformers.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from conjure.benchmarks import Pairs, from_rows
from conjure.errors import InputError
from conjure.evaluation import evaluate
from conjure.loading import load
from conjure.process import Process


class SimilarityEvaluator:
    """Judged pairs, to be held against one process after another.

    sentences1, sentences2: the texts. scores: what people said, higher for more similar. name: in front of the metrics' names.
    options: further ones for `conjure.evaluate`, such as `samples`. Calls return metrics by name; `primary_metric` is the
    Spearman correlation, and greater is better, as `load_best_model_at_end` of a trainer asks for.

    Errors: `InputError` for texts and scores that do not go together.
    """

    greater_is_better = True

    def __init__(
        self, sentences1: Sequence[str], sentences2: Sequence[str], scores: Sequence[float], *, name: str = "", **options: Any
    ) -> None:
        if not len(sentences1) == len(sentences2) == len(scores):
            raise InputError(f"{len(sentences1)} and {len(sentences2)} texts and {len(scores)} scores; give as many of each")
        columns = zip(sentences1, sentences2, np.asarray(scores).tolist(), strict=True)
        rows = [{"text1": first, "text2": second, "score": score} for first, second, score in columns]
        self.pairs: Pairs = from_rows(
            rows, name or "evaluator", name=name or "pairs", title=name or "pairs", texts=("text1", "text2")
        )
        self.name = name
        self.options = options
        self.primary_metric = f"{name}_spearman" if name else "spearman"

    @classmethod
    def of(cls, pairs: Pairs, **options: Any) -> SimilarityEvaluator:
        """The evaluator of a set that `conjure.benchmarks` has read."""
        return cls(pairs.first, pairs.second, pairs.scores.tolist(), name=pairs.name, **options)

    def __call__(self, model: Any, output_path: str | Path | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        """Metrics of `model`, a `Process` or anything that `conjure.load` takes; what is in training mode is so again after.

        output_path: a folder in which a row is added to `similarity_evaluation_{name}_results.csv`, with `epoch` and `steps`.
        """
        pipeline = model.pipeline if isinstance(model, Process) else model
        parts = pipeline.components.values() if isinstance(pipeline, DiffusionPipeline) else ()
        training = [part for part in parts if isinstance(part, torch.nn.Module) and part.training]
        try:
            for part in training:
                part.eval()
            process = model if isinstance(model, Process) else load(model)
            found = evaluate(process, [self.pairs], **self.options).tasks[self.pairs.name].agreement
        finally:
            for part in training:
                part.train()
        metrics = {
            "spearman": found.spearman,
            "spearman_low": found.ci95[0],
            "spearman_high": found.ci95[1],
            "pearson": found.pearson,
        }
        if output_path is not None:
            self._note(Path(output_path), {"epoch": epoch, "steps": steps, **metrics})
        return {f"{self.name}_{key}" if self.name else key: value for key, value in metrics.items()}

    def _note(self, folder: Path, row: dict[str, float]) -> None:
        path = folder / f"similarity_evaluation_{self.name + '_' if self.name else ''}results.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be written: {error.strerror}; name another folder") from error

"""Agreement with human ratings as a callable, for repeated evaluation: during training, after quantisation, in a list of metrics.

The interface is that of the evaluators of sentence-transformers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from conjure.deprecation import warn_renamed
from conjure.diffusion.loading import load
from conjure.diffusion.process import Process
from conjure.errors import InputError
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.pair_files import Pairs, from_rows
from conjure.io.files import output_error


class SimilarityEvaluator:
    """Pairs with human ratings, to evaluate one process after another.

    Args:
        sentences1: First text of each pair.
        sentences2: Second text of each pair.
        scores: Human rating of each pair, higher for more similar texts.
        name: Prefix of the names of the metrics.
        options: Further arguments of `conjure.evaluate`, such as `samples`.

    Attributes:
        pairs: The pairs.
        primary_metric: Name of the Spearman correlation among the metrics; greater is better (`greater_is_better`), as
            `load_best_model_at_end` of a trainer requires.

    Raises:
        InputError: If the numbers of texts and scores differ, a text is blank or a score is not a number.
    """

    greater_is_better = True

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[int | float] | np.ndarray,
        *,
        name: str = "",
        **options: Any,
    ) -> None:
        if not len(sentences1) == len(sentences2) == len(scores):
            raise InputError(
                f"there are {len(sentences1)} first texts, {len(sentences2)} second texts and {len(scores)} scores; "
                "the numbers must be equal"
            )
        columns = zip(sentences1, sentences2, np.asarray(scores).tolist(), strict=True)
        rows = [{"text1": first, "text2": second, "score": score} for first, second, score in columns]
        task = name or "pairs"
        self.pairs: Pairs = from_rows(rows, name or "evaluator", name=task, title=task, text_columns=("text1", "text2"))
        self.name = name
        self.options = options
        self.primary_metric = f"{name}_spearman" if name else "spearman"

    @classmethod
    def from_pairs(cls, pairs: Pairs, **options: Any) -> SimilarityEvaluator:
        """Return an evaluator of pairs that `conjure.evaluation.datasets` has read; their name is the prefix of the metrics."""
        return cls(pairs.first, pairs.second, pairs.scores.tolist(), name=pairs.name, **options)

    @classmethod
    def of(cls, pairs: Pairs, **options: Any) -> SimilarityEvaluator:
        """Return `from_pairs(pairs, **options)`. Deprecated name."""
        warn_renamed("SimilarityEvaluator.of", "SimilarityEvaluator.from_pairs")
        return cls.from_pairs(pairs, **options)

    def __call__(self, model: Any, output_path: str | Path | None = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
        """Return the metrics of a model; modules in training mode are evaluated in evaluation mode, and restored.

        Args:
            model: A `Process`, or anything that `conjure.load` accepts.
            output_path: A folder; one row is appended to `similarity_evaluation_{name}_results.csv` there.
            epoch: Written into that row.
            steps: Written into that row.

        Raises:
            InputError: If the model cannot be evaluated, or the row cannot be written.
        """
        pipeline = model.pipeline if isinstance(model, Process) else model
        components = pipeline.components.values() if isinstance(pipeline, DiffusionPipeline) else ()
        training = [module for module in components if isinstance(module, torch.nn.Module) and module.training]
        try:
            for module in training:
                module.eval()
            process = model if isinstance(model, Process) else load(model)
            options = {"floors": False} | self.options  # no metric depends on them
            agreement = evaluate(process, [self.pairs], **options).tasks[self.pairs.name].agreement
        finally:
            for module in training:
                module.train()
        metrics = {
            "spearman": agreement.spearman,
            "spearman_low": agreement.ci95[0],
            "spearman_high": agreement.ci95[1],
            "pearson": agreement.pearson,
        }
        if output_path is not None:
            self._append_row(Path(output_path), {"epoch": epoch, "steps": steps, **metrics})
        return {f"{self.name}_{metric}" if self.name else metric: value for metric, value in metrics.items()}

    def _append_row(self, folder: Path, row: Mapping[str, int | float]) -> None:
        path = folder / f"similarity_evaluation_{self.name + '_' if self.name else ''}results.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise output_error(path, error) from error

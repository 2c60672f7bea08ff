"""Conjure: how similar two texts are by what they make a text-to-image diffusion model conjure.

>>> import conjure
>>> process = conjure.load()
>>> estimate = conjure.distance(process, "snow leopard", "bengal tiger")
>>> len(estimate.samples)
3
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conjure.ablation import Ablation, ablate
    from conjure.attribution import Attribution, attribute
    from conjure.comparison import Comparison, diff
    from conjure.errors import InputError, NoWorkersWarning, TextCutWarning
    from conjure.estimate import Estimate
    from conjure.evaluation import Evaluation, evaluate
    from conjure.evaluator import SimilarityEvaluator
    from conjure.explanation import Explanation, explain
    from conjure.loading import load
    from conjure.matrices import Matrix, matrix
    from conjure.neighbours import Neighbours, nearest
    from conjure.process import Process
    from conjure.similarity import distance, distances
    from conjure.store import Store
    from conjure.workers import Workers

__all__ = [
    "Ablation",
    "Attribution",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Explanation",
    "InputError",
    "Matrix",
    "Neighbours",
    "NoWorkersWarning",
    "Process",
    "SimilarityEvaluator",
    "Store",
    "TextCutWarning",
    "Workers",
    "ablate",
    "attribute",
    "diff",
    "distance",
    "distances",
    "evaluate",
    "explain",
    "load",
    "matrix",
    "nearest",
]

_HOME = {
    "Ablation": "ablation",
    "Attribution": "attribution",
    "Comparison": "comparison",
    "Estimate": "estimate",
    "Evaluation": "evaluation",
    "Explanation": "explanation",
    "InputError": "errors",
    "Matrix": "matrices",
    "Neighbours": "neighbours",
    "NoWorkersWarning": "errors",
    "Process": "process",
    "SimilarityEvaluator": "evaluator",
    "Store": "store",
    "TextCutWarning": "errors",
    "Workers": "workers",
    "ablate": "ablation",
    "attribute": "attribution",
    "diff": "comparison",
    "distance": "similarity",
    "distances": "similarity",
    "evaluate": "evaluation",
    "explain": "explanation",
    "load": "loading",
    "matrix": "matrices",
    "nearest": "neighbours",
}


def __getattr__(name: str) -> Any:
    # on first use, so that `import conjure` and `conjure --help` do not wait for torch
    if name in _HOME:
        value = getattr(import_module(f"conjure.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'conjure' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

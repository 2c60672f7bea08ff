"""Conjure measures how similar two texts are by what they make a diffusion model generate: images, videos or sounds.

>>> import conjure
>>> process = conjure.load()
>>> estimate = conjure.distance(process, "snow leopard", "bengal tiger")
>>> len(estimate.samples)
3
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import takes half of the time in which the command cannot handle Ctrl-C yet

if TYPE_CHECKING:
    from typing import Any

    from conjure.baselines.registry import make_baselines
    from conjure.diffusion.loading import load
    from conjure.diffusion.process import Process
    from conjure.divergence.estimates import Estimate
    from conjure.engine.ray_workers import Workers
    from conjure.engine.store import Store
    from conjure.errors import (
        FewStepModelWarning,
        IndistinctTextWarning,
        InputError,
        NoWorkersWarning,
        OutputError,
        QuotedFieldsWarning,
        ReadOnlyStoreWarning,
        SafetyCheckerWarning,
        TextTruncationWarning,
        UnknownBehaviorWarning,
    )
    from conjure.evaluation.ablation import Ablation, ablate
    from conjure.evaluation.comparison import Comparison, diff
    from conjure.evaluation.distance_table import DistanceTable
    from conjure.evaluation.evaluate import evaluate
    from conjure.evaluation.evaluator import SimilarityEvaluator
    from conjure.evaluation.pair_distances import distance_table
    from conjure.evaluation.pair_files import read_pairs
    from conjure.evaluation.results import Evaluation
    from conjure.evaluation.run_series import RunSeries, diff_runs
    from conjure.evaluation.text_pairs import read_text_pairs
    from conjure.explanation.attribution import Attribution, attribute
    from conjure.explanation.explain import Explanation, explain
    from conjure.process_drift.compute import drift
    from conjure.process_drift.results import Drift
    from conjure.similarity.calibration import Calibration, calibrate
    from conjure.similarity.matrices import Matrix, matrix
    from conjure.similarity.nearest import Neighbours, nearest
    from conjure.similarity.pairwise import distance, distances

__all__ = [
    "Ablation",
    "Attribution",
    "Calibration",
    "Comparison",
    "DistanceTable",
    "Drift",
    "Estimate",
    "Evaluation",
    "Explanation",
    "FewStepModelWarning",
    "IndistinctTextWarning",
    "InputError",
    "Matrix",
    "Neighbours",
    "NoWorkersWarning",
    "OutputError",
    "Process",
    "QuotedFieldsWarning",
    "ReadOnlyStoreWarning",
    "RunSeries",
    "SafetyCheckerWarning",
    "SimilarityEvaluator",
    "Store",
    "TextTruncationWarning",
    "UnknownBehaviorWarning",
    "Workers",
    "ablate",
    "attribute",
    "calibrate",
    "diff",
    "diff_runs",
    "distance",
    "distance_table",
    "distances",
    "drift",
    "evaluate",
    "explain",
    "load",
    "make_baselines",
    "matrix",
    "nearest",
    "read_pairs",
    "read_text_pairs",
]

_MODULES = {
    "Ablation": "evaluation.ablation",
    "Attribution": "explanation.attribution",
    "Calibration": "similarity.calibration",
    "Comparison": "evaluation.comparison",
    "DistanceTable": "evaluation.distance_table",
    "Drift": "process_drift.results",
    "Estimate": "divergence.estimates",
    "Evaluation": "evaluation.results",
    "Explanation": "explanation.explain",
    "FewStepModelWarning": "errors",
    "IndistinctTextWarning": "errors",
    "InputError": "errors",
    "Matrix": "similarity.matrices",
    "Neighbours": "similarity.nearest",
    "NoWorkersWarning": "errors",
    "OutputError": "errors",
    "Process": "diffusion.process",
    "QuotedFieldsWarning": "errors",
    "ReadOnlyStoreWarning": "errors",
    "RunSeries": "evaluation.run_series",
    "SafetyCheckerWarning": "errors",
    "SimilarityEvaluator": "evaluation.evaluator",
    "Store": "engine.store",
    "TextTruncationWarning": "errors",
    "UnknownBehaviorWarning": "errors",
    "Workers": "engine.ray_workers",
    "ablate": "evaluation.ablation",
    "attribute": "explanation.attribution",
    "calibrate": "similarity.calibration",
    "diff": "evaluation.comparison",
    "diff_runs": "evaluation.run_series",
    "distance": "similarity.pairwise",
    "distance_table": "evaluation.pair_distances",
    "distances": "similarity.pairwise",
    "drift": "process_drift.compute",
    "evaluate": "evaluation.evaluate",
    "explain": "explanation.explain",
    "load": "diffusion.loading",
    "make_baselines": "baselines.registry",
    "matrix": "similarity.matrices",
    "nearest": "similarity.nearest",
    "read_pairs": "evaluation.pair_files",
    "read_text_pairs": "evaluation.text_pairs",
}
_RENAMED = {"TextCutWarning": "TextTruncationWarning"}


def __getattr__(name: str) -> Any:
    # On first use, so that `import conjure` and `conjure --help` do not wait for torch
    if name in _RENAMED:
        from conjure.deprecation import warn_renamed

        warn_renamed(f"conjure.{name}", f"conjure.{_RENAMED[name]}")
        return __getattr__(_RENAMED[name])
    if name in _MODULES:
        from importlib import import_module

        value = getattr(import_module(f"conjure.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'conjure' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

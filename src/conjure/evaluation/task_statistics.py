"""From the squared differences of predictions along the trajectories of all pairs to the result of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DIVERGENCES, DivergenceConfig
from conjure.evaluation.correlation import Agreement, agreement, difference, has_correlation, reliability
from conjure.evaluation.error_analysis import groups
from conjure.evaluation.pair_files import Pairs
from conjure.evaluation.result_parts import BaselineComparison
from conjure.evaluation.results import TaskResult


def compute_task_result(
    pairs: Pairs,
    differences: Sequence[PairDifferences],
    config: DivergenceConfig,
    *,
    antithetic: bool = False,
    baseline_distances: Mapping[str, Float[np.ndarray, "pairs _"]] | None = None,
    num_excluded: int = 0,
) -> TaskResult:
    """Return the agreement of distances with human ratings, with the paper's baselines and other measures.

    Args:
        pairs: The pairs.
        differences: Squared differences of predictions of each pair.
        config: The divergence that the distances are. With uniform weights, those of the paper's baselines are computed as well.
        antithetic: Whether the two texts of a pair start from opposite noise; `direct` is then not defined.
        baseline_distances: Distances by other measures, each of shape (pairs, samples), by name.
        num_excluded: Number of pairs that were excluded before.

    Raises:
        InputError: If a distance is not finite, or all distances are equal.
    """
    configs = {config.divergence: config}
    if config.weighting == "uniform":
        configs |= {name: DivergenceConfig(name, "uniform", config.unit, config.reduction) for name in DIVERGENCES}
        if antithetic:
            del configs["direct"]  # it compares images from the same noise
    values = {name: compute_distances(differences, config_of_name) for name, config_of_name in configs.items()}
    distances, baseline_distances = values[config.divergence], baseline_distances or {}
    rank_reliability, ceiling = reliability(distances)
    return TaskResult(
        pairs=pairs,
        config=config,
        distances=distances,
        differences=differences,
        divergences={
            name: agreement(value, pairs.scores)
            for name, value in values.items()
            # at pure noise, some units have the weight 0, so that `initial` is 0 for all pairs
            if name == config.divergence or has_correlation(value, pairs.scores)
        },
        subsets=_subset_agreements(pairs, distances),
        groups=groups(pairs, distances, baseline_distances.get("encoder")),
        baselines={name: _compare_baseline(pairs, distances, other) for name, other in baseline_distances.items()},
        reliability=rank_reliability,
        ceiling=ceiling,
        num_excluded=num_excluded,
    )


def compute_distances(differences: Sequence[PairDifferences], config: DivergenceConfig) -> Float[np.ndarray, "pairs samples"]:
    """Return the distance of each pair in each Monte-Carlo sample.

    Args:
        differences: Squared differences of predictions of each pair.
        config: The divergence.
    """
    return np.stack([config.per_sample(pair) for pair in differences])


def _compare_baseline(
    pairs: Pairs, distances: Float[np.ndarray, "pairs samples"], baseline_distances: Float[np.ndarray, "pairs _"]
) -> BaselineComparison:
    """Compare a baseline with the process.

    Raises:
        InputError: If a distance of the baseline is not finite.
    """
    if np.ptp(baseline_distances.mean(1)) == 0:
        return BaselineComparison(baseline_distances, None, None, {})
    return BaselineComparison(
        distances=baseline_distances,
        difference=difference(distances, baseline_distances, pairs.scores),
        agreement=agreement(baseline_distances, pairs.scores),
        subsets=_subset_agreements(pairs, baseline_distances),
    )


def _subset_agreements(pairs: Pairs, distances: Float[np.ndarray, "pairs samples"]) -> dict[str, Agreement]:
    """Return the agreement in each subset of the dataset; those for which no correlation is defined are left out."""
    if pairs.subset is None:
        return {}
    agreements = {}
    for subset in sorted(set(pairs.subset)):
        mask = np.array([name == subset for name in pairs.subset])
        if has_correlation(distances[mask], pairs.scores[mask]):
            agreements[subset] = agreement(distances[mask], pairs.scores[mask])
    return agreements

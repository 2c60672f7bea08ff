"""The columns of a table of distances: the distance with its error and its directions, other divergences, and similarities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.divergence.intervals import PooledErrors, nonnegative_ends, pool_errors
from conjure.divergence.reference_scale import ReferenceScale

SIMILARITY_COLUMNS = ("similarity", "similarity_ci95_low", "similarity_ci95_high")
Columns = dict[str, Float[np.ndarray, " pairs"]]


def distance_columns(differences: Sequence[PairDifferences], configs: Sequence[DivergenceConfig]) -> tuple[Columns, PooledErrors]:
    """Return the distances of pairs as columns.

    Args:
        differences: Squared differences of predictions of each pair.
        configs: The divergences. The first one is the distance; the columns of the others begin with their names.

    Returns:
        The columns, and the errors of the distance. The columns of errors and intervals are NaN with one sample, those of
        directions for `direct`.
    """
    config, *others = configs
    per_step = [config.per_step(pair) for pair in differences]
    columns, errors = _columns("", np.stack([divergence.total.sum(1) for divergence in per_step]))
    directions = np.array([divergence.directions(config.divergence) for divergence in per_step])  # (pairs, 2, samples)
    columns["forward"], columns["backward"] = directions.mean(2).T
    for other in others:
        columns |= _columns(other.divergence, np.stack([other.per_sample(pair) for pair in differences]))[0]
    return columns, errors


def similarity_columns(distances: Columns, scale: ReferenceScale) -> Columns:
    """Return the similarities of pairs, and the ends of their 95% intervals, as columns.

    Args:
        distances: The columns of their distances, all of which are finite.
        scale: The reference scale of the process.
    """
    similarities = scale.similarities(*(distances[name] for name in ("distance", "ci95_low", "ci95_high")))
    return dict(zip(SIMILARITY_COLUMNS, similarities, strict=True))


def column_names(divergences: Sequence[str]) -> list[str]:
    """Return the names of the columns of `distance_columns`, for the names of the divergences."""
    columns = [*_names(""), "forward", "backward"]
    return columns + [name for divergence in divergences[1:] for name in _names(divergence)]


def _names(prefix: str) -> tuple[str, str, str, str]:
    if not prefix:
        return "distance", "stderr", "ci95_low", "ci95_high"
    return prefix, f"{prefix}_stderr", f"{prefix}_ci95_low", f"{prefix}_ci95_high"


def _columns(prefix: str, values: Float[np.ndarray, "pairs samples"]) -> tuple[Columns, PooledErrors]:
    """Return mean, standard error and the ends of the 95% interval of each pair, with their errors."""
    errors, mean = pool_errors(values), values.mean(1)
    ends = nonnegative_ends(mean, errors.stderr, errors.degrees_of_freedom)
    return dict(zip(_names(prefix), (mean, errors.stderr, *ends), strict=True)), errors

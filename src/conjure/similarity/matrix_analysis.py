"""Analysis of a distance matrix in pure functions: hierarchical clustering, embedding in the plane, separation of groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.deprecation import deprecated_property
from conjure.divergence.intervals import t_interval
from conjure.errors import InputError


@dataclass(frozen=True)
class Separation:
    """How well groups of texts are separated.

    Attributes:
        silhouette: The mean silhouette over texts and samples, from -1 (mixed) through 0 to 1 (well separated).
        ci95: The 95% interval of `silhouette` over samples, NaN with one sample.
        per_text: The mean silhouette of each text over samples.
    """

    silhouette: float
    ci95: tuple[float, float]
    per_text: dict[str, float]

    of = deprecated_property("of", "per_text")

    def to_dict(self) -> dict[str, Any]:
        """Return the separation as plain data for JSON. The interval is None with one sample."""
        return asdict(self) | ({"ci95": None} if np.isnan(self.ci95[0]) else {})

    def __str__(self) -> str:
        interval = "" if np.isnan(self.ci95[0]) else f" (95% CI: {self.ci95[0]:.2f} to {self.ci95[1]:.2f})"
        return f"{self.silhouette:.2f}{interval}"


@dataclass(frozen=True)
class Embedding2D:
    """Texts as points of the plane.

    Attributes:
        points: The coordinates of each text.
        explained: The fraction of the variance that the plane explains, in 0..1.
    """

    points: Float[np.ndarray, "texts 2"]
    explained: float

    share = deprecated_property("share", "explained")


def symmetrize(distance: Float[np.ndarray, "texts texts"]) -> Float[np.ndarray, "texts texts"]:
    """Return the mean of both directions, which differ for the divergence `kl`."""
    return (distance + distance.T) / 2


def average_linkage(distance: Float[np.ndarray, "texts texts"]) -> Float[np.ndarray, "merges 4"]:
    """Return the hierarchical clustering in the format of scipy: average linkage, with the optimal order of the leaves."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(symmetrize(distance), checks=False), method="average", optimal_ordering=True)


def classical_mds(squared_distance: Float[np.ndarray, "texts texts"]) -> Embedding2D:
    """Return the embedding in the plane by classical multidimensional scaling.

    Args:
        squared_distance: Squared distances. If they are not distances of points in a Euclidean space, some eigenvalues are
            negative; their absolute values count as variance that is not explained.

    Returns:
        The points and the fraction of the variance that they explain.

    Reference:
        Torgerson (1952), "Multidimensional scaling: I. Theory and method".
    """
    squared = symmetrize(squared_distance)
    column_centered = squared - squared.mean(0)
    eigenvalues, eigenvectors = np.linalg.eigh(-(column_centered - column_centered.mean(1, keepdims=True)) / 2)
    largest = np.argsort(eigenvalues)[::-1][:2]
    points = np.zeros((len(squared), 2))
    points[:, : len(largest)] = eigenvectors[:, largest] * np.sqrt(eigenvalues[largest].clip(0))
    total = np.abs(eigenvalues).sum()
    return Embedding2D(points, float(eigenvalues[largest].clip(0).sum() / total) if total else 1.0)


def group_separation(
    sample_distances: Float[np.ndarray, "samples texts texts"], texts: Sequence[str], groups: Sequence[Iterable[str]]
) -> Separation:
    """Return how well groups of texts are separated. See `conjure.Matrix.separation`."""
    group_texts = [list(group) for group in groups]
    grouped = [text for group in group_texts for text in group]
    if len(group_texts) < 2 or not all(group_texts):
        raise InputError(f"{len(group_texts)} groups, {sum(map(bool, group_texts))} of them with texts; give at least two")
    for text in grouped:
        if text not in texts:
            raise InputError(f"the text {text!r} of a group is not in the matrix; its texts are {', '.join(texts)[:200]}")
        if grouped.count(text) > 1:
            raise InputError(f"the text {text!r} occurs more than once in the groups; put each text into one group")
    group_indices = [[texts.index(text) for text in group] for group in group_texts]
    values = np.array([silhouettes(distance, group_indices) for distance in sample_distances])
    mean, _, ci95 = t_interval(values.mean(1))
    return Separation(mean, ci95, dict(zip(grouped, values.mean(0).tolist(), strict=True)))


def silhouettes(distance: Float[np.ndarray, "texts texts"], groups: Sequence[Sequence[int]]) -> Float[np.ndarray, " grouped"]:
    r"""Return the silhouette $(b - a) / \max(a, b)$ of each text, group by group.

    Here $a$ is the mean distance of the text to the other texts of its group, and $b$ its mean distance to the nearest other
    group. The silhouette of the only text of a group is 0.

    Args:
        distance: The distances between all texts.
        groups: The indices of the texts of each group.

    Reference:
        Rousseeuw (1987), "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis".
    """
    symmetrized = symmetrize(distance)
    values = []
    for group in groups:
        for i in group:
            within = symmetrized[i, [j for j in group if j != i]].mean() if len(group) > 1 else 0.0
            nearest = min(symmetrized[i, list(other_group)].mean() for other_group in groups if other_group is not group)
            scale = max(nearest, within)
            values.append((nearest - within) / scale if len(group) > 1 and scale > 0 else 0.0)
    return np.array(values)

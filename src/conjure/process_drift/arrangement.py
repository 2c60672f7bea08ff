"""How two processes arrange the same texts: for models of any kinds, also without common latents.

Each process has its own matrix of distances. Their units and scales may differ, so only ranks and shapes are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.diffusion.jobs import ProgressCallback
from conjure.errors import InputError
from conjure.evaluation.bootstrap import (
    BOOTSTRAP_CHUNK,
    NUM_BOOTSTRAP,
    percentile_interval,
    rank_correlation,
    weighted_spearman,
)
from conjure.evaluation.correlation import percentile_ranks
from conjure.io.documents import Document, Table
from conjure.io.text import shorten
from conjure.process_drift.agreement import process_labels
from conjure.process_drift.sources import ProcessLike, ProcessSource
from conjure.process_drift.validation import MIN_ARRANGED_TEXTS, check_text_list
from conjure.similarity.matrices import Matrix, matrix
from conjure.similarity.matrix_analysis import classical_mds
from conjure.similarity.options import SamplingOptions
from conjure.similarity.validation import check_matrix_texts

PERMUTATIONS = 9999
NUM_MOVED = 20  # pairs
MAX_TEXT = 60  # characters of a text in a table


@dataclass(frozen=True)
class MovedPair:
    """A pair of texts whose rank differs between the two matrices.

    Attributes:
        texts: The two texts.
        rank_a: The rank of their distance under process A among all pairs, 0 (nearest) to 100.
        rank_b: The same under process B.
    """

    texts: tuple[str, str]
    rank_a: float
    rank_b: float


@dataclass(frozen=True)
class Arrangement:
    """How similarly two processes arrange the same texts.

    Attributes:
        texts: The texts.
        correlation: Spearman's correlation of the distances of all pairs.
        ci95: Its 95% interval over texts (percentile bootstrap).
        p_value: The p-value of no correlation: the share of permutations of the texts with a correlation as large (Mantel).
        disparity: The squared distance of the maps of both matrices (`Matrix.mds_embedding`) after the best translation, scale
            and rotation, from 0 (equal) to 1 (Procrustes).
        moved: The pairs whose ranks differ most.
        labels: The names of the processes: the settings in which they differ.
        matrix_a: The distances under process A.
        matrix_b: The distances under process B.
    """

    texts: tuple[str, ...]
    correlation: float
    ci95: tuple[float, float]
    p_value: float
    disparity: float
    moved: tuple[MovedPair, ...]
    labels: tuple[str, str]
    matrix_a: Matrix
    matrix_b: Matrix

    def __str__(self) -> str:
        low, high = self.ci95
        return (
            f"{self.labels[0]} against {self.labels[1]}: rank correlation of the distances of {len(self.texts)} texts "
            f"{self.correlation:.3f} (95% CI: {low:.3f} to {high:.3f})"
        )

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "texts": list(self.texts),
            "correlation": self.correlation,
            "ci95": list(self.ci95),
            "p_value": self.p_value,
            "disparity": self.disparity,
            "moved": [asdict(pair) for pair in self.moved],
            "labels": list(self.labels),
            "matrix_a": self.matrix_a.to_dict(),
            "matrix_b": self.matrix_b.to_dict(),
        }

    def document(self) -> Document:
        """Return the result as a document."""
        low, high = self.ci95
        settings = [
            f"{self.labels[0]} against {self.labels[1]}; {len(self.texts)} texts, k = {self.matrix_a.samples}, "
            f"seed {self.matrix_a.seed}; conjure {self.matrix_a.version}",
            f"rank correlation of the distances {self.correlation:.3f} (95% CI over texts: {low:.3f} to {high:.3f}; p = "
            f"{self.p_value:.2g}, Mantel); disparity of the maps {self.disparity:.3f} (Procrustes; 0: equal, 1: unrelated)",
        ]
        rows = [
            [*(shorten(text, MAX_TEXT) for text in pair.texts), f"{pair.rank_a:.0f}", f"{pair.rank_b:.0f}"] for pair in self.moved
        ]
        columns = ("text", "text", "rank under A", "rank under B")
        table = Table("Pairs whose ranks differ most, from 0 (nearest) to 100 (farthest)", columns, rows)
        return Document("Arrangement of texts by two processes", settings, [table], "")


def compare_arrangements(
    process_a: ProcessLike,
    process_b: ProcessLike,
    texts: Iterable[str],
    *,
    samples: int = 3,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Arrangement:
    """Compare how two processes arrange some texts. Only one of their models is in memory at a time.

    Args:
        process_a: The first process; see `conjure.drift`.
        process_b: The second process, of any kind.
        texts: At least four texts, each once.
        samples: The number k of Monte-Carlo samples of each distance.
        seed: The seed of the noise, of the permutations and of the bootstrap.
        progress: Called with the number of finished denoising steps of a matrix and their total number.

    Raises:
        InputError: If a text or a value is invalid, there are too few texts, or a process cannot be loaded.
    """
    texts = check_matrix_texts(check_text_list(texts))
    if len(texts) < MIN_ARRANGED_TEXTS:
        raise InputError(f"there are {len(texts)} texts; give at least {MIN_ARRANGED_TEXTS} to compare their arrangement")
    SamplingOptions.create("output", samples=samples, seed=seed).validate(texts)
    matrices = [
        ProcessSource(given, name).use(lambda process: matrix(process, texts, samples=samples, seed=seed, progress=progress))
        for given, name in ((process_a, "process A"), (process_b, "process B"))
    ]
    return compare_matrices(*matrices, seed=seed)


def compare_matrices(a: Matrix, b: Matrix, *, seed: int = 0) -> Arrangement:
    """Compare two matrices of the same texts.

    Args:
        a: The distances under process A.
        b: The distances under process B.
        seed: The seed of the permutations and of the bootstrap.

    Raises:
        InputError: If the texts differ.

    Reference:
        Mantel (1967), "The detection of disease clustering and a generalized regression approach"; Gower (1975), "Generalized
        procrustes analysis".
    """
    from scipy.spatial import procrustes

    if a.texts != b.texts:
        raise InputError("the matrices have different texts; give two matrices of the same texts in the same order")
    rows, columns = np.triu_indices(len(a.texts), 1)
    first, second = a.distance[rows, columns], b.distance[rows, columns]
    if not (first.any() and second.any()):
        raise InputError("all texts have distance 0 from each other under one process, which arranges nothing; give other texts")
    correlation = rank_correlation(first, second)
    rank_a, rank_b = percentile_ranks(first), percentile_ranks(second)
    moved = np.argsort(-np.abs(rank_a - rank_b), kind="stable")[:NUM_MOVED]
    *_, disparity = procrustes(classical_mds(a.distance).points, classical_mds(b.distance).points)
    return Arrangement(
        texts=a.texts,
        correlation=correlation,
        ci95=percentile_interval(bootstrap_over_texts(first, second, len(a.texts), seed), correlation),
        p_value=mantel_p(a.distance, b.distance, seed),
        disparity=float(disparity),
        moved=tuple(MovedPair((a.texts[rows[i]], a.texts[columns[i]]), float(rank_a[i]), float(rank_b[i])) for i in moved),
        labels=process_labels(a.process, b.process),
        matrix_a=a,
        matrix_b=b,
    )


def bootstrap_over_texts(
    first: Float[np.ndarray, " pairs"], second: Float[np.ndarray, " pairs"], num_texts: int, seed: int
) -> Float[np.ndarray, " resamples"]:
    """Return the rank correlation of two upper triangles in resamples of the texts.

    A pair occurs as often as its two texts can be combined. Left out are pairs of a text with itself, and resamples of fewer
    than three different texts, which have no correlation.
    """
    counts = np.random.default_rng(seed).multinomial(num_texts, np.full(num_texts, 1 / num_texts), NUM_BOOTSTRAP)
    counts = counts[(counts > 0).sum(1) > 2]
    rows, columns = np.triu_indices(num_texts, 1)
    # in parts, because there are many pairs of texts
    parts = (counts[start : start + BOOTSTRAP_CHUNK] for start in range(0, len(counts), BOOTSTRAP_CHUNK))
    return np.concatenate([weighted_spearman(first, second, part[:, rows] * part[:, columns]) for part in parts])


def mantel_p(a: Float[np.ndarray, "texts texts"], b: Float[np.ndarray, "texts texts"], seed: int) -> float:
    """Return the one-sided p-value of the rank correlation of two distance matrices, by permutations of the texts of one."""
    from scipy.stats import rankdata

    rng, num_texts = np.random.default_rng(seed), len(a)
    rows, columns = np.triu_indices(num_texts, 1)
    ranks = np.zeros((2, num_texts, num_texts))
    for rank, distance in zip(ranks, (a, b), strict=True):
        rank[rows, columns] = rank[columns, rows] = rankdata(distance[rows, columns])
    # a permutation keeps mean and variance of the ranks, so that the sum of products orders correlations
    observed = (ranks[0] * ranks[1]).sum()
    as_large = 0
    for _ in range(PERMUTATIONS):
        order = rng.permutation(num_texts)
        as_large += (ranks[0] * ranks[1][np.ix_(order, order)]).sum() >= observed * (1 - 1e-12)
    return (1 + as_large) / (1 + PERMUTATIONS)

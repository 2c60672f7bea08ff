"""Matrices of the distances between all pairs of texts, as in Figure 2 of Liu and Soatto (2026)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, permutations

import numpy as np

from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.intervals import pool_errors
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.similarity.matrix_analysis import Embedding2D, Separation
from conjure.similarity.matrix_result import Matrix
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import compute_pairs, run_metadata
from conjure.similarity.validation import check_matrix_texts

__all__ = ["Embedding2D", "Matrix", "Separation", "matrix"]


def matrix(
    process: Process,
    texts: Iterable[str],
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    progress: ProgressCallback | None = None,
) -> Matrix:
    """Estimate the distances between all pairs of `texts`. N texts need N (N + 1) denoiser rows per sample and step.

    Args:
        process: The model with its sampling settings.
        texts: At least two texts, each once.
        samples: The number k of Monte-Carlo samples. Standard errors need at least two.
        seed: The seed of the noise.
        divergence: As in `conjure.distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        progress: Called with the number of finished denoising steps and the total number.

    Returns:
        The matrix. Its entries equal the results of `conjure.distance`.

    Raises:
        InputError: As `conjure.distance`, for fewer than two texts, and for a text that occurs twice.
    """
    if isinstance(texts, str):
        raise InputError(f"the texts of a matrix are {texts!r}; give a list of texts")
    texts = check_matrix_texts(texts)
    options = SamplingOptions.create(process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
                                     unit=unit, reduction=reduction, antithetic=antithetic)  # fmt: skip
    cache = compute_pairs(process, list(combinations(texts, 2)), options, progress)
    sample_distances = np.zeros((samples, len(texts), len(texts)))
    stderr = np.zeros((len(texts), len(texts)))
    directed = permutations if divergence == "kl" else combinations
    first, second = np.array(list(directed(range(len(texts)), 2))).T
    for i, j in zip(first, second, strict=True):
        sample_distances[:, i, j] = options.config.per_sample(cache.pair(texts[i], texts[j], samples))
    errors = pool_errors(sample_distances[:, first, second].T)
    stderr[first, second] = errors.stderr
    if divergence != "kl":
        sample_distances += sample_distances.swapaxes(1, 2)
        stderr += stderr.T
    return Matrix(
        tuple(texts),
        sample_distances.mean(0),
        stderr,
        sample_distances,
        samples=samples,
        degrees_of_freedom=errors.degrees_of_freedom,
        pooled_pairs=errors.pooled_pairs,
        **run_metadata(process, options),
    )

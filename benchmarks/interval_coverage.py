"""Measure coverage and width of 95% intervals of a distance, for several ways to compute them.

    python benchmarks/interval_coverage.py              # writes benchmarks/interval_coverage.md; takes about two minutes
    python benchmarks/interval_coverage.py --sample     # measures interval_samples.json with the default model first

Populations of the values of a sample:

- Gaussians in one and in two dimensions, conditions of different variance. Their predictions differ by a linear map of the noise,
  so a value is a multiple of a chi-squared variable with one or two degrees of freedom: the most skewed case.
- The default model: values of all pairs of ten texts for 100 seeds, drawn without replacement. A matrix takes the same seeds for
  all its pairs. The largest number of degrees of freedom of pooled errors was chosen on such values of version 4 of the model, so
  those of later versions had no part in that choice.
- Matrices of Gaussian texts in one and in two dimensions, which had no part in it either. Means and variances are new in each
  matrix. Their scores are exact, so the value of a pair is a quadratic function of the noise, which all pairs share.

Width is the mean ratio of the width to the true value.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from scipy import stats

from conjure.divergence import intervals
from conjure.divergence.intervals import nonnegative_ends, pool_errors

HERE = Path(__file__).parent
SAMPLES = HERE / "interval_samples.json"
TEXTS = (
    "a red apple", "a green pear", "a dog in the snow", "a puppy plays in the snow", "a man plays the guitar",
    "a woman sings on a stage", "a city at night", "a train crosses a bridge", "two children read a book",
    "waves at a rocky coast",
)  # fmt: skip
NUM_SEEDS = 100
REPETITIONS = 20_000
MATRICES = 1000  # repetitions for matrices, each of which has many pairs
SAMPLE_SIZES = (2, 3, 5, 10)
TEXTS_PER_MATRIX = (5, 8, 10)
GAUSSIAN_SAMPLE_SIZES = (2, 3, 5)
NOISE_LEVELS = np.geomspace(10, 0.1, 10)

Ends = tuple[np.ndarray, np.ndarray]


def sample_default_model() -> None:
    """Write the values of all pairs of TEXTS in each sample."""
    import conjure

    matrix = conjure.matrix(conjure.load(), TEXTS, samples=NUM_SEEDS, seed=1000)
    first, second = np.triu_indices(len(TEXTS), 1)
    values = np.round(matrix.sample_distances[:, first, second].T, 2).tolist()
    SAMPLES.write_text(json.dumps({"fingerprint": matrix.fingerprint, "texts": TEXTS, "values": values}) + "\n")


def relative_half_width(values: np.ndarray) -> np.ndarray:
    """Return the half-width of the t interval of each row, relative to its mean."""
    k = values.shape[1]
    return stats.t.ppf(0.975, k - 1) * values.std(1, ddof=1) / np.sqrt(k) / values.mean(1)


def student(values: np.ndarray) -> Ends:
    """Return Student's t intervals of the means of the rows."""
    mean, half = values.mean(1), relative_half_width(values)
    return mean * (1 - half), mean * (1 + half)


def square_root(values: np.ndarray) -> Ends:
    """Return the intervals on the square-root scale, which Conjure prints."""
    k = values.shape[1]
    return nonnegative_ends(values.mean(1), values.std(1, ddof=1) / np.sqrt(k), k - 1)


def root_of_values(values: np.ndarray) -> Ends:
    """Return the squares of intervals of the square root of the mean, with the error of the mean of square roots."""
    roots, k = np.sqrt(values), values.shape[1]
    half = stats.t.ppf(0.975, k - 1) * roots.std(1, ddof=1) / np.sqrt(k)
    root = np.sqrt(values.mean(1))
    return np.maximum(root - half, 0) ** 2, (root + half) ** 2


def cube_root(values: np.ndarray) -> Ends:
    """Return the intervals on the scale of the cube root."""
    mean, half = values.mean(1), relative_half_width(values) / 3
    return mean * np.maximum(1 - half, 0) ** 3, mean * (1 + half) ** 3


def logarithm(values: np.ndarray) -> Ends:
    """Return the intervals on the logarithmic scale."""
    mean, half = values.mean(1), relative_half_width(values)
    return mean * np.exp(-half), mean * np.exp(half)


def gamma(values: np.ndarray) -> Ends:
    """Return chi-squared intervals with the effective degrees of freedom 2 k m^2 / s^2."""
    mean, k = values.mean(1), values.shape[1]
    degrees = 2 * k / np.maximum(values.var(1, ddof=1) / mean**2, 1e-9)
    return mean * degrees / stats.chi2.ppf(0.975, degrees), mean * degrees / stats.chi2.ppf(0.025, degrees)


METHODS: dict[str, Callable[[np.ndarray], Ends]] = {
    "Student's t": student,
    "square root": square_root,
    "square root of values": root_of_values,
    "cube root": cube_root,
    "logarithm": logarithm,
    "chi-squared": gamma,
}


def pooled(values: np.ndarray) -> Ends:
    """Return the intervals with errors that are pooled over the rows."""
    errors = pool_errors(values)
    return nonnegative_ends(values.mean(1), errors.stderr, errors.degrees_of_freedom)


def pooled_without_bound(values: np.ndarray) -> Ends:
    """Return the same with any number of degrees of freedom of the prior."""
    with mock.patch.object(intervals, "MAX_PRIOR_DEGREES", 1e6):
        return pooled(values)


MATRIX_METHODS = (square_root, pooled, pooled_without_bound)


def cell(ends: Ends, truth: np.ndarray | float) -> str:
    """Return coverage and width of intervals as text."""
    low, high = ends
    covered = np.mean((low <= truth) & (truth <= high))
    return f"{covered:.3f} ({np.mean((high - low) / truth):.3g})"


def single_intervals(values: np.ndarray) -> list[str]:
    """Return the lines of the table for intervals of single distances."""
    rng = np.random.default_rng(0)
    lines = [f"| population | k | {' | '.join(METHODS)} |", "|---|---" + "|---" * len(METHODS) + "|"]
    for name in ("Gaussians, 1-D", "Gaussians, 2-D", "default model"):
        for k in SAMPLE_SIZES:
            truth: np.ndarray | float
            if name == "default model":
                pairs = rng.integers(len(values), size=(REPETITIONS, 1))
                seeds = rng.random((REPETITIONS, values.shape[1])).argsort(1)[:, :k]
                drawn = values[pairs, seeds]
                truth = values[pairs[:, 0]].mean(1)
            else:
                truth = 1 + (name == "Gaussians, 2-D")
                drawn = rng.chisquare(truth, (REPETITIONS, k))
            lines.append(f"| {name} | {k} | {' | '.join(cell(method(drawn), truth) for method in METHODS.values())} |")
    return lines


def matrices_of_samples(values: np.ndarray, num_texts: int, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the values of k samples of the pairs of some texts, and their means over all samples."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(len(TEXTS), 1)
    for _ in range(MATRICES):
        texts = rng.permutation(len(TEXTS))[:num_texts]
        matrix = values[np.isin(first, texts) & np.isin(second, texts)]
        yield matrix[:, rng.permutation(values.shape[1])[:k]], matrix.mean(1)


def matrices_of_gaussians(dimensions: int, num_texts: int, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the values of k samples of the pairs of Gaussian texts, and their true values.

    A text is N(m, v I). At the noise level sigma, its noise prediction is sigma (x - m) / (v + sigma^2), and the probability-flow
    ODE from the noise s z leads to x = m + c (s z - m) with c^2 = (v + sigma^2) / (v + s^2). The difference of the predictions
    for two texts is a z + b, so a value is the quadratic function alpha |z|^2 + 2 beta z + gamma of the noise z.
    """
    rng = np.random.default_rng(1)
    first, second = np.triu_indices(num_texts, 1)
    for _ in range(MATRICES):
        means, variances = rng.normal(size=(num_texts, dimensions)), rng.lognormal(0, 0.7, num_texts)
        alpha, gamma, beta = np.zeros(len(first)), np.zeros(len(first)), np.zeros((len(first), dimensions))
        for sigma in NOISE_LEVELS:
            for i, j in ((first, second), (second, first)):
                scale = np.sqrt((variances[i] + sigma**2) / (variances[i] + NOISE_LEVELS[0] ** 2))
                own, other = (sigma / (variances[text] + sigma**2) for text in (i, j))
                a = scale * NOISE_LEVELS[0] * (own - other)
                shift = scale[:, None] * means[i]
                b = -own[:, None] * shift - other[:, None] * (means[i] - shift - means[j])
                alpha = alpha + a**2 / len(NOISE_LEVELS)
                beta = beta + a[:, None] * b / len(NOISE_LEVELS)
                gamma = gamma + (b**2).sum(1) / len(NOISE_LEVELS)
        noise = rng.normal(size=(dimensions, k))
        yield alpha[:, None] * (noise**2).sum(0) + 2 * beta @ noise + gamma[:, None], alpha * dimensions + gamma


def matrix_line(name: str, num_texts: int, k: int, matrices: Iterator[tuple[np.ndarray, np.ndarray]]) -> str:
    """Return a line of the table for the intervals of all entries of matrices."""
    drawn, truths = zip(*matrices, strict=True)
    cells = []
    for method in MATRIX_METHODS:
        low, high = (np.array(ends) for ends in zip(*map(method, drawn), strict=True))
        cells.append(cell((low, high), np.array(truths)))
    return f"| {name} | {num_texts} | {num_texts * (num_texts - 1) // 2} | {k} | {' | '.join(cells)} |"


def matrix_intervals(values: np.ndarray) -> list[str]:
    """Return the lines of the table for the intervals of all entries of a matrix."""
    lines = [
        "| population | texts | pairs | k | each pair alone | pooled | pooled, any degrees of freedom |",
        "|---|---|---|---|---|---|---|",
    ]
    for num_texts in TEXTS_PER_MATRIX:
        for k in SAMPLE_SIZES:
            lines.append(matrix_line("default model", num_texts, k, matrices_of_samples(values, num_texts, k)))
    for dimensions in (1, 2):
        for num_texts in TEXTS_PER_MATRIX[::2]:
            for k in GAUSSIAN_SAMPLE_SIZES:
                matrices = matrices_of_gaussians(dimensions, num_texts, k)
                lines.append(matrix_line(f"Gaussians, {dimensions}-D", num_texts, k, matrices))
    return lines


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true", help="measure the samples of the default model again")
    if parser.parse_args().sample:
        sample_default_model()
    samples = json.loads(SAMPLES.read_text())
    values = np.array(samples["values"])
    variation = values.std(1, ddof=1) / values.mean(1)
    lines = [
        f"Coverage of 95% intervals, and in parentheses the mean of width / true value; {REPETITIONS:,} repetitions. Default "
        f"model: {len(values)} pairs of {len(TEXTS)} texts, {values.shape[1]} samples of each, fingerprint "
        f"{samples['fingerprint'][:12]}; relative standard deviation of a sample {np.sqrt(np.mean(variation**2)):.2f}, skewness "
        f"{stats.skew(values, 1).mean():.2f}.",
        "",
        *single_intervals(values),
        "",
        f"All entries of a matrix, square-root scale; {MATRICES:,} matrices. The bound of the degrees of freedom was chosen on "
        "values of version 4 of the default model; none of these populations had a part in that choice.",
        "",
        *matrix_intervals(values),
    ]
    (HERE / "interval_coverage.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

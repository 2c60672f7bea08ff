"""Compare the variance of the distance under different noise designs and numbers of steps, at equal cost.

    python benchmarks/variance.py stsb.tsv            # writes benchmarks/variance.md; takes half an hour on one core
    python benchmarks/variance.py stsb.tsv --table    # only the table, from the files in --out

stsb.tsv has a header and tab-separated columns `split genre sentence1 sentence2 score`. The pairs are from its dev split, ten per
score band. The results of each design and pair are stored in one file, so that a stopped run can be resumed.

The value of a sample is forward + backward, f(x) + b(x), from the noise x. Ratios are those of relative variances (squared
coefficients of variation) at equal numbers of denoiser rows (elements of a batch), pooled over pairs, with 95% bootstrap
intervals over pairs.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

import conjure
from conjure.diffusion.noise_levels import prediction_type, unit_scale
from conjure.diffusion.process import Process
from conjure.diffusion.shared_trajectory import DenoisingStep, run_on_shared_trajectories
from conjure.io.version import package_version
from noise_designs import DESIGNS, NET_SIZE, NUM_SEEDS, negated_samples, rows_per_sample

HERE = Path(__file__).parent
PAIRS_PER_BAND = 16  # in each of five bands of human scores
NUM_PAIRS = 50  # of these, taken from the bands in turn

Pair = tuple[str, str, float]


@dataclass(frozen=True)
class ProcessWithNoise(Process):
    """A process that starts from given noise.

    Attributes:
        noises: The initial noise of each row, (rows, channels, height, width).
    """

    noises: torch.Tensor | None = None

    def call_kwargs(self, *args: Any) -> dict[str, Any]:
        """Return the arguments of the pipeline's call, with the noise."""
        return super().call_kwargs(*args) | {"latents": self.noises}


def dev_pairs(path: Path) -> list[Pair]:
    """Return pairs of the dev split, from the five score bands in turn."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["split"] == "dev"]
    rows = [row for row in rows if row["sentence1"] != row["sentence2"]]
    rng = np.random.default_rng(0)
    bands = [[row for row in rows if min(int(float(row["score"])), 4) == band] for band in range(5)]
    drawn = [[band[i] for i in rng.permutation(len(band))[:PAIRS_PER_BAND]] for band in bands]
    selected = [drawn[band][i] for i in range(PAIRS_PER_BAND) for band in range(5)][:NUM_PAIRS]
    return [(row["sentence1"], row["sentence2"], float(row["score"])) for row in selected]


def measure(process: Process, a: str, b: str, noises: torch.Tensor) -> np.ndarray:
    """Return the squared differences of the predictions for `a` and `b`, along the trajectories of both.

    Args:
        process: The model and its sampler; its unit is that of the result.
        a: The first text.
        b: The second text.
        noises: The initial noise of each sample, (k, channels, height, width).

    Returns:
        Squared differences, (2, k, T): along the trajectory of `a`, and of `b`.
    """
    k = len(noises)
    squared_differences: list[np.ndarray] = []

    def on_step(step: DenoisingStep) -> None:
        prediction = step.predictions.float().reshape(k, 2, 2, -1)
        scale = unit_scale(prediction_type(process.scheduler), process.default_unit, step.noise_level)
        difference = prediction[:, :, 0] - prediction[:, :, 1]
        squared_differences.append(difference.square().sum(-1).T.double().numpy() * scale**2)

    settings = {field.name: getattr(process, field.name) for field in fields(process)}
    process_with_noise = ProcessWithNoise(**settings, noises=noises.repeat_interleave(4, 0))
    source_rows = [4 * sample + row for sample in range(k) for row in (0, 0, 2, 2)]
    run_on_shared_trajectories(process_with_noise, [a, b, b, a] * k, source_rows, [0] * 4 * k, on_step)
    return np.stack(squared_differences, -1)


def variance(values: np.ndarray) -> np.ndarray:
    """Return the variances over the last axis."""
    return values.var(-1, ddof=1)


def covariance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the covariances over the last axis."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    return (x * y).sum(-1) / (x.shape[-1] - 1)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the rank correlations over the last axis."""
    x, y = rankdata(x, axis=-1), rankdata(y, axis=-1)
    return covariance(x, y) / np.sqrt(variance(x) * variance(y))


def make_table(folder: Path, human_scores: np.ndarray) -> list[str]:
    """Return the lines of variance.md, from the files of all designs in `folder`."""
    rng = np.random.default_rng(0)
    pairs = len(human_scores)
    indices = np.arange(pairs)
    resampled = rng.integers(pairs, size=(4000, pairs))
    per_step = {  # each (2, pairs, samples, T)
        name: np.stack([np.load(folder / name / f"{pair:03}.npy") for pair in range(pairs)]).swapaxes(0, 1) for name in DESIGNS
    }
    divergences = {name: values.mean(-1) for name, values in per_step.items()}  # each (2, pairs, samples)
    forward, backward = divergences["plain"]
    negated_indices = np.array([negated_samples(pair) for pair in range(pairs)])
    # both (2, pairs, 8): the same samples, and the same with negated noise
    x, y = divergences["plain"][:, indices[:, None], negated_indices], divergences["negated"]
    distance = forward + backward
    squared_mean = distance.mean(1) ** 2
    net_means = divergences["sobol"].sum(0).reshape(pairs, -1, NET_SIZE).mean(-1)
    shared_rows, independent_rows = rows_per_sample(10), rows_per_sample(10, shared_noise=False)

    def draw_halves(k: int, num_samples: int) -> np.ndarray:
        """Return two disjoint choices of k samples for each pair, 300 times: (2, 300, pairs, k)."""
        order = rng.random((300, pairs, num_samples)).argsort(-1)
        return np.moveaxis(order[..., : 2 * k].reshape(300, pairs, 2, k), 2, 0)

    def take(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return values[indices[None, :, None], chosen]

    def estimate_twice(values: np.ndarray, k: int) -> np.ndarray:
        """Return two independent estimates from k samples each, (2, 300, pairs)."""
        return np.stack([take(values, chosen).mean(-1) for chosen in draw_halves(k, values.shape[1])])

    def estimate_twice_independently(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
        """Return two estimates from 2k samples each, of which k are used for f and the other k for b."""
        return np.stack(
            [
                (take(first, chosen[..., :k]) + take(second, chosen[..., k:])).mean(-1)
                for chosen in draw_halves(2 * k, first.shape[1])
            ]
        )

    def row(
        name: str, num_rows: float, sample_variance: np.ndarray, mean: np.ndarray | None, estimates: np.ndarray | None
    ) -> str:
        """Return a row of the table.

        Args:
            name: The label of the design.
            num_rows: The denoiser rows of a sample.
            sample_variance: The variance of a sample, (pairs,).
            mean: The mean of the design, (pairs,), if it differs from that of the default.
            estimates: Two independent estimates at k = 4, (2, 300, pairs).
        """
        relative = sample_variance / (squared_mean if mean is None else mean**2) * num_rows
        default = variance(distance) / squared_mean * shared_rows
        low, high = np.quantile(relative[resampled].sum(1) / default[resampled].sum(1), (0.025, 0.975))
        correlations = ["", ""]
        if estimates is not None:
            rank_difference = 1 - spearman(estimates[0], estimates[1]).mean()
            correlations = [f"{rank_difference:.4f}", f"{-100 * spearman(estimates[0], human_scores[None]).mean():.1f}"]
        ratio = relative.sum() / default.sum()
        return f"| {name} | {num_rows} | {ratio:.2f} ({low:.2f} to {high:.2f}) | {correlations[0]} | {correlations[1]} |"

    t5, t3 = divergences["T5"].sum(0), divergences["T3"].sum(0)
    step_pairs = per_step["plain"].sum(0).reshape(pairs, NUM_SEEDS, 5, 2)
    # the variance that is added if the predictions are compared at a random one of each two steps, which counts for both
    step_variance = (np.diff(step_pairs, axis=-1)[..., 0] / 10) ** 2

    def control_variate_variance(coarse: np.ndarray, coarse_rows: float) -> np.ndarray:
        """Return the variance with a coarse control variate, if samples are allocated optimally to the two levels."""
        fine = distance[:, : coarse.shape[1]]
        rho = covariance(coarse, fine).sum() / np.sqrt(variance(coarse).sum() * variance(fine).sum())
        return variance(distance) * (np.sqrt(1 - rho**2) + rho * np.sqrt(coarse_rows / shared_rows)) ** 2

    independent = variance(forward) + variance(backward)
    crossed = covariance(x[0], y[1]) + covariance(x[1], y[0])
    same = covariance(x[0], y[0]) + covariance(x[1], y[1])
    antithetic = (x + y) / 2
    relative_deviation = np.sqrt((variance(distance) / squared_mean).mean())
    random_step = variance(distance) + step_variance.sum(-1).mean(1)
    # Asymmetries are signed and can be near zero, so their variances are relative to the squared distance as well
    asymmetry, asymmetry_negated = (
        (value / squared_mean).sum() for value in (variance(forward - backward), independent - crossed)
    )
    return [
        f"{pairs} pairs of STS-B dev, {NUM_SEEDS} samples per pair, default model, conjure {package_version()}. The relative "
        f"standard deviation of a sample is {relative_deviation:.3f} (root mean square over pairs).",
        "Variances are relative to the default design, at equal numbers of denoiser rows (elements of a batch), with 95% "
        "intervals over pairs. With negated noise in the second direction, the variance of the asymmetry f - b is "
        f"{asymmetry_negated / asymmetry:.1f} times that with shared noise.",
        "",
        "| design | rows per sample | relative variance | 1 - rank correlation of two estimates, k = 4 "
        "| Spearman x100 with human ratings |",
        "|---|---|---|---|---|",
        row("default, shared noise: f(x) + b(x)", shared_rows, variance(distance), None, estimate_twice(distance, 4)),
        row("independent noise per direction: f(x) + b(x')", independent_rows, independent, None,
            estimate_twice_independently(forward, backward, 4)),
        row("negated noise in the second direction: f(x) + b(-x) (`--antithetic`)", independent_rows, independent + crossed, None,
            estimate_twice(x[0] + y[1], 4)),
        row("antithetic samples: x, -x", shared_rows, variance(distance) + covariance(x.sum(0), y.sum(0)), None,
            estimate_twice((x + y).sum(0) / 2, 2)),
        row("independent noise per direction, antithetic samples", independent_rows, independent + same, None,
            estimate_twice_independently(antithetic[0], antithetic[1], 2)),
        row(f"scrambled Sobol net, {NET_SIZE} points", shared_rows, variance(net_means) * NET_SIZE, None, None),
        row("predictions compared at a random one of each two steps", 49, random_step, None, None),
        row("T = 5 as a control variate", shared_rows, control_variate_variance(t5, rows_per_sample(5)), None, None),
        row("T = 3 as a control variate", shared_rows, control_variate_variance(t3, rows_per_sample(3)), None, None),
        row("T = 5 (a different estimand)", rows_per_sample(5), variance(t5), t5.mean(1), estimate_twice(t5, 4)),
        row("T = 3 (a different estimand)", rows_per_sample(3), variance(t3), t3.mean(1), estimate_twice(t3, 4)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="stsb.tsv")
    parser.add_argument("--out", type=Path, default=HERE / "variance", help="folder of the results of each design and pair")
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS, help=f"number of pairs, at most {NUM_PAIRS}")
    parser.add_argument("--table", action="store_true", help="only write the table, from the files in --out")
    options = parser.parse_args()
    pairs = dev_pairs(options.data)[: options.pairs]
    if not options.table:
        process = conjure.load()
        for name, (steps, make_noises) in DESIGNS.items():
            (options.out / name).mkdir(parents=True, exist_ok=True)
            for i, (a, b, _) in enumerate(pairs):
                path = options.out / name / f"{i:03}.npy"
                if not path.exists():
                    batches = [measure(process.set(steps=steps), a, b, noises) for noises in make_noises(i).split(8)]
                    np.save(path, np.concatenate(batches, 1))
    lines = make_table(options.out, np.array([score for *_, score in pairs]))
    (HERE / "variance.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

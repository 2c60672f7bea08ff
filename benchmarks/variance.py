"""What makes a distance less noisy at equal cost? Designs of the noise, and numbers of steps, beside the plain estimate.

    python benchmarks/variance.py stsb.tsv            # writes benchmarks/variance.md; takes half an hour on one core
    python benchmarks/variance.py stsb.tsv --table    # the table alone, from what lies in --out

stsb.tsv: a header, then tab-separated `split genre sentence1 sentence2 score`; the pairs come from its dev split, ten a score
band. Every (design, pair) is kept in a file of its own, so a run that was stopped goes on where it was.

A draw's value is forward + backward, f(x) + b(x), from the noise x. Ratios are of relative variances (of squared coefficients of
variation) at equal numbers of denoiser rows, pooled over pairs, with 95 % bootstrap intervals over pairs.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm, qmc, rankdata

import conjure
from conjure.estimate import noise_seed
from conjure.lockstep import Visit, follow
from conjure.process import Process
from conjure.units import gain, output_of

HERE = Path(__file__).parent
BAND, PAIRS, SEEDS, NET = 16, 50, 32, 8  # pairs a score band; pairs used of them; draws of a pair; points of a Sobol net
SHAPE = (16, 8, 8)  # of the default model's latents

Pair = tuple[str, str, float]


def dev_pairs(path: Path) -> list[Pair]:
    """Pairs of the dev split, the five score bands in turn."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["split"] == "dev"]
    rows = [row for row in rows if row["sentence1"] != row["sentence2"]]
    rng = np.random.default_rng(0)
    bands = [[row for row in rows if min(int(float(row["score"])), 4) == band] for band in range(5)]
    picked = [[band[i] for i in rng.permutation(len(band))[:BAND]] for band in bands]
    turns = [picked[band][i] for i in range(BAND) for band in range(5)][:PAIRS]
    return [(row["sentence1"], row["sentence2"], float(row["score"])) for row in turns]


def window(pair: int) -> list[int]:
    """Which of the seeds are negated for a pair: eight, others for the next pair, so that all of them count."""
    return [(8 * pair + i) % SEEDS for i in range(8)]


def gaussian(samples: range | list[int]) -> torch.Tensor:
    """The noise of these samples as `conjure.distance` draws it with seed 0."""
    return torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(noise_seed(0, i))) for i in samples])


def sobol(pair: int) -> torch.Tensor:
    """Three scrambled nets of eight points in all 1024 dimensions."""
    nets = [qmc.Sobol(1024, seed=np.random.default_rng((1, pair, net))).random(NET) for net in range(3)]
    points = norm.ppf(np.clip(np.concatenate(nets), 1e-7, 1 - 1e-7))
    return torch.tensor(points, dtype=torch.float32).reshape(-1, *SHAPE)


DESIGNS: dict[str, tuple[int, Callable[[int], torch.Tensor]]] = {  # name: steps, noises of a pair
    "plain": (10, lambda pair: gaussian(range(SEEDS))),
    "negated": (10, lambda pair: -gaussian(window(pair))),
    "sobol": (10, sobol),
    "T5": (5, lambda pair: gaussian(range(16))),
    "T3": (3, lambda pair: gaussian(range(8))),
}


def measure(process: Process, a: str, b: str, noises: torch.Tensor) -> np.ndarray:
    """Squared differences (2, k, T) in the unit of the process, on the trajectories of `a` and `b` from `noises` (k, ...)."""
    k = len(noises)
    seen: list[np.ndarray] = []

    def observe(visit: Visit) -> None:
        m = visit.output.float().reshape(k, 2, 2, -1)
        scale = gain(output_of(process.scheduler), process.unit, visit.level)
        seen.append((m[:, :, 0] - m[:, :, 1]).square().sum(-1).T.double().numpy() * scale**2)

    given = replace(process, call={**process.call, "latents": noises.repeat_interleave(4, 0)})
    drivers = [4 * draw + row for draw in range(k) for row in (0, 0, 2, 2)]
    follow(given, [a, b, b, a] * k, drivers, [0] * 4 * k, observe)
    return np.stack(seen, -1)


def rows_of(steps: int, shared: bool = True) -> int:
    """Denoiser rows of a draw; where both directions share their noise, they also share the first step's three."""
    return 6 * steps - 3 * shared


def var(values: np.ndarray) -> np.ndarray:
    return values.var(-1, ddof=1)


def cov(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Covariances over the last axis."""
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    return (x * y).sum(-1) / (x.shape[-1] - 1)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlations over the last axis."""
    x, y = rankdata(x, axis=-1), rankdata(y, axis=-1)
    return cov(x, y) / np.sqrt(var(x) * var(y))


def table(out: Path, human: np.ndarray) -> list[str]:
    rng = np.random.default_rng(0)
    pairs = len(human)
    at = np.arange(pairs)
    resampled = rng.integers(pairs, size=(4000, pairs))
    steps = {}
    for name in DESIGNS:  # each (2, pairs, draws, T)
        steps[name] = np.stack([np.load(out / name / f"{pair:03}.npy") for pair in range(pairs)]).swapaxes(0, 1)
    load = {name: values.mean(-1) for name, values in steps.items()}
    f, b = load["plain"]
    windows = np.array([window(pair) for pair in range(pairs)])
    x, y = load["plain"][:, at[:, None], windows], load["negated"]  # (2, pairs, 8): the same seeds, and their negations
    total, scale = f + b, (f + b).mean(1) ** 2
    means = load["sobol"].sum(0).reshape(pairs, -1, NET).mean(-1)
    full, own = rows_of(10), rows_of(10, shared=False)

    def halves(k: int, of: int) -> np.ndarray:
        """Two disjoint choices of k seeds for every pair, (2, 300, pairs, k)."""
        return np.moveaxis(rng.random((300, pairs, of)).argsort(-1)[..., : 2 * k].reshape(300, pairs, 2, k), 2, 0)

    def take(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return values[at[None, :, None], chosen]

    def crossed(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
        """Estimates from 2k seeds a half: f from k of them and b from the other k."""
        return np.stack([(take(first, c[..., :k]) + take(second, c[..., k:])).mean(-1) for c in halves(2 * k, first.shape[1])])

    def straight(values: np.ndarray, k: int) -> np.ndarray:
        return np.stack([take(values, c).mean(-1) for c in halves(k, values.shape[1])])

    def line(name: str, rows: float, variance: np.ndarray, mean: np.ndarray | None, estimates: np.ndarray | None) -> str:
        """variance: of one draw, or of what counts as one (pairs,); estimates: two independent ones (2, 300, pairs) of k = 4."""
        ours = variance / (scale if mean is None else mean**2) * rows
        plain = var(total) / scale * full
        low, high = np.quantile(ours[resampled].sum(1) / plain[resampled].sum(1), (0.025, 0.975))
        ranks = ["", ""]
        if estimates is not None:
            apart = 1 - spearman(estimates[0], estimates[1]).mean()
            ranks = [f"{apart:.4f}", f"{-100 * spearman(estimates[0], human[None]).mean():.1f}"]
        return f"| {name} | {rows} | {ours.sum() / plain.sum():.2f} ({low:.2f} to {high:.2f}) | {ranks[0]} | {ranks[1]} |"

    t5, t3 = load["T5"].sum(0), load["T3"].sum(0)
    couples = steps["plain"].sum(0).reshape(pairs, SEEDS, 5, 2)
    chance = (np.diff(couples, axis=-1)[..., 0] / 10) ** 2  # of judging a random one of two steps, for both

    def controlled(coarse: np.ndarray, cost: float) -> np.ndarray:
        """Two levels, draws shared out at best between them: the variance left where the coarse one predicts the fine one."""
        rho = cov(coarse, total[:, : coarse.shape[1]]).sum() / np.sqrt(var(coarse).sum() * var(total[:, : coarse.shape[1]]).sum())
        return var(total) * (np.sqrt(1 - rho**2) + rho * np.sqrt(cost / full)) ** 2

    cross = cov(x[0], y[1]) + cov(x[1], y[0])
    same = cov(x[0], y[0]) + cov(x[1], y[1])
    return [
        f"{pairs} pairs of STS-B dev, {SEEDS} draws each, default model, conjure {version('conjure')}, "
        f"relative standard deviation of a draw {np.sqrt((var(total) / scale).mean()):.3f} (root mean square over pairs).",
        "Ratios at equal denoiser rows with 95 % intervals over pairs.",
        "",
        "| | rows a draw | variance, of the plain one's | 1 - rank correlation of two estimates, k = 4 | with people |",
        "|---|---|---|---|---|",
        line("plain: f(x) + b(x)", full, var(total), None, straight(total, 4)),
        line("a noise of its own each direction: f(x) + b(x')", own, var(f) + var(b), None, crossed(f, b, 4)),
        line("opposite noise: f(x) + b(-x) (`--antithetic`)", own, var(f) + var(b) + cross, None, straight(x[0] + y[1], 4)),
        line("antithetic draws: x, -x", full, var(total) + cov(x.sum(0), y.sum(0)), None, straight((x + y).sum(0) / 2, 2)),
        line("own noise, antithetic draws", own, var(f) + var(b) + same, None, crossed((x + y)[0] / 2, (x + y)[1] / 2, 2)),
        line(f"scrambled Sobol, {NET} points", full, var(means) * NET, None, None),
        line("judges at a random one of two steps", 49, var(total) + chance.sum(-1).mean(1), None, None),
        line("T = 5 as a control variate", full, controlled(t5, rows_of(5)), None, None),
        line("T = 3 as a control variate", full, controlled(t3, rows_of(3)), None, None),
        line("T = 5 (another estimand)", rows_of(5), var(t5), t5.mean(1), straight(t5, 4)),
        line("T = 3 (another estimand)", rows_of(3), var(t3), t3.mean(1), straight(t3, 4)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "variance")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    pairs = dev_pairs(options.data)[: options.pairs]
    if not options.table:
        process = conjure.load()
        for name, (steps, noises) in DESIGNS.items():
            (options.out / name).mkdir(parents=True, exist_ok=True)
            for i, (a, b, _) in enumerate(pairs):
                path = options.out / name / f"{i:03}.npy"
                if not path.exists():
                    parts = [measure(process.set(steps=steps), a, b, some) for some in noises(i).split(8)]
                    np.save(path, np.concatenate(parts, 1))
    lines = table(options.out, np.array([score for *_, score in pairs]))
    (HERE / "variance.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

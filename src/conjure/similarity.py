"""The idea on one page: two texts are as similar as what a process conjures for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from conjure.checks import check
from conjure.digits import counted
from conjure.divergence import Measure, Seen
from conjure.errors import InputError
from conjure.estimate import Estimate, Noise, estimate, interval
from conjure.process import Process
from conjure.run import Measured, Progress, Source, run_batches
from conjure.units import output_of

TARGETS = 128  # more than these of one source stand in further ones: rows are not to be held in memory without bound
MOST_SAMPLES = 10_000


def sources_of(pairs: Iterable[tuple[str, str]], samples: Iterable[int], noise: Noise) -> list[Source]:
    """What must be run for `pairs`: for each sample the trajectory of either text, judged by the other.

    A text that stands in many pairs walks one trajectory a sample (and noise), which all its partners judge.
    """
    samples = list(samples)
    targets: dict[tuple[str, int], dict[str, None]] = {}
    for a, b in pairs:
        for sample in samples:
            for text, other in ((a, b), (b, a)):
                targets.setdefault((text, noise.of(sample, text, other)), {})[other] = None
    return [
        Source(text, seed, tuple(others)[start : start + TARGETS])
        for (text, seed), others in targets.items()
        for start in range(0, len(others), TARGETS)
    ]


def told_broken(texts: Sequence[str]) -> str:
    """What a user is told of texts for which a model's numbers are not finite."""
    shown = ", ".join(repr(text[:40]) for text in texts[:5]) + (f" and {len(texts) - 5:,} more" if len(texts) > 5 else "")
    return f"the model's numbers are not finite for {counted(len(texts), 'text')}: {shown}"


class Results:
    """What sources gave, in the order in which they were run, to be looked up by pair."""

    def __init__(self, process: Process, noise: Noise) -> None:
        self.output = output_of(process.scheduler)
        self.noise = noise
        self.squared: dict[tuple[str, int, str], np.ndarray] = {}
        self.held: dict[tuple[str, int], torch.Tensor] = {}
        self.finals: Mapping[tuple[str, int], torch.Tensor] = self.held
        self.compares = False  # last latents

    def measure(
        self,
        process: Process,
        sources: Sequence[Source],
        *,
        finals: bool,
        pictures: Sequence[Source] = (),
        progress: Progress | None = None,
        started: Callable[[Sequence[Source]], None] | None = None,
    ) -> list[Measured]:
        """Take in what `sources` give: run them, but for those that the process' store has, and keep there what is new.

        finals: hold the last latents as well, which the divergence `direct` compares. pictures: the sources whose looks are
        wanted, which are run in any case and returned. started: told what is left to run.
        """
        self.compares |= finals
        kept = process.store.of(process) if process.store else None
        looked = [source for source in sources if source in pictures]
        others = [source for source in sources if source not in pictures]
        left = looked + kept.missing(others, finals=finals) if kept else sources
        if started:
            started(left)
        shown = []
        for batch in run_batches(process, left, pictures=looked, progress=progress):
            if kept:
                kept.add(batch)
            else:
                for measured in batch:
                    self._add(measured, finals)
            shown += [measured for measured in batch if measured.pictures]
        shown.sort(key=lambda measured: looked.index(measured.source))  # workers give them as they come
        if kept:
            kept.fill(self, sources)
        return shown

    def _add(self, measured: Measured, finals: bool) -> None:
        source = measured.source
        for target, squared in zip(source.targets, measured.squared, strict=True):
            self.squared[source.text, source.seed, target] = squared
        if finals or not np.isfinite(measured.squared).all():
            self.held[source.text, source.seed] = measured.final
        self.timesteps, self.levels, self.dimensions = measured.timesteps, measured.levels, measured.final.numel()

    def broken(self) -> list[str]:
        """The texts for which the model's numbers are not finite, on their own trajectory or on another's."""
        found = dict[str, None]()
        for (text, seed, target), squared in self.squared.items():
            if not np.isfinite(squared).all():
                found[target if torch.isfinite(self.finals[text, seed]).all() else text] = None
        return sorted(found)

    def seen(self, a: str, b: str, samples: int) -> Seen:
        """What `samples` samples of a pair gave; `direct` is NaN where last latents were not kept.

        Errors: `InputError` where the model's numbers are not finite.
        """
        there, back = ([self.noise.of(sample, *pair) for sample in range(samples)] for pair in ((a, b), (b, a)))
        if not all(np.isfinite(self.squared[key]).all() for key in [*((a, s, b) for s in there), *((b, s, a) for s in back)]):
            raise InputError(f"{told_broken(self.broken())}; use a smaller guidance, or float32")
        return Seen(
            forward=np.stack([self.squared[a, seed, b] for seed in there]),
            backward=np.stack([self.squared[b, seed, a] for seed in back]),
            direct=np.array([self._apart((a, seed), (b, seed)) for seed in there]),
            output=self.output,
            timesteps=self.timesteps,
            levels=self.levels,
            dimensions=self.dimensions,
        )

    def _apart(self, first: tuple[str, int], second: tuple[str, int]) -> float:
        if not self.compares:
            return math.nan
        x, y = self.finals.get(first), self.finals.get(second)
        return math.nan if x is None or y is None else float((x - y).square().sum())


def distance(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    precision: float | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """How far apart `a` and `b` are in what `process` conjures for them (Liu and Soatto 2026, Algorithm 1).

    samples: Monte-Carlo draws k of the initial noise; the error needs at least two. seed: of all draws.
    divergence: `jeffreys`, or a baseline of the paper: `kl`, `initial`, `final`, `direct`. weighting: `uniform`, the paper's, or
    `girsanov`, nats. reduction: `sum` over dimensions, or `mean`. See `conjure.divergence.Measure`.
    antithetic: the two texts start from opposite noise, for a smaller error at the same cost. See `Noise`.
    precision: draw on until the 95 % interval reaches no further than this share of the distance to either side (0.05: ± 5 %),
    or 10,000 samples are drawn.

    Errors: `InputError` for blank texts and values out of range. Warns: `TextCutWarning`.
    """
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    results, samples, _ = sample(process, a, b, samples, noise, measure, precision=precision, progress=progress)
    return estimate_of(results.seen(a, b, samples), measure, (a, b), record_of(process, measure, noise))


def distances(
    process: Process,
    pairs: Iterable[tuple[str, str]],
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    progress: Progress | None = None,
) -> list[Estimate]:
    """The distances of many `pairs`, for less than one by one: what several pairs share is computed once, in full batches.

    The other arguments and the errors are those of `distance`, and so are the numbers.
    """
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    pairs = list(pairs)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"a pair is {pair!r}; allowed are tuples of two texts")
    results = run_pairs(process, pairs, samples, noise, measure, progress)
    record = record_of(process, measure, noise)
    return [estimate_of(results.seen(a, b, samples), measure, (a, b), record) for a, b in pairs]


def sample(
    process: Process,
    a: str,
    b: str,
    samples: int,
    noise: Noise,
    measure: Measure,
    *,
    precision: float | None = None,
    pictures: int = 0,
    progress: Progress | None = None,
) -> tuple[Results, int, list[Measured]]:
    """Draw `samples` samples of a pair, or as many as `precision` takes: results, their number, and the sources of the first
    `pictures` samples with what they looked like."""
    check((a, b), samples, noise, measure, precision)
    results, shown = Results(process, noise), list[Measured]()
    samples, done = samples if precision is None else max(samples, 2), 0
    while done < samples:
        sources = sources_of([(a, b)], range(done, samples), noise)
        wanted = sources_of([(a, b)], range(pictures), noise)
        finals = measure.divergence == "direct"
        shown += results.measure(process, sources, finals=finals, pictures=wanted, progress=progress)
        done = samples
        if precision is not None:
            samples = samples_for(measure.contributions(results.seen(a, b, done)).total.sum(1), precision)
    return results, done, shown


def samples_for(values: np.ndarray, precision: float) -> int:
    """How many samples are to be drawn so that the 95 % interval reaches ± `precision` times their mean, as `values` tell.

    At most four times as many as there are, since a standard error from few samples tells little.
    """
    mean, _, (low, high) = interval(values)
    drawn, half, wanted = len(values), (high - low) / 2, precision * abs(mean)
    if half <= wanted:
        return drawn
    over = min(half / wanted, 2.0) if wanted else 2.0
    return max(drawn, min(max(drawn + 1, math.ceil(drawn * over**2)), MOST_SAMPLES))


def run_pairs(
    process: Process, pairs: Sequence[tuple[str, str]], samples: int, noise: Noise, measure: Measure, progress: Progress | None
) -> Results:
    """What all `pairs` give, trajectories shared. Errors: `InputError`, before anything is run."""
    check((text for pair in pairs for text in pair), samples, noise, measure)
    results = Results(process, noise)
    sources = sources_of(pairs, range(samples), noise)
    results.measure(process, sources, finals=measure.divergence == "direct", progress=progress)
    return results


def record_of(process: Process, measure: Measure, noise: Noise) -> dict[str, Any]:
    """How a run measures, for the record of an estimate or a matrix."""
    return {
        "divergence": measure.divergence,
        "weighting": measure.weighting,
        "unit": str(measure),
        "antithetic": noise.antithetic,
        "seed": int(noise.seed),
        "process": process.settings(),
        "identity": process.identity(),
        "version": version("conjure"),
    }


def estimate_of(seen: Seen, measure: Measure, texts: tuple[str, str], record: dict[str, Any]) -> Estimate:
    """The estimate of what was `seen` of a pair, with its `record`."""
    snr = tuple(level.snr for level in seen.levels)
    return estimate(measure.contributions(seen), texts=texts, timesteps=seen.timesteps, snr=snr, **record)

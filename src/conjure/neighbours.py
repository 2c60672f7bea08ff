"""Which of many texts is nearest to one: samples are spent on those that can still win (successive elimination)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from conjure.checks import check, check_ranking
from conjure.divergence import Measure
from conjure.errors import InputError
from conjure.estimate import Noise, finite, interval
from conjure.process import Process
from conjure.run import Progress
from conjure.similarity import Results, record_of, sources_of

FIRST = 4  # samples of the first round; every further round doubles them


@dataclass(frozen=True)
class Neighbour:
    """One text and its distance: mean over its `samples`, standard error, 95 % interval (of it alone). out: whether it was given
    up before the last round, as it can surely not be among the nearest."""

    text: str
    distance: float
    stderr: float
    ci95: tuple[float, float]
    samples: int
    out: bool


@dataclass(frozen=True)
class Neighbours:
    """Texts by their distance to `text`, nearest first.

    top: how many were looked for. settled: whether the first `top` are so, at `confidence`, and not just by the means.
    sources, most_sources: trajectories that were walked, and that all samples of all texts would have taken.
    unit, divergence, weighting, antithetic, seed, process, identity, version: what was measured and how.
    """

    text: str
    ranked: tuple[Neighbour, ...]
    top: int
    confidence: float
    settled: bool
    sources: int
    most_sources: int
    unit: str
    divergence: str
    weighting: str
    antithetic: bool
    seed: int
    process: dict[str, Any]
    identity: str
    version: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what does not exist (the error of one sample) is None."""
        plain = asdict(self)
        for one in plain["ranked"]:
            if math.isnan(one["stderr"]):
                one |= {"stderr": None, "ci95": None}
        return plain


def nearest(
    process: Process,
    text: str,
    among: Iterable[str],
    *,
    top: int = 1,
    samples: int = 32,
    confidence: float = 0.95,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    progress: Progress | None = None,
) -> Neighbours:
    """Rank `among` by their distance to `text`, and stop early for those that cannot be among the `top` nearest.

    Rounds of 4, 8, 16 ... `samples` samples, noise shared. After each, a text leaves that is surely further away than at least
    `top` others: by one-sided t-tests of their differences sample by sample. To lose a truly near text, one of the tests against
    truly further ones must err, and their number shares the level (Even-Dar, Mannor and Mansour 2006). So with probability
    `confidence` none of the truly nearest is lost. It ends when `top` are left.
    samples: the most that a text gets. The other arguments are those of `conjure.distance`.

    Errors: `InputError`, also for no texts, a text that stands there twice, and more `top` than texts.
    """
    if isinstance(among, str):
        raise InputError(f"the texts to rank are {among!r}; allowed are lists of texts")
    among = list(among)
    check_ranking(among, top, confidence)
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    check((text, *among), samples, noise, measure)

    results = Results(process, noise)
    drawn = dict.fromkeys(among, 0)
    values: dict[str, np.ndarray] = {}
    rounds = _rounds(samples)
    level = (1 - confidence) / (top * max(1, len(among) - top) * len(rounds))
    left, walked = list(among), 0
    for number, until in enumerate(rounds):
        before = rounds[number - 1] if number else 0
        sources = sources_of([(text, one) for one in left], range(before, until), noise)
        walked += len(sources)
        results.measure(process, sources, finals=divergence == "direct", progress=progress)
        for one in left:
            drawn[one] = until
            values[one] = finite(measure.contributions(results.seen(text, one, until)).total.sum(1))
        every = np.stack([values[one] for one in left])
        left = [one for one in left if _further(values[one], every, level).sum() < top]
        if len(left) <= top:
            break
    ranked = sorted(among, key=lambda one: (one not in left, values[one].mean()))
    return Neighbours(
        text=text,
        ranked=tuple(Neighbour(one, *interval(values[one]), drawn[one], one not in left) for one in ranked),
        top=int(top),
        confidence=float(confidence),
        settled=len(left) <= top,
        sources=walked,
        most_sources=len(sources_of([(text, one) for one in among], range(samples), noise)),
        **record_of(process, measure, noise),
    )


def _rounds(samples: int) -> list[int]:
    """Samples that a text has after each round."""
    rounds = [min(FIRST, samples)]
    while rounds[-1] < samples:
        rounds.append(min(2 * rounds[-1], samples))
    return rounds


def _further(values: np.ndarray, others: np.ndarray, level: float) -> np.ndarray:
    """Whether `values`, shape (samples,), are above each row of `others`, by a one-sided t-test at `level` of the differences."""
    from scipy.special import stdtrit

    samples = len(values)
    if samples < 2:
        return np.zeros(len(others), dtype=bool)
    difference = values - others
    error = difference.std(1, ddof=1) / math.sqrt(samples)
    return difference.mean(1) > -float(stdtrit(samples - 1, level)) * error

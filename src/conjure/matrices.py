"""All texts against all: distances, the tree that they make, how well groups stand apart (Liu and Soatto 2026, Figure 2)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from conjure.divergence import Measure
from conjure.errors import InputError
from conjure.estimate import interval
from conjure.process import Process
from conjure.run import Progress
from conjure.similarity import Noise, record_of, run_pairs


@dataclass(frozen=True)
class Separation:
    """How well groups of texts stand apart. silhouette: mean over texts and samples, from -1 (mixed up) over 0 to 1 (far apart);
    ci95: its 95 % interval over samples, NaN with one. of: each text's own silhouette."""

    silhouette: float
    ci95: tuple[float, float]
    of: dict[str, float]

    def __str__(self) -> str:
        error = "" if np.isnan(self.ci95[0]) else f" (95 %: {self.ci95[0]:.2f} to {self.ci95[1]:.2f})"
        return f"{self.silhouette:.2f}{error}"


@dataclass(frozen=True)
class Map:
    """points: a place in the plane for each text, shape (N, 2). share: how much of the spread between texts the plane shows."""

    points: np.ndarray
    share: float


@dataclass(frozen=True)
class Matrix:
    """Distances of all texts to all.

    texts: the N texts. distance, stderr: shape (N, N), mean over samples and its standard error (NaN with one sample); entry
    [i, j] is symmetric but for the divergence `kl`, where it belongs to trajectories of text i. The diagonal is 0.
    each: the distances of every sample, shape (samples, N, N).
    unit, divergence, weighting, antithetic, samples, seed, process, identity, version: what was measured and how.
    """

    texts: tuple[str, ...]
    distance: np.ndarray
    stderr: np.ndarray
    each: np.ndarray
    unit: str
    divergence: str
    weighting: str
    antithetic: bool
    samples: int
    seed: int
    process: dict[str, Any]
    identity: str
    version: str

    @cached_property
    def linkage(self) -> np.ndarray:
        """The tree of the texts as scipy has it, shape (N - 1, 4): average linkage, its leaves in the best order."""
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        both = (self.distance + self.distance.T) / 2  # KL has two directions
        return linkage(squareform(both, checks=False), method="average", optimal_ordering=True)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Numbers of the texts, like ones next to each other."""
        from scipy.cluster.hierarchy import leaves_list

        return tuple(int(i) for i in leaves_list(self.linkage))

    @cached_property
    def map(self) -> Map:
        """The texts as points of a plane, whose squared distances come as near to `distance` as classical scaling can.

        A distance here is a mean of squared norms, which is what Torgerson's scaling (1952) starts from; but each pair was
        measured on trajectories of its own, so no plane and no space need hold them all exactly.
        """
        both = (self.distance + self.distance.T) / 2
        centred = both - both.mean(0)
        values, vectors = np.linalg.eigh(-(centred - centred.mean(1, keepdims=True)) / 2)
        largest = np.argsort(values)[::-1][:2]
        points = np.zeros((len(self.texts), 2))
        points[:, : len(largest)] = vectors[:, largest] * np.sqrt(values[largest].clip(0))
        whole = np.abs(values).sum()  # what no space can hold counts as not shown
        return Map(points, float(values[largest].clip(0).sum() / whole) if whole else 1.0)

    def separation(self, groups: Sequence[Iterable[str]]) -> Separation:
        """How well `groups` of the texts stand apart: silhouettes (Rousseeuw 1987), with an interval over samples.

        Errors: `InputError` for fewer than two groups, a text that is not in the matrix, and one that is in two groups.
        """
        members = [list(group) for group in groups]
        named = [text for group in members for text in group]
        if len(members) < 2 or not all(members):
            raise InputError(f"{len(members)} groups, {sum(map(bool, members))} of them with texts; give at least two")
        for text in named:
            if text not in self.texts:
                raise InputError(
                    f"the text {text!r} of a group is not in the matrix; its texts are {', '.join(self.texts)[:200]}"
                )
            if named.count(text) > 1:
                raise InputError(f"the text {text!r} stands in the groups twice; give each text one group")
        at = [[self.texts.index(text) for text in group] for group in members]
        found = np.array([_silhouettes(one, at) for one in self.each])
        mean, _, ci95 = interval(found.mean(1))
        return Separation(mean, ci95, dict(zip(named, found.mean(0).tolist(), strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what does not exist (the error of one sample) is None."""
        known = self.samples > 1
        return {
            "texts": list(self.texts),
            "distance": self.distance.tolist(),
            "stderr": self.stderr.tolist() if known else None,
            "order": list(self.order),
            **{name: getattr(self, name) for name in
               ("unit", "divergence", "weighting", "antithetic", "samples", "seed", "process", "identity", "version")},
        }  # fmt: skip

    def to_csv(self) -> str:
        """The distances as comma-separated values, with the texts as head and first column."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["", *self.texts])
        writer.writerows([one, *row] for one, row in zip(self.texts, self.distance.tolist(), strict=True))
        return text.getvalue()

    def to_frame(self) -> Any:
        """The distances as a pandas frame. Errors: `InputError` where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise InputError("frames need the package pandas: pip install pandas") from error
        return DataFrame(self.distance, index=list(self.texts), columns=list(self.texts))

    def save_map(self, path: str | Path, groups: Sequence[Iterable[str]] = ()) -> None:
        """Write `map` to `path`, as PNG, SVG or PDF, each of the `groups` of texts in a colour of its own.

        Errors: `InputError` for another ending and for a place that cannot be written.
        """
        from conjure.render import save_map

        save_map(self, path, groups)

    def save(self, path: str | Path) -> None:
        """Write a heat map with its tree to `path`, as PNG, SVG or PDF, or as one HTML file that needs no other.

        Errors: `InputError` for another ending and for a place that cannot be written.
        """
        from conjure.render import save_matrix

        save_matrix(self, path)

    def _repr_png_(self) -> bytes:
        from conjure.render import heat_map_bytes

        return heat_map_bytes(self, "png")


def matrix(
    process: Process,
    texts: Iterable[str],
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    progress: Progress | None = None,
) -> Matrix:
    """All-against-all distances of `texts`; N texts take N (N + 1) denoiser rows a sample and step. For the rest see `distance`.

    Errors: `InputError`, also for fewer than two texts and for a text that stands there twice.
    """
    if isinstance(texts, str):
        raise InputError(f"the texts of a matrix are {texts!r}; allowed are lists of texts")
    texts = check_texts(texts)
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    results = run_pairs(process, list(combinations(texts, 2)), samples, noise, measure, progress)
    each = np.zeros((samples, len(texts), len(texts)))
    error = np.zeros((len(texts), len(texts)))
    for i, j in permutations(range(len(texts)), 2):
        if i < j or divergence == "kl":
            each[:, i, j] = measure.contributions(results.seen(texts[i], texts[j], samples)).total.sum(1)
            error[i, j] = interval(each[:, i, j])[1]
        else:
            each[:, i, j], error[i, j] = each[:, j, i], error[j, i]
    return Matrix(tuple(texts), each.mean(0), error, each, samples=samples, **record_of(process, measure, noise))


def check_texts(texts: Iterable[str]) -> list[str]:
    """The texts of a matrix. Errors: `InputError` for fewer than two, and for one that stands there twice."""
    texts = list(texts)
    if len(texts) < 2:
        raise InputError(f"a matrix of {len(texts)} texts; give at least two")
    check_distinct(texts)
    return texts


def check_distinct(texts: Sequence[str]) -> None:
    """Errors: `InputError` for a text that stands among `texts` twice."""
    seen = set[str]()
    for text in texts:
        if text in seen:
            raise InputError(f"the text {text!r} stands there twice; give each text once")
        seen.add(text)


def read_groups(path: str | Path) -> list[list[str]]:
    """The texts of a file, one a line; blank lines part groups. Errors: `InputError`."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}; give a UTF-8 file with a text a line") from error
    groups: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            groups[-1].append(line.strip())
        elif groups[-1]:
            groups.append([])
    return [group for group in groups if group]


def _silhouettes(distance: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Of each text, group by group: (b - a) / max(a, b), a its mean distance to its own, b to the nearest other; 0 alone."""
    both = (distance + distance.T) / 2
    found = []
    for own in groups:
        for i in own:
            others = [both[i, list(group)].mean() for group in groups if group is not own]
            within = both[i, [j for j in own if j != i]].mean() if len(own) > 1 else 0.0
            nearest = min(others)
            found.append((nearest - within) / max(nearest, within) if len(own) > 1 and max(nearest, within) > 0 else 0.0)
    return np.array(found)

"""Which words make two texts differ: the change of the divergence when a word is left out, or another stands in its place.

Along what the other text conjures, its trajectories given, a text without one of its words is one more judge: so all words of
both texts cost a row each, and no trajectory of their own (occlusion, Zeiler and Fergus 2014, with texts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from conjure.checks import check, check_words
from conjure.digits import with_error
from conjure.divergence import Measure, Seen
from conjure.estimate import Noise, finite, interval
from conjure.process import Process
from conjure.run import Progress, Source
from conjure.similarity import TARGETS, Results


@dataclass(frozen=True)
class Effect:
    """What one word does.

    text: the text that has it. place: its number in it, from 0 on. word: the word. instead: what stood in its place, empty where
    it was left out.
    change, stderr, ci95: how the divergence from the other text's trajectories to this text changes, its standard error and 95 %
    interval over samples (NaN with one). Above 0: without the word the texts are further apart, so it holds them together;
    below 0: it sets them apart.
    """

    text: str
    place: int
    word: str
    instead: str
    change: float
    stderr: float
    ci95: tuple[float, float]

    @property
    def done(self) -> str:
        """What was done to the word, in words."""
        return f"“{self.word}” → “{self.instead}”" if self.instead else f"without “{self.word}”"

    def __str__(self) -> str:
        return with_error(self.change, self.stderr, sign="+")


@dataclass(frozen=True)
class Attribution:
    """What the words of two texts do. effects: in the order of the texts; where `instead` names others, those follow their word.

    whole: the divergence that they change, by text: along the other's trajectories, to this one. unit: of all of it.
    """

    texts: tuple[str, str]
    effects: tuple[Effect, ...]
    whole: dict[str, float]
    unit: str

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data for JSON; what does not exist (the error of one sample) is None."""
        return [
            asdict(effect) | (dict.fromkeys(("stderr", "ci95")) if math.isnan(effect.stderr) else {}) for effect in self.effects
        ]

    def of(self, text: str) -> tuple[Effect, ...]:
        """The effects of the words of `text`."""
        return tuple(effect for effect in self.effects if effect.text == text)


def attribute(
    process: Process,
    a: str,
    b: str,
    *,
    instead: Mapping[str, str] | None = None,
    samples: int = 3,
    seed: int = 0,
    divergence: str = "jeffreys",
    weighting: str = "uniform",
    reduction: str = "sum",
    antithetic: bool = False,
    progress: Progress | None = None,
) -> Attribution:
    """What each word of `a` and of `b` does to their difference, on the trajectories that `conjure.distance` walks.

    instead: words to try in the place of others, `{"snow": "desert"}`. Words are what blanks part; a text of one word is held
    against the empty text. Effects do not add up: two words together may do more or less than either.
    The other arguments are those of `conjure.distance`; `jeffreys` and `kl` give the same here, as each word has one direction.

    Errors: `InputError`, also for a word of `instead` that is in neither text, and for the divergence `direct`: it has no judges.
    """
    measure, noise = Measure(divergence, weighting, process.unit, reduction), Noise(seed, antithetic)
    instead = dict(instead or {})
    check((a, b), samples, noise, measure)
    check_words(a, b, instead, divergence)
    check(instead.values(), samples, noise, measure)
    variants = {text: _variants(text, instead) for text in (a, b)}
    results, sources = Results(process, noise), []
    for text, other in ((a, b), (b, a)):
        judges = list(dict.fromkeys([text, *(variant for *_, variant in variants[text])]))
        sources += [
            Source(other, noise.of(number, other, text), tuple(judges[start : start + TARGETS]))
            for number in range(samples)
            for start in range(0, len(judges), TARGETS)
        ]
    results.measure(process, sources, finals=False, progress=progress)

    def along(other: str, text: str, judge: str) -> np.ndarray:
        """The divergence from the trajectories of `other` to `judge`, a variant of `text`, sample by sample."""
        squared = np.stack([results.squared[other, noise.of(number, other, text), judge] for number in range(samples)])
        seen = Seen(
            squared, squared, np.full(samples, math.nan), results.output, results.timesteps, results.levels, results.dimensions
        )
        return finite(measure.contributions(seen).forward.sum(1))

    effects, whole = [], {}
    for text, other in ((a, b), (b, a)):
        base = along(other, text, text)
        whole[text] = float(base.mean())
        for place, word, new, variant in variants[text]:
            effects.append(Effect(text, place, word, new, *interval(along(other, text, variant) - base)))
    return Attribution((a, b), tuple(effects), whole, str(measure))


def _variants(text: str, instead: Mapping[str, str]) -> list[tuple[int, str, str, str]]:
    """For each word of `text`: its place, the word, what stands there instead (empty: nothing), and the text so made."""
    words = text.split()
    found = []
    for place, word in enumerate(words):
        for new in ("", instead[word]) if word in instead else ("",):
            made = [*words[:place], new, *words[place + 1 :]]
            found.append((place, word, new, " ".join(part for part in made if part)))
    return found

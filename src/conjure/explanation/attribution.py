"""Attribution of a distance to words: how one directed divergence changes when a word is removed or replaced.

A text without one of its words is one more target on the trajectories of the other text. So each word costs one denoiser row per
step and sample, and no trajectory.

Reference:
    Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks", for the method (occlusion).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from conjure.deprecation import deprecated_property, renamed_keywords
from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.estimates import check_finite
from conjure.divergence.intervals import t_interval
from conjure.divergence.weightings import Weighting
from conjure.io.documents import rows_to_html
from conjure.io.files import import_pandas
from conjure.io.formatting import format_with_error
from conjure.io.text import shorten
from conjure.plotting.charts import draw_points
from conjure.similarity.options import SamplingOptions
from conjure.similarity.sampling import MAX_TARGETS_PER_JOB
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache
from conjure.similarity.validation import check_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_SHOWN = 10  # effects in the short description


@dataclass(frozen=True)
class Effect:
    """The effect of one word on the divergence from the trajectories of the other text to its own text.

    Attributes:
        text: The text that contains the word.
        position: The index of the word in its text, from 0.
        word: The word.
        replacement: The word that replaced it; empty if it was removed.
        change: The change of the divergence. Positive: the word brings the texts closer. Negative: the word separates them.
        stderr: The standard error of `change` over samples, NaN with one sample.
        ci95: The 95% interval of `change` (Student's t, since a change is signed), NaN with one sample.
    """

    text: str
    position: int
    word: str
    replacement: str
    change: float
    stderr: float
    ci95: tuple[float, float]

    place = deprecated_property("place", "position")
    instead = deprecated_property("instead", "replacement")
    done = deprecated_property("done", "label")

    @property
    def label(self) -> str:
        """A description of the change of the text. A word that occurs several times in it is named with its number."""
        is_repeated = self.text.split().count(self.word) > 1
        word = f"“{self.word}”" + (f" (word {self.position + 1})" if is_repeated else "")
        return f"{word} → “{self.replacement}”" if self.replacement else f"without {word}"

    def __str__(self) -> str:
        return format_with_error(self.change, self.stderr, sign="+")


@dataclass(frozen=True)
class Attribution:
    """The effects of all words of two texts.

    Attributes:
        texts: The two texts.
        effects: One effect per word, in the order of the texts, each followed by that of its replacement if there is one.
        baseline: For each text the divergence that its words change: from the trajectories of the other text to this text.
        unit: The unit of the divergence.
    """

    texts: tuple[str, str]
    effects: tuple[Effect, ...]
    baseline: dict[str, float]
    unit: str

    whole = deprecated_property("whole", "baseline")
    of = deprecated_property("of", "effects_of")

    def __str__(self) -> str:
        lines = [f"  {effect!s:>14}  {effect.label} in “{shorten(effect.text)}”" for effect in self.effects[:MAX_SHOWN]]
        if len(self.effects) > MAX_SHOWN:
            lines.append(f"  and {len(self.effects) - MAX_SHOWN:,} more")
        return "\n".join([f"changes of the divergence, {self.unit}, along the trajectory of the other text", *lines])

    __repr__ = __str__

    def to_list(self) -> list[dict[str, Any]]:
        """Return the effects as plain data for JSON. Errors and intervals are None with one sample."""
        return [
            asdict(effect) | (dict.fromkeys(("stderr", "ci95")) if math.isnan(effect.stderr) else {}) for effect in self.effects
        ]

    def to_pandas(self) -> DataFrame:
        """Return one row per effect as a pandas data frame: text, position, word, replacement, change, stderr and interval.

        Raises:
            InputError: If pandas is not installed.
        """
        return import_pandas().DataFrame(self._rows())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the effects of the words of both texts with their 95% intervals, and return the axes of matplotlib.

        Args:
            ax: The axes to draw on; None makes a new figure, `ax.figure`.
        """
        names = [f"{effect.label} in “{effect.text}”" for effect in self.effects]
        axes = draw_points(ax, names, [(effect.change, *effect.ci95) for effect in self.effects], f"change, {self.unit}")
        axes.axvline(0, color="0.5", linewidth=0.8)
        return axes

    def _repr_html_(self) -> str:
        return rows_to_html(str(self), self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for effect in self.effects:
            row = asdict(effect)
            low, high = row.pop("ci95")
            rows.append(row | {"ci95_low": low, "ci95_high": high})
        return rows

    def effects_of(self, text: str) -> tuple[Effect, ...]:
        """Return the effects of the words of `text`."""
        return tuple(effect for effect in self.effects if effect.text == text)


@renamed_keywords(instead="replacements")
def attribute(
    process: Process,
    a: str,
    b: str,
    *,
    replacements: Mapping[str, str] | None = None,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    progress: ProgressCallback | None = None,
) -> Attribution:
    """Estimate the effect of each word of `a` and of `b` on their divergence, on the trajectories of `conjure.distance`.

    The effect of a word is the change of the directed divergence along the trajectories of the other text. Compare it with
    `baseline`, and not with the distance, to which both directions contribute.

    Words are separated by white space. If a text has a single word, the text without it is the empty text. Effects are not
    additive: the effect of two words together may be larger or smaller than the sum of theirs.

    Args:
        process: The model with its sampling settings.
        a: The first text.
        b: The second text.
        replacements: Words to replace as well, with the word to put in their place: `{"snow": "desert"}`.
        samples: Monte-Carlo samples k. Errors need at least two.
        seed: The seed of all noise.
        divergence: As in `conjure.distance`. `jeffreys` and `kl` give the same result, since each word has one direction.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        progress: Called after every step with the number of finished denoising steps and the total number.

    Returns:
        The effects, with errors over samples.

    Raises:
        InputError: As `conjure.distance`; for a word of `replacements` that is in neither text; and for the divergence `direct`,
            which evaluates no text on a trajectory.
    """
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic,
    )  # fmt: skip
    replacements = dict(replacements or {})
    options.validate((a, b))
    check_words(a, b, replacements, divergence)
    options.validate(replacements.values())
    warn_of_indistinct_texts(process, [(a, b), *replacements.items()])
    variants = {text: _variants(text, replacements) for text in (a, b)}
    cache = TrajectoryCache(process, options.noise)
    jobs = []
    for text, partner in ((a, b), (b, a)):
        targets = list(dict.fromkeys([text, *(variant for *_, variant in variants[text])]))
        jobs += [
            TrajectoryJob(
                partner, options.noise.seed_for(sample, partner, text), tuple(targets[start : start + MAX_TARGETS_PER_JOB])
            )
            for sample in range(samples)
            for start in range(0, len(targets), MAX_TARGETS_PER_JOB)
        ]
    cache.compute(jobs, final_latents=False, progress=progress)

    def divergence_samples(text: str, partner: str, variant: str) -> Float64[np.ndarray, " samples"]:
        """Return the divergence from the trajectories of `partner` to `variant`, which stands for `text`, per sample."""
        differences = cache.one_way(partner, text, variant, samples)
        return check_finite(options.config.per_step(differences).forward.sum(1))

    effects, baseline = [], {}
    for text, partner in ((a, b), (b, a)):
        unchanged = divergence_samples(text, partner, text)
        baseline[text] = float(unchanged.mean())
        for position, word, replacement, variant in variants[text]:
            change = t_interval(divergence_samples(text, partner, variant) - unchanged)
            effects.append(Effect(text, position, word, replacement, *change))
    return Attribution((a, b), tuple(effects), baseline, options.config.unit_label)


def _variants(text: str, replacements: Mapping[str, str]) -> list[tuple[int, str, str, str]]:
    """Return for each change of `text` the position of the word, the word, its replacement (may be empty) and the new text."""
    words = text.split()
    variants = []
    for position, word in enumerate(words):
        for replacement in ("", replacements[word]) if word in replacements else ("",):
            new_words = [*words[:position], replacement, *words[position + 1 :]]
            variants.append((position, word, replacement, " ".join(new_word for new_word in new_words if new_word)))
    return variants

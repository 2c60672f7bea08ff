"""The comparison of two texts for a visitor: answers with more and more images, and a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from conjure.app import html
from conjure.app.answers import Answer, Sampling
from conjure.app.labels import public_settings
from conjure.app.limits import Limits, visitor_values
from conjure.app.thread_warnings import collect_warnings
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.process import Process
from conjure.divergence.estimates import Estimate
from conjure.errors import InputError
from conjure.explanation.attribution import attribute
from conjure.explanation.explain import Explanation, explain, iter_explanations
from conjure.explanation.html import explanation_page
from conjure.io.documents import data_uri
from conjure.similarity.validation import check_words


@dataclass(frozen=True)
class TextComparison:
    """A request to compare two texts.

    Attributes:
        a: The first text.
        b: The second text.
        words: Whether to measure the effects of words.
        replacements: Words to replace, with the words in their place.
    """

    a: str
    b: str
    words: bool
    replacements: tuple[tuple[str, str], ...]

    @classmethod
    @visitor_values()
    def validated(cls, limits: Limits, a: object, b: object, words: object, replacements: object) -> TextComparison:
        """Return the comparison that a visitor requests.

        Raises:
            InputError: A value is invalid or above a limit.
        """
        a, b = limits.validated_text(a), limits.validated_text(b)
        if not isinstance(words, bool | None):
            raise InputError("the choice of the effects of words is neither true nor false; give one of both")
        pairs = limits.validated_replacements(replacements)
        if words or pairs:
            check_words(a, b, pairs, "jeffreys")
        return cls(a, b, bool(words), tuple(pairs.items()))

    def answers(self, process: Process, sampling: Sampling, progress: ProgressCallback | None) -> Iterator[Answer]:
        """Yield answers with more and more images.

        Args:
            process: The process.
            sampling: The settings.
            progress: Called after each denoising step.
        """
        warnings: list[str] = []
        arguments: dict[str, Any] = {"samples": sampling.samples, "seed": sampling.seed, "progress": progress}
        explanations = iter_explanations(process, self.a, self.b, **arguments)
        explanation: Explanation | None = None
        while True:
            with collect_warnings(warnings):  # the thread may change between two iterations of a generator
                following = next(explanations, None)
            if following is None:
                break
            explanation = following
            yield Answer(html.distance(explanation.estimate, warnings), html.trajectory_grid(explanation))
        assert explanation is not None
        words = None
        if self.words or self.replacements:
            with collect_warnings(warnings):
                words = attribute(process, self.a, self.b, replacements=dict(self.replacements), **arguments)
        estimate = _without_paths(explanation.estimate, sampling.model)
        csv = html.frame_csv(estimate.to_pandas())
        head = html.notes(warnings) + html.page_downloads("comparison", csv)
        yield Answer(head, html.iframe(explanation_page(estimate, explanation.sample_images, words)), csv)

    def figure(self, process: Process, sampling: Sampling, progress: ProgressCallback | None) -> str:
        """Return the figure as the data URI of a PNG file. Arguments as in `answers`."""
        explanation = explain(
            process, self.a, self.b, samples=sampling.samples, seed=sampling.seed, samples_shown=1, words=self.words,
            replacements=dict(self.replacements), progress=progress,
        )  # fmt: skip
        explanation = replace(explanation, estimate=_without_paths(explanation.estimate, sampling.model))
        return data_uri(explanation._repr_png_(), "png")


def _without_paths(estimate: Estimate, model: str) -> Estimate:
    return replace(estimate, process=public_settings(estimate.process, model))

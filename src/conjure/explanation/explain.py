"""Explanations of a distance: the images of Figure 1 of Liu and Soatto (2026), and the effects of words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from conjure.deprecation import deprecated_property, renamed_keywords
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.noise_levels import Unit
from conjure.diffusion.process import Process
from conjure.divergence.divergences import Divergence, Reduction
from conjure.divergence.estimates import Estimate
from conjure.divergence.weightings import Weighting
from conjure.errors import InputError
from conjure.explanation.attribution import Attribution, attribute
from conjure.explanation.figure import comparison_figure
from conjure.explanation.html import explanation_page
from conjure.explanation.images import SampleImages, Trajectory, TrajectoryImages, decode_trajectories, iter_decoded
from conjure.io.files import check_output, write_output
from conjure.io.formatting import pluralize
from conjure.io.numbers import is_integer
from conjure.plotting.heatmaps import HeatmapScale, check_heatmap_scale
from conjure.plotting.media import SUFFIXES
from conjure.plotting.output import FIGURE_SUFFIXES, figure_bytes
from conjure.similarity.options import SamplingOptions
from conjure.similarity.pairwise import make_estimate
from conjure.similarity.sampling import draw_samples, jobs_for_pairs, run_metadata
from conjure.similarity.token_checks import warn_of_indistinct_texts
from conjure.similarity.trajectory_cache import TrajectoryCache
from conjure.similarity.validation import check_words

DEFAULT_SAMPLES_SHOWN = 3


@dataclass(frozen=True)
class Explanation:
    """An estimate with the images of its first samples and, where requested, the effects of words.

    Attributes:
        estimate: The estimate of the distance.
        sample_images: The images of the first samples; at least one.
        words: The effects of words, or None.
    """

    estimate: Estimate
    sample_images: tuple[SampleImages, ...] = field(repr=False)
    words: Attribution | None = None

    shown = deprecated_property("shown", "sample_images")

    @property
    def forward(self) -> TrajectoryImages:
        """The trajectory of the first text in the first sample."""
        return self.sample_images[0].forward

    @property
    def backward(self) -> TrajectoryImages:
        """The trajectory of the second text in the first sample."""
        return self.sample_images[0].backward

    def __str__(self) -> str:
        images = f"images of {pluralize(len(self.sample_images), 'sample')}"
        return f"{self.estimate!r}, {images}" + ("" if self.words is None else f"\n{self.words}")

    __repr__ = __str__

    def save(self, path: str | Path, *, heatmap_scale: HeatmapScale = "log") -> None:
        """Write the explanation to `path`.

        Args:
            path: A .png, .svg or .pdf file for the figure, or an .html file for a page with sliders over steps and samples. The
                page needs no other file and no network.
            heatmap_scale: The color scale of the heat maps of single steps. `log` (logarithmic) and `linear` are common to all
                steps, so that steps can be compared; with `step`, each step has its own linear scale.

        Raises:
            InputError: The scale is unknown, the suffix is another one, or the file cannot be written.
        """
        check_heatmap_scale(heatmap_scale)
        path = check_output(path, FIGURE_SUFFIXES, "figure")
        file_format = path.suffix.lower().removeprefix(".")
        if file_format == "html":
            content = explanation_page(self.estimate, self.sample_images, self.words, heatmap_scale).encode()
        else:
            content = self._figure_bytes(file_format, heatmap_scale)
        write_output(path, content, make_folders=False)

    def save_media(self, folder: str | Path) -> list[Path]:
        """Write what both texts generate in the first sample to a folder: from the same noise, or opposite noise if antithetic.

        Args:
            folder: The folder, which is created if it does not exist. Its files are `first` and `second`, as .png for images,
                .gif for videos and .wav for sounds.

        Returns:
            The files.

        Raises:
            InputError: The files cannot be written.
        """
        paths = []
        for name, images in (("first", self.forward), ("second", self.backward)):
            assert images.media is not None
            path = Path(folder) / f"{name}{SUFFIXES[images.media.kind][0]}"
            write_output(path, images.media.encode(path.suffix.removeprefix(".")))
            paths.append(path)
        return paths

    def _figure_bytes(self, file_format: str, heatmap_scale: HeatmapScale = "log") -> bytes:
        figure = comparison_figure(self.estimate, self.sample_images, self.words, heatmap_scale=heatmap_scale)
        return figure_bytes(figure, file_format)

    def _repr_png_(self) -> bytes:
        return self._figure_bytes("png")


@renamed_keywords(precision="target_relative_error", shown="samples_shown", instead="replacements")
def explain(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    divergence: Divergence = "jeffreys",
    weighting: Weighting = "uniform",
    unit: Unit | None = None,
    reduction: Reduction = "sum",
    antithetic: bool = False,
    target_relative_error: float | None = None,
    samples_shown: int = DEFAULT_SAMPLES_SHOWN,
    words: bool = False,
    replacements: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> Explanation:
    """Estimate the distance of `a` and `b` as `conjure.distance` does, and decode the images of its first samples.

    Args:
        process: The model with its sampling settings.
        a: The first text.
        b: The second text.
        samples: Monte-Carlo samples k. Errors need at least two.
        seed: The seed of all noise.
        divergence: As in `conjure.distance`.
        weighting: As in `conjure.distance`.
        unit: As in `conjure.distance`.
        reduction: As in `conjure.distance`.
        antithetic: As in `conjure.distance`.
        target_relative_error: As in `conjure.distance`.
        samples_shown: The number of samples whose images are decoded.
        words: Whether to estimate the effect of each word, see `conjure.attribute`.
        replacements: Words to replace, see `conjure.attribute`. Implies `words`.
        progress: Called after every step with the number of finished denoising steps and the total number.

    Returns:
        The explanation. Its estimate is that of `conjure.distance`.

    Raises:
        InputError: As `conjure.distance` and `conjure.attribute`, and for `samples_shown` below 1.
    """
    if not is_integer(samples_shown, 1):
        raise InputError(f"samples_shown is {samples_shown!r}; it must be an integer >= 1")
    if words or replacements:
        check_words(a, b, replacements or {}, divergence)
    options = SamplingOptions.create(
        process.default_unit, samples=samples, seed=seed, divergence=divergence, weighting=weighting, unit=unit,
        reduction=reduction, antithetic=antithetic, target_relative_error=target_relative_error,
    )  # fmt: skip
    cache, samples, results = draw_samples(process, a, b, options, keep_latents=samples_shown, progress=progress)
    differences = cache.pair(a, b, samples)
    estimate = make_estimate(differences, options.config, (a, b), run_metadata(process, options))
    per_step = options.config.per_step(differences)
    result_of = {(result.job.text, result.job.seed): result for result in results}
    trajectories: list[Trajectory] = []
    for sample in range(min(samples_shown, samples)):
        forward, backward = (result_of[x, options.noise.seed_for(sample, x, y)] for x, y in ((a, b), (b, a)))
        trajectories += [(forward, 0, per_step.forward[sample]), (backward, 1, per_step.backward[sample])]
    decoded = decode_trajectories(process, trajectories)
    sample_images = [SampleImages(*images) for images in zip(decoded[::2], decoded[1::2], strict=True)]
    if divergence == "direct":
        sample_images = [_without_positions(images) for images in sample_images]
    attribution = None
    if words or replacements:
        attribution = attribute(
            process, a, b, replacements=replacements, samples=samples, seed=seed, divergence=divergence, weighting=weighting,
            unit=unit, reduction=reduction, antithetic=antithetic, progress=progress,
        )  # fmt: skip
    return Explanation(estimate, tuple(sample_images), attribution)


def iter_explanations(
    process: Process,
    a: str,
    b: str,
    *,
    samples: int = 3,
    seed: int = 0,
    samples_shown: int = DEFAULT_SAMPLES_SHOWN,
    progress: ProgressCallback | None = None,
) -> Iterator[Explanation]:
    """Run `explain` with its default settings, and yield intermediate results.

    Args:
        process: The model with its sampling settings.
        a: The first text.
        b: The second text.
        samples: Monte-Carlo samples k. Errors need at least two.
        seed: The seed of all noise.
        samples_shown: The number of samples whose images are decoded.
        progress: Called after every step with the number of finished denoising steps and the total number.

    Yields:
        An explanation after each decoded step of the first sample, and one after each further sample. Images of steps that are
        not decoded yet are white. The last explanation is the result of `explain`.

    Raises:
        InputError: As `explain`, when the first explanation is requested.

    Warns:
        IndistinctTextWarning: As `explain`.
    """
    options = SamplingOptions.create(process.default_unit, samples=samples, seed=seed)
    options.validate((a, b))
    warn_of_indistinct_texts(process, [(a, b)])
    cache = TrajectoryCache(process, options.noise)
    metadata = run_metadata(process, options)
    sample_images: list[SampleImages] = []
    for sample in range(samples):
        jobs = jobs_for_pairs([(a, b)], [sample], options.noise)
        keep_latents = jobs if sample < samples_shown else ()
        results = cache.compute(jobs, final_latents=False, keep_latents=keep_latents, progress=progress)
        differences = cache.pair(a, b, sample + 1)
        estimate = make_estimate(differences, options.config, (a, b), metadata)
        if sample >= samples_shown:
            yield Explanation(estimate, tuple(sample_images))
            continue
        per_step = options.config.per_step(differences)
        forward: Trajectory = (results[0], 0, per_step.forward[sample])
        backward: Trajectory = (results[-1], 1, per_step.backward[sample])
        step_by_step = zip(iter_decoded(process, *forward), iter_decoded(process, *backward), strict=True)
        for pair in step_by_step if sample == 0 else [decode_trajectories(process, [forward, backward])]:
            images = SampleImages(*pair)
            yield Explanation(estimate, (*sample_images, images))
        sample_images.append(images)


def _without_positions(images: SampleImages) -> SampleImages:
    """Return images without contributions of positions and times."""
    return SampleImages(*(replace(part, heatmaps=None, over_time=None, times=None) for part in (images.forward, images.backward)))

"""Floors of the agreement with human ratings: what the text encoder alone reaches, and what remains with shuffled texts.

The denoiser receives of a text only what the text encoders return, and the cosine of a good text encoder agrees with human
ratings by itself. Distances that follow this cosine agree too, even if the images do not show what the texts say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conjure.baselines.base import Baseline
from conjure.baselines.embeddings import process_text_encoder
from conjure.diffusion.process import Process
from conjure.divergence.divergences import DivergenceConfig
from conjure.errors import InputError
from conjure.evaluation.correlation import Agreement, agreement
from conjure.evaluation.pair_files import Pairs
from conjure.evaluation.partial_correlation import partial_rank_correlation
from conjure.evaluation.result_parts import Floors
from conjure.evaluation.results import TaskResult
from conjure.similarity.trajectory_cache import TrajectoryCache

MAX_PAIRS = 100  # of a task, for the floor with shuffled texts, which costs as much per pair as the distance itself
MIN_TEXTS = 3  # with two texts, a pair would get its own conditions in the other order


@dataclass(frozen=True)
class ShuffledPairs:
    """Pairs of a task in which each text is replaced by another one.

    In the denoiser, a text is nothing but its condition. The distance of two texts whose conditions are replaced by those of two
    other texts is therefore the distance of these.

    Attributes:
        rows: The indices of the pairs.
        texts: The texts whose conditions these pairs get.
    """

    rows: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]


def shuffle_texts(pairs: Pairs, seed: int) -> ShuffledPairs:
    """Return at most MAX_PAIRS of the pairs, in which every text is replaced by another text of these pairs.

    The same text always gets the same other text, and no text gets itself: a random cyclic permutation of the texts.

    Args:
        pairs: The pairs of a task.
        seed: The seed of the run. The choice of pairs and the permutation depend on nothing else.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(pairs), min(len(pairs), MAX_PAIRS), replace=False)).tolist()
    chosen = [(pairs.first[row], pairs.second[row]) for row in rows]
    texts = sorted({text for pair in chosen for text in pair})
    if len(texts) < MIN_TEXTS:
        return ShuffledPairs((), ())
    order = [texts[i] for i in rng.permutation(len(texts))]
    others = dict(zip(order, order[1:] + order[:1], strict=True))
    return ShuffledPairs(tuple(rows), tuple((others[first], others[second]) for first, second in chosen))


def shuffled_agreement(
    cache: TrajectoryCache, shuffled: ShuffledPairs, pairs: Pairs, config: DivergenceConfig
) -> Agreement | None:
    """Return the agreement of distances of shuffled pairs with the ratings of the original pairs.

    Args:
        cache: The results for the texts of the shuffled pairs, of one sample.
        shuffled: The shuffled pairs.
        pairs: The pairs of the task.
        config: The divergence.

    Returns:
        The agreement; None where no correlation is defined. Pairs whose predictions are not finite are left out.
    """
    non_finite = set(cache.non_finite_texts())
    kept = [(row, texts) for row, texts in zip(shuffled.rows, shuffled.texts, strict=True) if non_finite.isdisjoint(texts)]
    if not kept:
        return None
    distances = np.stack([config.per_sample(cache.pair(*texts, 1)) for _, texts in kept])
    return _agreement_or_none(distances, pairs.scores[[row for row, _ in kept]])


def encoder_baseline(process: Process, baselines: Sequence[Baseline]) -> Baseline | None:
    """Return the cosine distance of the text encoders of a process; None if `baselines` has it, or if there is no encoder."""
    if any(baseline.name == "encoder" for baseline in baselines):
        return None
    try:
        return process_text_encoder(process)
    except InputError:  # the pipeline has no text encoder
        return None


def add_floors(
    result: TaskResult,
    encoder_distances: Mapping[tuple[str, str], Float[np.ndarray, " 1"]] | None,
    cache: TrajectoryCache,
    shuffled: ShuffledPairs,
) -> TaskResult:
    """Return the result of a task with its floors.

    Args:
        result: The result.
        encoder_distances: The cosine distances by the text encoder, by pair; None if there is none.
        cache: The results for the texts of the shuffled pairs, of one sample.
        shuffled: The shuffled pairs of the task.
    """
    pairs = result.pairs
    by_encoder = None if encoder_distances is None else np.stack([encoder_distances[texts] for texts in pairs.texts])
    by_shuffled = shuffled_agreement(cache, shuffled, pairs, result.config)
    return replace(result, floors=make_floors(pairs, result.distances, by_encoder, by_shuffled))


def make_floors(
    pairs: Pairs,
    distances: Float[np.ndarray, "pairs samples"],
    encoder_distances: Float[np.ndarray, "pairs 1"] | None,
    shuffled: Agreement | None,
) -> Floors:
    """Return the floors of a task.

    Args:
        pairs: The evaluated pairs.
        distances: Their distances, shape (pairs, samples).
        encoder_distances: Their cosine distances by the text encoder, shape (pairs, 1); None if there is none.
        shuffled: The agreement with shuffled texts.
    """
    encoder = None if encoder_distances is None else _agreement_or_none(encoder_distances, pairs.scores)
    if encoder is None or encoder_distances is None:
        return Floors(None, None, shuffled)
    return Floors(encoder, partial_rank_correlation(distances, encoder_distances, pairs.scores), shuffled)


def _agreement_or_none(distances: Float[np.ndarray, "pairs 1"], scores: Float[np.ndarray, " pairs"]) -> Agreement | None:
    try:
        return agreement(distances, scores)
    except InputError:  # too few pairs, no variation, or a distance that is not finite
        return None

"""The page of a ranking in the web app."""

from __future__ import annotations

import math

from conjure.diffusion.load_options import summarize_settings
from conjure.divergence.intervals import few_samples_note
from conjure.divergence.reference_scale import NO_SIMILARITY
from conjure.divergence.terms import distance_terms
from conjure.io.documents import Document, Table
from conjure.io.formatting import pluralize, shared_decimals
from conjure.io.text import capitalize_first, printable, quote_and_wrap
from conjure.similarity.nearest import Neighbours

MAX_TITLE = 80  # characters


def ranking_page(neighbours: Neighbours) -> str:
    """Return the candidates with their similarities and distances, nearest first, as one HTML page."""
    ranked = neighbours.ranked
    decimals = shared_decimals([neighbour.distance for neighbour in ranked], [neighbour.stderr for neighbour in ranked])
    rows = []
    for place, neighbour in enumerate(ranked, 1):
        numbers = (neighbour.distance, neighbour.stderr, *neighbour.ci95)
        distance, stderr, low, high = (f"{number:.{decimals}f}" for number in numbers)
        cells = [distance, ""] if math.isnan(neighbour.stderr) else [f"{distance} ± {stderr}", f"{low} to {high}"]
        similarity = "" if neighbour.similarity is None else str(neighbour.similarity)
        # The similarity before the distance, so that it is visible on a phone
        rows.append([str(place), printable(neighbour.text), similarity, *cells])
    samples = max(neighbour.samples for neighbour in ranked)
    settings = (
        f"{neighbours.divergence}, {neighbours.unit}; {summarize_settings(neighbours.process)}; "
        f"{pluralize(samples, 'sample')}, seed {neighbours.seed}; conjure {neighbours.version}"
    )
    few_samples = few_samples_note(samples)
    notes = [f"{capitalize_first(few_samples)}."] if few_samples else []
    notes += [] if neighbours.scale else [NO_SIMILARITY]
    is_calibrated = neighbours.scale is not None
    return Document(
        title=f"Texts nearest to {quote_and_wrap(neighbours.text, MAX_TITLE)}",
        settings=[settings],
        tables=[Table("Ranking", ["", "text", "similarity", "distance", "95% CI"], rows)],
        note=" ".join(notes),
        glossary=distance_terms(neighbours.divergence, neighbours.unit, neighbours.process, is_calibrated=is_calibrated),
    ).to_html()

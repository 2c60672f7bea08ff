"""The protocol of baselines, and the two that need no model of their own: cosine of vectors, and random distances."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

ENCODER_BATCH = 32  # texts per call of an encoder
MAX_CACHED_TEXTS = 50_000  # texts whose vectors a baseline keeps: most texts of a data set are part of several pairs


@runtime_checkable
class Baseline(Protocol):
    """A measure of the distance of two texts.

    Attributes:
        name: Name in tables and result files.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """Return everything that changes a distance, as plain data for JSON.

        A store identifies the distances of a baseline by the hash of this dictionary. New keys or values make stored distances
        unreachable, so an existing baseline keeps both.

        Returns:
            Names, seeds and sizes, and the hashes of the models that the baseline evaluates.
        """
        ...

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs samples"]:
        """Return the distances of `pairs`.

        Args:
            pairs: Pairs of texts.

        Returns:
            Array of shape (pairs, samples); larger for less similar texts. A deterministic baseline returns one sample.
        """
        ...


@dataclass
class Cosine:
    """Cosine distance, one minus the cosine similarity, of the vectors of two texts.

    Attributes:
        name: Name of the baseline.
        metadata: What `settings` returns beside the name.
        embed: Returns the vectors of a list of texts, shape (texts, dimensions). It is called once per text.
        cache: Vectors of unit length by text.
    """

    name: str
    metadata: dict[str, Any]
    embed: Callable[[list[str]], np.ndarray]
    cache: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def settings(self) -> dict[str, Any]:
        """Return the name and the metadata; see `Baseline.settings`."""
        return {"name": self.name, **self.metadata}  # hashed into store keys: keys and values must not change

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs 1"]:
        """Return the cosine distances of `pairs`, shape (pairs, 1)."""
        if len(self.cache) > MAX_CACHED_TEXTS:
            self.cache.clear()
        new_texts = list({text: None for pair in pairs for text in pair if text not in self.cache})
        for start in range(0, len(new_texts), ENCODER_BATCH):
            batch = new_texts[start : start + ENCODER_BATCH]
            vectors = np.asarray(self.embed(batch), dtype=np.float64)
            self.cache.update(zip(batch, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
        return np.array([[1 - self.cache[a] @ self.cache[b]] for a, b in pairs])


@dataclass
class RandomDistances:
    """Uniform random distances that do not depend on the meaning of the texts: the level of no agreement with human ratings.

    Attributes:
        seed: Seed of the distances. The same pair, in either order, has the same distance for the same seed.
        name: Name of the baseline.
    """

    seed: int = 0
    name: str = "random"

    def settings(self) -> dict[str, Any]:
        """Return the name and the seed; see `Baseline.settings`."""
        return {"name": self.name, "seed": self.seed}  # hashed into store keys: keys and values must not change

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs 1"]:
        """Return random distances in [0, 1), shape (pairs, 1)."""
        hashes = [hashlib.sha256(repr((self.seed, *sorted(pair))).encode()).digest()[:8] for pair in pairs]
        return np.array([[int.from_bytes(value, "big") / 2**64] for value in hashes])

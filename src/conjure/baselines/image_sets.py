r"""Distances of texts by sets of generated images: how far apart are the distributions of images of two texts?

Every text has $n$ images from the same $n$ noise seeds. Each image is represented by $d$ features, so that two texts give arrays
$X$ and $Y$ of shape (n, d).

| metric | definition | reference |
|---|---|---|
| `gaussian` | Jeffreys divergence of Gaussians fitted to $X$ and $Y$, covariances shrunk halfway to a multiple of $I$ | |
| `frechet` | $\lVert m_x - m_y \rVert^2 + \mathrm{tr}(S_x + S_y - 2 (S_x S_y)^{1/2})$ | Heusel et al. 2017 |
| `mmd` | unbiased, with the kernel $(x \cdot y / d + 1)^3$ | Binkowski et al. 2018 |
| `energy` | $2 E \lVert x - y \rVert - E \lVert x - x' \rVert - E \lVert y - y' \rVert$, unbiased | Szekely and Rizzo 2013 |
| `sliced-wasserstein` | squared 2-Wasserstein distance of projections, mean over 256 random directions | Bonneel et al. 2015 |

The images $x_i$ and $y_i$ start from the same noise, so unbiased means exclude $i = j$ between the sets as well as within them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from conjure.baselines.base import MAX_CACHED_TEXTS
from conjure.baselines.huggingface import NO_REMOTE_CODE, open_model, pool, weights_options
from conjure.diffusion.batch_size import AdaptiveBatchSize, map_batches
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.fingerprint import module_fingerprint
from conjure.diffusion.media import PLURALS
from conjure.diffusion.pipeline_patching import needs_single_rows
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import noise_seed
from conjure.errors import InputError

GRID_SIZE = 8  # cells per side of the grid whose mean colours are features
NUM_PROJECTIONS = 256
SHRINKAGE = 0.5
IMAGE_BATCH = 16  # images per call of the pipeline

FeatureSet = Float[np.ndarray, "images features"]


@dataclass(frozen=True)
class FeatureExtractor:
    """A function from images to feature vectors.

    Attributes:
        name: Name in tables.
        metadata: Everything that changes the features, as plain data.
        extract: Returns the features (rows, d) of images (rows, height, width, 3) with values in 0..1.
    """

    name: str
    metadata: dict[str, Any]
    extract: Callable[[np.ndarray], np.ndarray]


def mean_colours(images: Float[np.ndarray, "rows height width 3"]) -> Float[np.ndarray, "rows features"]:
    """Return the mean colours of the cells of an 8x8 grid, shape (rows, 192)."""
    rows = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float()
    return torch.nn.functional.adaptive_avg_pool2d(rows, GRID_SIZE).flatten(1).numpy()


def load_feature_extractor(model: str | None, device: str = "cpu") -> FeatureExtractor:
    """Return the features of a vision model of transformers, such as CLIP or DINOv2: its image embedding or pooled output.

    Args:
        model: A folder, or a Hub name with an optional `@revision`. None for the mean colours of the image.
        device: Device of the model.

    Raises:
        InputError: If the model cannot be loaded.
    """
    if model is None:
        return FeatureExtractor("colours", {"side": GRID_SIZE}, mean_colours)  # hashed into store keys: must not change
    from transformers import AutoImageProcessor, AutoModel

    with open_model(model) as folder:
        image_processor = AutoImageProcessor.from_pretrained(folder, **NO_REMOTE_CODE)
        network = AutoModel.from_pretrained(folder, **weights_options(folder, model), **NO_REMOTE_CODE).to(device).eval()

    @torch.no_grad()
    def extract(images: np.ndarray) -> np.ndarray:
        pixels = image_processor(list((images * 255).round().astype(np.uint8)), return_tensors="pt").pixel_values.to(device)
        get_features = network.get_image_features if hasattr(network, "get_image_features") else network
        output = get_features(pixel_values=pixels)
        features = output if isinstance(output, torch.Tensor) else pool(output, None)
        return features.flatten(1).float().cpu().numpy()

    # hashed into store keys: keys and values must not change
    metadata = {"weights": module_fingerprint(model=network), "prepare": str(image_processor.to_dict())}
    return FeatureExtractor(model, metadata, extract)


@dataclass
class GeneratedImageFeatures:
    """Features of the images that a process generates for texts. The images of a text are generated once, for all metrics.

    Attributes:
        process: Process that generates the images.
        extractor: Features of an image.
        images_per_text: Number of images, n.
        seed: Seed of the noise.
        cache: Features (n, d) by text.
        text_cache: Text embeddings of earlier batches.
        cached_fingerprint: Fingerprint of the process that both caches belong to.

    Raises:
        InputError: For fewer than two images per text, which do not define a distribution, and for a process of videos or sounds.
    """

    process: Process
    extractor: FeatureExtractor
    images_per_text: int = 16
    seed: int = 0
    cache: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    text_cache: TextEmbeddingCache = field(default_factory=TextEmbeddingCache, repr=False)
    cached_fingerprint: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.images_per_text < 2:
            raise InputError(f"images is {self.images_per_text}; the number of images per text must be an integer >= 2")
        if self.process.kind != "image":
            raise InputError(
                f"the model {self.process.model!r} generates {PLURALS[self.process.kind]}, and baselines of sets of images "
                f"({', '.join(METRICS)}) need a model of images; leave these baselines out"
            )

    def features(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return features (n, d) by text, for `texts` and perhaps others.

        Raises:
            InputError: If the device has no memory for a single image.
        """
        fingerprint = self.process.fingerprint()
        if fingerprint != self.cached_fingerprint:
            self.text_cache.clear()
        if fingerprint != self.cached_fingerprint or len(self.cache) > MAX_CACHED_TEXTS:
            self.cache.clear()
        self.cached_fingerprint = fingerprint
        new_texts = [text for text in dict.fromkeys(texts) if text not in self.cache]
        seeds = [noise_seed(self.seed, sample) for sample in range(self.images_per_text)]
        rows = [(text, seed) for text in new_texts for seed in seeds]
        is_batched = self.process.batch_prompts and not needs_single_rows(self.process.pipeline)
        batch_size = AdaptiveBatchSize(self.process.device, IMAGE_BATCH if is_batched else 1)
        batches = list(map_batches(rows, batch_size, self._generate))
        if batches:
            vectors = np.concatenate(batches).astype(np.float64).reshape(len(new_texts), self.images_per_text, -1)
            self.cache.update(zip(new_texts, vectors, strict=True))
        return self.cache

    def _generate(self, rows: Sequence[tuple[str, int]], _start: int) -> np.ndarray:
        images = self.process.run([text for text, _ in rows], [seed for _, seed in rows], "np", self.text_cache)
        return self.extractor.extract(np.asarray(images, dtype=np.float32))


@dataclass
class ImageSetDistance:
    """Distance of texts by sets of generated images.

    Attributes:
        metric: A key of `METRICS`, which names the baseline as well.
        generated: Features of the images.
    """

    metric: str
    generated: GeneratedImageFeatures

    def __post_init__(self) -> None:
        extractor = self.generated.extractor.name
        self.name = self.metric if extractor == "colours" else f"{self.metric}:{extractor}"

    def settings(self) -> dict[str, Any]:
        """Return the process and what determines its images and features; see `Baseline.settings`."""
        generated = self.generated
        # hashed into store keys: keys and values must not change
        fingerprint = generated.process.storable_fingerprint()
        images = {"process": fingerprint, "number": generated.images_per_text, "seed": generated.seed}
        return {"name": self.name, **images, **generated.extractor.metadata}

    def distances(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs 1"]:
        """Return the distances of `pairs`, shape (pairs, 1)."""
        features = self.generated.features([text for pair in pairs for text in pair])
        metric = METRICS[self.metric]
        return np.array([[metric(features[a], features[b])] for a, b in pairs])


def gaussian(x: FeatureSet, y: FeatureSet) -> float:
    """Return the Jeffreys divergence of two fitted Gaussians in nats, in the space that the features of both sets span.

    It is half the sum of both directions, as in `conjure.divergence`.
    """
    union = np.concatenate([x, y])
    _, singular_values, axes = np.linalg.svd(union - union.mean(0), full_matrices=False)
    axes = axes[singular_values > 1e-9 * max(singular_values[0], 1e-300)]
    if not len(axes):
        return 0.0
    (mean_x, cov_x), (mean_y, cov_y) = (_fit_gaussian(features @ axes.T) for features in (x, y))
    if not (np.trace(cov_x) and np.trace(cov_y)):  # all images of a text are equal: its Gaussian has no density
        return 0.0 if np.allclose(mean_x, mean_y) else np.finfo(float).max
    precision_x, precision_y = np.linalg.inv(cov_x), np.linalg.inv(cov_y)
    shift = mean_x - mean_y
    traces = np.trace(precision_y @ cov_x) + np.trace(precision_x @ cov_y)
    return float((traces - 2 * len(mean_x) + shift @ (precision_x + precision_y) @ shift) / 4)


def _fit_gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cov = np.atleast_2d(np.cov(x, rowvar=False))
    return x.mean(0), (1 - SHRINKAGE) * cov + SHRINKAGE * np.trace(cov) / len(cov) * np.eye(len(cov))


def frechet(x: FeatureSet, y: FeatureSet) -> float:
    """Return the Frechet distance. The trace of $(S_x S_y)^{1/2}$ is computed as the nuclear norm of an (n, n) matrix."""
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    root = np.linalg.norm(centred_x @ centred_y.T, "nuc") / np.sqrt((len(x) - 1) * (len(y) - 1))
    variance = (centred_x**2).sum() / (len(x) - 1) + (centred_y**2).sum() / (len(y) - 1)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + variance - 2 * root)


def mmd(x: FeatureSet, y: FeatureSet) -> float:
    """Return the unbiased squared maximum mean discrepancy with a cubic kernel."""
    dimensions = x.shape[1]
    xx, yy, xy = ((left @ right.T / dimensions + 1) ** 3 for left, right in ((x, x), (y, y), (x, y)))
    return _off_diagonal_mean(xx) + _off_diagonal_mean(yy) - 2 * _off_diagonal_mean(xy)


def energy(x: FeatureSet, y: FeatureSet) -> float:
    """Return the unbiased energy distance."""
    xx, yy, xy = (np.linalg.norm(left[:, None] - right[None], axis=-1) for left, right in ((x, x), (y, y), (x, y)))
    return 2 * _off_diagonal_mean(xy) - _off_diagonal_mean(xx) - _off_diagonal_mean(yy)


def sliced_wasserstein(x: FeatureSet, y: FeatureSet) -> float:
    """Return the squared 2-Wasserstein distance of random projections, the mean over the projections."""
    directions = np.random.default_rng(0).normal(size=(x.shape[1], NUM_PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    return float(((np.sort(x @ directions, 0) - np.sort(y @ directions, 0)) ** 2).mean())


def _off_diagonal_mean(matrix: np.ndarray) -> float:
    n = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "gaussian": gaussian, "frechet": frechet, "mmd": mmd, "energy": energy, "sliced-wasserstein": sliced_wasserstein,
}  # fmt: skip

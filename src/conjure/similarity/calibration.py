"""The calibration of a process: the differences between the texts of fixed pairs, which give its distances a scale.

There are 300 random pairs of unrelated texts, with 600 different texts of 30 topics, and 100 paraphrases. The squared differences
of their predictions are kept, so one calibration serves every divergence, weighting, unit and reduction. It does not depend on
antithetic noise either, which changes the error of a distance but not its mean.

Two samples per pair are enough. They show the size of the errors, and `ReferenceScale` corrects the distribution for them. The
remaining error is that of a share of 300 pairs. More samples would not decrease it. No two pairs have the same noise, so their
errors are independent.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.diffusion.jobs import ProgressCallback, TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel, Unit, prediction_type
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import derive_seed
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.divergence.reference_scale import UNCALIBRATED, ReferenceScale
from conjure.engine.runner import iter_result_batches
from conjure.engine.store import Store
from conjure.engine.store_calibration import CalibrationResults, Pair
from conjure.errors import InputError
from conjure.similarity.trajectory_cache import non_finite_error

SAMPLES = 2
SEED = 0
DIGITS = 5  # of the numbers in the calibration of the default model

_in_memory: dict[str, Calibration] = {}  # by fingerprint: those of this session


@dataclass(frozen=True)
class Calibration:
    """The differences between the texts of all pairs under one process.

    Attributes:
        differences: The differences of all samples of all pairs, sample by sample: first the unrelated pairs, then the
            paraphrases.
        default_unit: The unit of the uniform weighting that the process uses.
    """

    differences: PairDifferences
    default_unit: Unit

    def scale(self, config: DivergenceConfig | None = None) -> ReferenceScale:
        """Return the scale of a divergence.

        Args:
            config: The divergence; None for the default of `conjure.distance`.

        Raises:
            InputError: If the divergence is undefined for this process.
        """
        config = DivergenceConfig(unit=self.default_unit) if config is None else config
        values = config.per_sample(self.differences).reshape(-1, SAMPLES)
        unrelated = len(calibration_pairs()["unrelated"])
        return ReferenceScale.from_samples(values[:unrelated], values[unrelated:], config.unit_label)

    def to_json(self, fingerprint: str) -> str:
        """Return the calibration as JSON, with rounded numbers.

        Args:
            fingerprint: The fingerprint of its process.
        """
        differences = self.differences
        rows = np.concatenate([differences.forward, differences.backward, differences.direct[:, None]], 1)
        content = {
            "identity": _identity(fingerprint),
            "timesteps": differences.timesteps,
            "levels": [asdict(level) for level in differences.noise_levels],
            "dimensions": differences.dimensions,
        }
        lines = (json.dumps([float(f"{value:.{DIGITS}g}") for value in row], separators=(",", ":")) for row in rows)
        return json.dumps(content)[:-1] + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"


@functools.cache
def calibration_pairs() -> dict[str, list[Pair]]:
    """Return the pairs of texts: `unrelated` and `paraphrases`."""
    groups = json.loads((files("conjure.similarity") / "calibration_texts.json").read_text(encoding="utf-8"))
    return {name: [(first, second) for first, second in pairs] for name, pairs in groups.items()}


def calibrate(
    process: Process,
    *,
    progress: ProgressCallback | None = None,
    on_start: Callable[[Sequence[TrajectoryJob]], None] | None = None,
) -> Calibration:
    """Measure the scale of a process, once: the distances of 300 unrelated pairs of texts and of 100 paraphrases.

    The results of distances, matrices and nearest neighbours under this process then have a similarity: the share of unrelated
    pairs that are farther apart. The calibration is kept in the store of the process; a stopped one is resumed from there.
    Without a store it is kept until Python ends.

    Args:
        process: The process.
        progress: Called after every step with the number of finished denoising steps and the total number.
        on_start: Called with the jobs that have to be run, before they are.

    Returns:
        The calibration. A stored one, and that of the default model, are returned immediately.

    Raises:
        InputError: If predictions are not finite, or something changes the process that its fingerprint cannot cover.
    """
    fingerprint = process.storable_fingerprint()
    if found := find_calibration(process, fingerprint):
        return found
    stored = _stored_results(process, fingerprint)
    rows = _stored_rows(stored)
    jobs = _jobs([(number, pair) for number, pair in enumerate(_all_pairs()) if pair not in rows])
    if on_start:
        on_start(jobs)
    settings = process.settings() | {"model": f"calibration of {process.settings()['model']}"}
    last: TrajectoryResult | None = None
    for finished, last in _iter_rows(process, jobs, progress):
        rows |= finished
        if stored and finished:
            stored.add(finished, last, settings)
    assert last is not None  # otherwise the calibration would have been complete
    levels = (last.timesteps, last.noise_levels, last.final_latent.numel())
    _in_memory[fingerprint] = _from_rows(process, np.stack([rows[pair] for pair in _all_pairs()]), *levels)
    return _in_memory[fingerprint]


def find_calibration(process: Process, fingerprint: str) -> Calibration | None:
    """Return the calibration of a process: of this session, of the package, or in its store. None if there is none.

    Args:
        process: The process.
        fingerprint: Its fingerprint.
    """
    if fingerprint in _in_memory:
        return replace(_in_memory[fingerprint], default_unit=process.default_unit)
    packaged = packaged_calibration()
    if packaged.get("identity") == _identity(fingerprint):
        levels = tuple(NoiseLevel(**level) for level in packaged["levels"])
        return _from_rows(process, np.array(packaged["rows"]), tuple(packaged["timesteps"]), levels, packaged["dimensions"])
    stored = _stored_results(process, fingerprint)
    visited = stored.visited() if stored else None
    rows = _stored_rows(stored)
    if visited is None or not all(pair in rows for pair in _all_pairs()):
        return None
    return _from_rows(process, np.stack([rows[pair] for pair in _all_pairs()]), *visited)


def require_calibration(process: Process) -> None:
    """Check that a process is calibrated.

    Raises:
        InputError: If it is not.
    """
    if find_calibration(process, process.fingerprint()) is None:
        raise InputError(UNCALIBRATED)


@functools.cache
def packaged_calibration() -> Mapping[str, Any]:
    """Return the content of the file with the calibration of the default model."""
    path = files("conjure.similarity") / "default_calibration.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _all_pairs() -> list[Pair]:
    return [pair for pairs in calibration_pairs().values() for pair in pairs]


def _identity(fingerprint: str) -> dict[str, Any]:
    """Return everything that identifies a calibration."""
    digest = hashlib.sha256(json.dumps(calibration_pairs()).encode()).hexdigest()
    return {"fingerprint": fingerprint, "texts": digest, "samples": SAMPLES, "seed": SEED}


def _stored_results(process: Process, fingerprint: str) -> CalibrationResults | None:
    return CalibrationResults(process.store, _identity(fingerprint)) if isinstance(process.store, Store) else None


def _stored_rows(stored: CalibrationResults | None) -> dict[Pair, np.ndarray]:
    """Return the stored rows by pair. A row has the differences of all samples: (samples, 2 steps + 1) numbers."""
    visited = stored.visited() if stored else None
    return stored.load(SAMPLES * (2 * len(visited[0]) + 1)) if stored and visited else {}


def _jobs(pairs: Sequence[tuple[int, Pair]]) -> list[TrajectoryJob]:
    """Return the jobs of some pairs, which have their number among all pairs, pair by pair."""
    return [
        TrajectoryJob(text, derive_seed((SEED, number, sample)), (other,))
        for number, (a, b) in pairs
        for sample in range(SAMPLES)
        for text, other in ((a, b), (b, a))
    ]


def _iter_rows(
    process: Process, jobs: Sequence[TrajectoryJob], progress: ProgressCallback | None
) -> Iterator[tuple[dict[Pair, np.ndarray], TrajectoryResult]]:
    """Run jobs. Yield after each batch the rows of the pairs that are complete, and one result of the batch.

    Raises:
        InputError: If predictions are not finite.
    """
    results: dict[tuple[str, int], TrajectoryResult] = {}
    pairs = _all_pairs()
    numbers = {(job.text, job.seed): number for number, pair in enumerate(pairs) for job in _jobs([(number, pair)])}
    for batch in iter_result_batches(process.set(store=None), jobs, progress=progress):
        for result in batch:
            if not (np.isfinite(result.squared_differences).all() and np.isfinite(result.final_latent.numpy()).all()):
                raise non_finite_error([result.job.text])
            results[result.job.text, result.job.seed] = result
        rows = {}
        for number in {numbers[result.job.text, result.job.seed] for result in batch}:
            keys = [(job.text, job.seed) for job in _jobs([(number, pairs[number])])]
            if all(key in results for key in keys):
                rows[pairs[number]] = _row([results.pop(key) for key in keys])
        yield rows, batch[-1]


def _row(results: Sequence[TrajectoryResult]) -> Float[np.ndarray, " numbers"]:
    """Return the row of a pair from its results: for each sample those of its two directions."""
    parts = []
    for forward, backward in zip(results[::2], results[1::2], strict=True):
        direct = float((forward.final_latent - backward.final_latent).square().sum())
        parts += [forward.squared_differences[0], backward.squared_differences[0], np.array([direct])]
    return np.concatenate(parts)


def _from_rows(
    process: Process,
    rows: Float[np.ndarray, "pairs numbers"],
    timesteps: tuple[float, ...],
    levels: tuple[NoiseLevel, ...],
    dimensions: int,
) -> Calibration:
    """Return the calibration with the rows of all pairs."""
    forward, backward, direct = np.split(rows.reshape(-1, 2 * len(timesteps) + 1), [len(timesteps), 2 * len(timesteps)], axis=1)
    predicts = prediction_type(process.scheduler)
    differences = PairDifferences(forward, backward, direct[:, 0], predicts, timesteps, levels, dimensions)
    return Calibration(differences, process.default_unit)

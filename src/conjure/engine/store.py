"""A store of results in one SQLite file that stays valid after a crash.

The key of a result is the fingerprint of its process (a hash of everything that influences a result), the text, the seed and the
evaluated text. Processes with other settings therefore never read it, and nothing is computed twice. Stored results remain if the
program is killed. Baselines store their distances in the same file. Several runs and the app may use a file at the same time.
Every row has a checksum, so that a changed byte is detected and its row is computed again (`conjure.engine.store_maintenance`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conjure.diffusion.interfaces import StoredResults
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.engine.store_database import StoreDatabase, checksum
from conjure.engine.store_file import REPAIR_HINT
from conjure.errors import InputError
from conjure.io.files import parse_json

ENGINE_VERSION = 1  # increased when the engine computes other results for the same process, so that old results are not read


class Store:
    """A file of results, which is created if it does not exist.

    Several threads may share a store. Several programs may share a file.

    Args:
        path: The file.

    Raises:
        InputError: If the file is not a store, is corrupted, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.database = StoreDatabase(path)

    @property
    def path(self) -> Path:
        """The file."""
        return self.database.path

    def close(self) -> None:
        """Close the file. Results are written when they are added, so nothing is lost without this call."""
        self.database.close()

    def for_process(self, fingerprint: str, settings: Mapping[str, Any]) -> ProcessResults:
        """Return the results of the process with this fingerprint.

        Args:
            fingerprint: `Process.fingerprint()`.
            settings: `Process.settings()`. They are stored as information about the results.
        """
        return ProcessResults(self.database, fingerprint, settings)

    def for_baseline(self, settings: Mapping[str, Any]) -> BaselineResults:
        """Return the distances of the baseline with these settings."""
        return BaselineResults(self.database, settings)


class ProcessResults:
    """The results of one process in a store."""

    def __init__(self, database: StoreDatabase, fingerprint: str, settings: Mapping[str, Any]) -> None:
        self.database = database
        self.key = f"{ENGINE_VERSION} {fingerprint}"
        self.process, metadata = database.get_or_create(self.key, json.dumps(settings, default=str))
        self.metadata = parse_metadata(metadata, database.path) if metadata else None

    def add(self, results: Sequence[TrajectoryResult]) -> None:
        """Store the results of a batch, all of them or none.

        A valid stored result is kept: in a batch of other jobs the same result differs by rounding, and numbers that a store has
        returned stay the same.

        Raises:
            InputError: If the file cannot be written.
        """
        with self.database.transaction():
            if self.metadata is None:  # another command may have written it meanwhile
                _, metadata = self.database.lookup(self.key)
                self.metadata = parse_metadata(metadata, self.database.path) if metadata else None
            differences, finals = [], []
            for result in results:
                trajectory = (result.job.text, result.job.seed)
                stored = self._differences(*trajectory)
                for target, row in zip(result.job.targets, result.squared_differences, strict=True):
                    if target not in stored:
                        values = row.tobytes()
                        crc32 = checksum(self.key, *trajectory, target, values)
                        differences.append((self.process, *trajectory, target, values, crc32))
                if not self._has_final_latent(*trajectory, check=True):
                    latents = result.final_latent.numpy().tobytes()
                    finals.append((self.process, *trajectory, latents, checksum(self.key, *trajectory, latents)))
            if self.metadata is None:
                self.metadata = {
                    "timesteps": results[0].timesteps,
                    "levels": [asdict(level) for level in results[0].noise_levels],
                    "shape": list(results[0].final_latent.shape),
                }
                self.database.set_metadata(self.key, json.dumps(self.metadata))
            self.database.write("INSERT OR REPLACE INTO squared_differences VALUES (?, ?, ?, ?, ?, ?)", differences)
            self.database.write("INSERT OR REPLACE INTO final_latents VALUES (?, ?, ?, ?, ?)", finals)

    def missing(self, jobs: Sequence[TrajectoryJob], *, final_latents: bool) -> list[TrajectoryJob]:
        """Return the jobs that have to be run, each with only those targets that have no valid result.

        Args:
            jobs: The jobs.
            final_latents: Whether a job without a valid final latent has to be run too.
        """
        remaining = []
        for job in jobs:
            has_end = self._has_final_latent(job.text, job.seed, check=final_latents)
            stored = self._differences(job.text, job.seed) if has_end else {}
            if targets := tuple(target for target in job.targets if target not in stored):
                remaining.append(TrajectoryJob(job.text, job.seed, targets))
        return remaining

    def load(self, jobs: Sequence[TrajectoryJob]) -> StoredResults:
        """Return the results of `jobs`. No result may be missing. A final latent is read on access."""
        assert self.metadata is not None
        differences = {}
        for job in jobs:
            stored = self._differences(job.text, job.seed)
            for target in job.targets:
                differences[job.text, job.seed, target] = np.frombuffer(stored[target])
        return StoredResults(
            squared_differences=differences,
            final_latents=LazyFinalLatents(self),
            timesteps=tuple(self.metadata["timesteps"]),
            noise_levels=tuple(NoiseLevel(**level) for level in self.metadata["levels"]),
            dimensions=int(np.prod(self.metadata["shape"])),
        )

    def _differences(self, text: str, seed: int) -> dict[str, bytes]:
        """Return the valid squared differences along a trajectory, by target."""
        if self.metadata is None:  # the visited timesteps are not stored, for example after a repair without this row
            return {}
        query = "SELECT target, squared_differences, crc32 FROM squared_differences WHERE process = ? AND text = ? AND seed = ?"
        rows = self.database.read(query, (self.process, text, seed))
        num_bytes = len(self.metadata["timesteps"]) * np.dtype(np.float64).itemsize
        return {
            target: values
            for target, values, crc32 in rows
            if checksum(self.key, text, seed, target, values) == crc32 and _is_blob(values, num_bytes)
        }

    def _has_final_latent(self, text: str, seed: int, *, check: bool) -> bool:
        """Return whether the final latent of a trajectory is stored and, with `check`, valid."""
        if check:
            final = self.final_latent(text, seed)
            return final is not None and final[1]
        query = "SELECT 1 FROM final_latents WHERE process = ? AND text = ? AND seed = ?"
        return bool(self.database.read(query, (self.process, text, seed)))

    def final_latent(self, text: str, seed: int) -> tuple[bytes, bool] | None:
        """Return the final latent of a trajectory and whether it is valid, None if it is not stored."""
        query = "SELECT latents, crc32 FROM final_latents WHERE process = ? AND text = ? AND seed = ?"
        for latents, crc32 in self.database.read(query, (self.process, text, seed)):
            num_bytes = 0 if self.metadata is None else math.prod(self.metadata["shape"]) * np.dtype(np.float32).itemsize
            return latents, checksum(self.key, text, seed, latents) == crc32 and _is_blob(latents, num_bytes)
        return None


def parse_metadata(text: str, path: Path) -> dict[str, Any]:
    """Return the metadata of the trajectories of a process from its JSON.

    Raises:
        InputError: If a value has another form than `ProcessResults.add` writes.
    """
    what = f"{str(path)!r}, the metadata of a process"
    metadata = parse_json(text, what, allow_nan=True)
    timesteps, levels, shape = (metadata.get(key) for key in ("timesteps", "levels", "shape"))
    names = {field.name for field in fields(NoiseLevel)}
    is_valid = (
        isinstance(timesteps, list)
        and all(isinstance(timestep, int | float) for timestep in timesteps)
        and isinstance(levels, list)
        and all(isinstance(level, dict) and set(level) == names for level in levels)
        and all(isinstance(value, int | float) for level in levels for value in level.values())
        and isinstance(shape, list)
        and all(isinstance(size, int) and size >= 0 for size in shape)
    )
    if not is_valid:
        raise InputError(f"{what} is not what Conjure writes; {REPAIR_HINT}")
    return metadata


def _is_blob(value: object, num_bytes: int) -> bool:
    return isinstance(value, bytes) and len(value) == num_bytes


class LazyFinalLatents(Mapping[tuple[str, int], torch.Tensor]):
    """The final latents of a process by (text, seed), read on access, since those of a large model may not fit into memory."""

    def __init__(self, results: ProcessResults) -> None:
        self.results = results

    def __getitem__(self, key: tuple[str, int]) -> torch.Tensor:
        final = self.results.final_latent(*key)
        if final is None:
            raise KeyError(key)
        latents, is_valid = final
        if not is_valid:
            path = str(self.results.database.path)
            raise InputError(f"{path!r} is corrupted: the final latent of {key[0]!r} does not match its checksum; {REPAIR_HINT}")
        assert self.results.metadata is not None
        return torch.frombuffer(bytearray(latents), dtype=torch.float32).reshape(self.results.metadata["shape"])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        query = "SELECT text, seed FROM final_latents WHERE process = ?"
        return iter(self.results.database.read(query, (self.results.process,)))

    def __len__(self) -> int:
        return len(list(iter(self)))


class BaselineResults:
    """The distances of one baseline in a store. Its settings contain everything that influences a result."""

    def __init__(self, database: StoreDatabase, settings: Mapping[str, Any]) -> None:
        self.database = database
        serialized = json.dumps(settings, default=str, sort_keys=True)
        self.key = f"baseline {ENGINE_VERSION} {hashlib.sha256(serialized.encode()).hexdigest()}"
        self.baseline, _ = database.get_or_create(self.key, serialized)

    def load(self) -> dict[tuple[str, str], np.ndarray]:
        """Return all valid distances by pair, each of shape (samples,)."""
        query = "SELECT text1, text2, distances, crc32 FROM baseline_distances WHERE process = ?"
        return {
            (first, second): np.frombuffer(distances)
            for first, second, distances, crc32 in self.database.read(query, (self.baseline,))
            if checksum(self.key, first, second, distances) == crc32 and _is_blob(distances, len(distances) // 8 * 8)
        }

    def add(self, pairs: Sequence[tuple[str, str]], distances: np.ndarray) -> None:
        """Store distances of shape (pairs, samples).

        Raises:
            InputError: If the file cannot be written.
        """
        rows = []
        for pair, row in zip(pairs, distances, strict=True):
            values = row.astype(np.float64).tobytes()
            rows.append((self.baseline, *pair, values, checksum(self.key, *pair, values)))
        with self.database.transaction():
            self.database.write("INSERT OR REPLACE INTO baseline_distances VALUES (?, ?, ?, ?, ?)", rows)

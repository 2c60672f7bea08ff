"""The calibrations in a store: the squared differences of fixed pairs of texts under one process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from conjure.diffusion.jobs import TrajectoryResult
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.engine.store import ENGINE_VERSION, Store, parse_metadata
from conjure.engine.store_database import checksum
from conjure.errors import InputError

Pair = tuple[str, str]


class CalibrationResults:
    """The results of one calibration in a store. A read changes nothing.

    Args:
        store: The store.
        identity: Everything that identifies the calibration.
    """

    def __init__(self, store: Store, identity: Mapping[str, Any]) -> None:
        self.database = store.database
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.key = f"calibration {ENGINE_VERSION} {digest}"

    def visited(self) -> tuple[tuple[float, ...], tuple[NoiseLevel, ...], int] | None:
        """Return the visited timesteps, their noise levels and the dimensions of a latent; None if nothing is stored."""
        try:
            record = self.database.find(self.key)
            if record is None or record[1] is None:
                return None
            metadata = parse_metadata(record[1], self.database.path)
        except InputError:  # a corrupted calibration counts as missing; `store verify` reports it
            return None
        levels = tuple(NoiseLevel(**level) for level in metadata["levels"])
        return tuple(metadata["timesteps"]), levels, int(np.prod(metadata["shape"]))

    def load(self, size: int) -> dict[Pair, Float[np.ndarray, " size"]]:
        """Return the valid rows of `size` numbers by pair."""
        record = self.database.find(self.key)
        if record is None:
            return {}
        query = "SELECT text1, text2, distances, crc32 FROM baseline_distances WHERE process = ?"
        return {
            (first, second): np.frombuffer(values)
            for first, second, values, crc32 in self.database.read(query, (record[0],))
            if checksum(self.key, first, second, values) == crc32 and isinstance(values, bytes) and len(values) == 8 * size
        }

    def add(self, rows: Mapping[Pair, Float[np.ndarray, " size"]], result: TrajectoryResult, settings: Mapping[str, Any]) -> None:
        """Store the rows of some pairs, all of them or none.

        Args:
            rows: The rows by pair.
            result: A result of the process, whose noise levels are those of all rows.
            settings: What `conjure store info` shows.

        Raises:
            InputError: If the file cannot be written.
        """
        with self.database.transaction():
            number, metadata = self.database.get_or_create(self.key, json.dumps(settings, default=str))
            if metadata is None:
                levels = [asdict(level) for level in result.noise_levels]
                content = {"timesteps": result.timesteps, "levels": levels, "shape": list(result.final_latent.shape)}
                self.database.set_metadata(self.key, json.dumps(content))
            contents = [(number, *pair, row.tobytes(), checksum(self.key, *pair, row.tobytes())) for pair, row in rows.items()]
            self.database.write("INSERT OR REPLACE INTO baseline_distances VALUES (?, ?, ?, ?, ?)", contents)

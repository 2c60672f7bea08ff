r"""The noise levels at which two processes are compared.

The divergence along trajectories of a process is computed at the levels that this process visits, where both models are
evaluated. If the levels of the two processes differ, the values along trajectories of B are interpolated to those levels of A
that lie within the range of B. The coordinate of the interpolation is the angle $\arctan(\sigma / \alpha)$, which is finite at
every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conjure.diffusion.noise_levels import NoiseLevel
from conjure.errors import InputError

SAME_ANGLE = 1e-4  # radians; levels of two schedulers at the same timestep differ by rounding
OUTSIDE = 1e-3  # radians by which a level may lie outside of the range of the other process


@dataclass(frozen=True)
class CommonGrid:
    """The levels of A at which both processes are compared.

    Attributes:
        kept: The indices of these levels among those that A visits.
        is_same: Whether both processes visit the same levels.
        angles_a: The angles of the kept levels.
        angles_b: The angles of the levels that B visits.
    """

    kept: tuple[int, ...]
    is_same: bool
    angles_a: tuple[float, ...]
    angles_b: tuple[float, ...]

    def on_grid(self, values: Float[np.ndarray, "samples steps"]) -> Float[np.ndarray, "samples kept"]:
        """Return values at the levels that B visits as values at the kept levels of A."""
        if self.is_same:
            return values
        order = np.argsort(self.angles_b)
        known = np.array(self.angles_b)[order]
        return np.stack([np.interp(self.angles_a, known, row[order]) for row in values])


def common_grid(levels_a: Sequence[NoiseLevel], levels_b: Sequence[NoiseLevel]) -> CommonGrid:
    """Return the levels at which two processes are compared.

    Args:
        levels_a: The levels that A visits.
        levels_b: The levels that B visits.

    Raises:
        InputError: If no level of A lies within the range of B.
    """
    angles_a, angles_b = ([math.atan2(level.sigma, level.alpha) for level in levels] for levels in (levels_a, levels_b))
    is_same = len(angles_a) == len(angles_b) and bool(np.allclose(angles_a, angles_b, rtol=0, atol=SAME_ANGLE))
    low, high = min(angles_b) - OUTSIDE, max(angles_b) + OUTSIDE
    kept = tuple(range(len(angles_a))) if is_same else tuple(i for i, angle in enumerate(angles_a) if low <= angle <= high)
    if not kept:
        raise InputError(
            "process A visits no noise level within the range of process B, so that they have no common grid; give both more "
            "steps"
        )
    return CommonGrid(kept, is_same, tuple(angles_a[i] for i in kept), tuple(angles_b))

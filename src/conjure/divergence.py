r"""Divergences between two texts' processes, as pure functions of what was seen along their trajectories.

For texts y1, y2 the path measures P_1, P_2 of the two reverse processes have (Girsanov; Liu and Soatto 2026, section 3)

    KL(P_2 || P_1) = 1/2 E_{P_2} int g(t)^2 |s(x_t, t | y1) - s(x_t, t | y2)|^2 dt

and the distance is the Jeffreys divergence between them (early versions of the paper call it Jensen-Shannon).
Here `forward[i]` belongs to trajectories of the first text, `KL(P_1 || P_2)`, `backward[i]` to those of the second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conjure.errors import InputError
from conjure.units import UNITS, WEIGHTINGS, Level, step_weights

DIVERGENCES = ("jeffreys", "kl", "initial", "final", "direct")
REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class Seen:
    """What k samples of a pair gave, of which every measure is made.

    forward, backward: `|m(x_t, t | y1) - m(x_t, t | y2)|^2` summed over dimensions, shape (k, T), m the model's guided output, at
    the x_t of the first and of the second text.
    direct: `|x_0(y1) - x_0(y2)|^2`, shape (k,), between the two texts' final latents from the same noise.
    output: what m is, see `units.output_of`. timesteps, levels: the T visited ones. dimensions: how many numbers x_t has.
    """

    forward: np.ndarray
    backward: np.ndarray
    direct: np.ndarray
    output: str
    timesteps: tuple[float, ...]
    levels: tuple[Level, ...]
    dimensions: int


@dataclass(frozen=True)
class Contributions:
    """Per sample and step: what each direction adds. `forward`, `backward`, `total` have shape (k, T)."""

    forward: np.ndarray
    backward: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Measure:
    """How differences along trajectories become a distance.

    divergence: `jeffreys`, both directions: with uniform weights their sum, as the paper's Algorithm 1 prints it, in nats half of
    it, `1/2 KL(P_1||P_2) + 1/2 KL(P_2||P_1)`. `kl`: the forward direction alone. `initial`, `final`: Jeffreys at the first and
    at the last visited step alone. `direct`: squared distance of the final latents, booked on the last step.
    weighting: `uniform`, the paper's, or `girsanov`, nats. unit: what `uniform` measures in. See `units.step_weights`.
    reduction: `sum` over the dimensions of x_t, or their `mean`, which lets resolutions be compared.

    Errors: `InputError` for a name that is none of these, and for the three baselines in nats, where they mean nothing.
    """

    divergence: str = "jeffreys"
    weighting: str = "uniform"
    unit: str = "output"
    reduction: str = "sum"

    def __post_init__(self) -> None:
        for what, allowed in (("divergence", DIVERGENCES), ("weighting", WEIGHTINGS), ("unit", UNITS), ("reduction", REDUCTIONS)):
            if getattr(self, what) not in allowed:
                raise InputError(f"unknown {what} {getattr(self, what)!r}; allowed are {', '.join(allowed)}")
        if self.weighting == "girsanov" and self.divergence not in ("jeffreys", "kl"):
            raise InputError(f"divergence {self.divergence!r} has no value in nats; use it with the weighting 'uniform'")

    def __str__(self) -> str:
        """In what the distance is given."""
        if self.weighting == "girsanov":
            return "nats" if self.reduction == "sum" else "nats per dimension"
        of = {"output": "", "epsilon": " of noise", "x0": " of x0", "score": " of score", "velocity": " of velocity"}
        what = " of latents" if self.divergence == "direct" else of[self.unit]
        return ("squared norm" if self.reduction == "sum" else "mean square") + what

    def contributions(self, seen: Seen) -> Contributions:
        """The divergence, split over samples and steps; sums over the last axis are the per-sample values.

        Errors: `InputError` where the unit does not exist at a visited level, and for nats of a single step.
        """
        steps = len(seen.levels)
        chosen = np.zeros(steps)
        chosen[0 if self.divergence == "initial" else -1] = 1
        share = 1 if self.reduction == "sum" else 1 / seen.dimensions
        if self.divergence == "direct":
            total = seen.direct[:, None] * chosen * share
            return Contributions(total, total, total)
        if self.weighting == "girsanov" and steps < 2:
            raise InputError("the weighting girsanov integrates between visited levels, so steps must be at least 2, not 1")
        weights = step_weights(seen.levels, seen.output, self.weighting, self.unit) * share
        if self.divergence in ("initial", "final"):
            weights = weights * chosen * steps
        forward, backward = seen.forward * weights, seen.backward * weights
        if self.divergence == "kl":
            return Contributions(forward, backward, forward)
        both = forward + backward
        return Contributions(forward, backward, both if self.weighting == "uniform" else both / 2)

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

DIVERGENCES = ("jeffreys", "kl", "initial", "final", "direct")


@dataclass(frozen=True)
class Seen:
    """What k samples of a pair gave.

    forward, backward: `|m(x_t, t | y1) - m(x_t, t | y2)|^2`, shape (k, T), at the x_t of the first and second text, with uniform
    weights in the unit of the process, else of the model's own output.
    direct: `|x_0(y1) - x_0(y2)|^2`, shape (k,), between the two texts' final latents from the same noise.
    weights: shape (T,), see `units.step_weights`.
    weighting: the name of these weights.
    """

    forward: np.ndarray
    backward: np.ndarray
    direct: np.ndarray
    weights: np.ndarray
    weighting: str


@dataclass(frozen=True)
class Contributions:
    """Per sample and step: what each direction adds. `forward`, `backward`, `total` have shape (k, T)."""

    forward: np.ndarray
    backward: np.ndarray
    total: np.ndarray


def contributions(seen: Seen, divergence: str) -> Contributions:
    """The divergence, split over samples and steps; sums over the last axis are the per-sample values.

    `jeffreys`: both directions. With uniform weights their sum, as the paper's Algorithm 1 prints it; in nats half of it,
    `1/2 KL(P_1||P_2) + 1/2 KL(P_2||P_1)`. `kl`: the forward direction alone. `initial`, `final`: Jeffreys at the first and at
    the last visited step alone. `direct`: squared distance of the final latents, booked on the last step.

    Errors: `InputError` for an unknown name, and for the three baselines in nats, where they mean nothing.
    """
    if divergence not in DIVERGENCES:
        raise InputError(f"unknown divergence {divergence!r}; allowed are {', '.join(DIVERGENCES)}")
    steps = seen.weights.shape[0]
    if divergence in ("initial", "final", "direct"):
        if seen.weighting != "uniform":
            raise InputError(f"divergence {divergence!r} has no value in nats; use it with the weighting 'uniform'")
        chosen = np.zeros(steps)
        chosen[0 if divergence == "initial" else -1] = 1
        if divergence == "direct":
            total = seen.direct[:, None] * chosen
            return Contributions(total, total, total)
        forward, backward = seen.forward * chosen, seen.backward * chosen
        return Contributions(forward, backward, forward + backward)
    forward, backward = seen.forward * seen.weights, seen.backward * seen.weights
    if divergence == "kl":
        return Contributions(forward, backward, forward)
    both = forward + backward
    return Contributions(forward, backward, both if seen.weighting == "uniform" else both / 2)

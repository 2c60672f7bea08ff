"""How far two processes differ on one text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from conjure.io.numbers import none_if_not_finite
from conjure.io.text import shorten
from conjure.process_drift.statistics import Mean

MEANS = ("divergence", "forward", "backward", "relative", "nats", "nats_forward", "nats_backward", "final", "final_relative")
MAX_TEXT = 60  # characters of a text in a table


@dataclass(frozen=True)
class TextDrift:
    """How far two processes differ on one text.

    Attributes:
        text: The text.
        divergence: The Jeffreys divergence with the uniform weighting: the sum of both directions, as in `conjure.distance`.
        forward: The directed divergence along trajectories of process A.
        backward: The directed divergence along trajectories of process B.
        relative: `divergence` divided by the distance between the text and the empty text under process A.
        nats: The Jeffreys divergence in nats: the mean of both directions.
        nats_forward: KL(A || B) in nats.
        nats_backward: KL(B || A) in nats.
        final: The squared distance of the final latents from the same noise.
        final_relative: `final` divided by the same distance between the text and the empty text under process A.
        is_above_noise: Whether `divergence` exceeds the numerical noise of the processes.
        per_step: The contributions of the steps to `divergence`.
        per_step_ci95: The 95% intervals of `per_step`.
        samples: The values of `divergence` in the k samples.
    """

    text: str
    divergence: Mean
    forward: Mean
    backward: Mean
    relative: Mean
    nats: Mean
    nats_forward: Mean
    nats_backward: Mean
    final: Mean
    final_relative: Mean
    is_above_noise: bool
    per_step: tuple[float, ...]
    per_step_ci95: tuple[tuple[float, float], ...]
    samples: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is unknown."""
        return {
            "text": self.text,
            **{name: getattr(self, name).to_dict() for name in MEANS},
            "is_above_noise": self.is_above_noise,
            "per_step": list(self.per_step),
            "per_step_ci95": list(self.per_step_ci95) if len(self.samples) > 1 else None,
            "samples": list(self.samples),
        }

    def to_row(self) -> dict[str, Any]:
        """Return one row of a table: each value with its error and its interval, None where it is unknown."""
        row: dict[str, Any] = {"text": self.text}
        for name in MEANS:
            mean: Mean = getattr(self, name)
            numbers = {name: mean.value, f"{name}_stderr": mean.stderr, f"{name}_low": mean.ci95[0], f"{name}_high": mean.ci95[1]}
            row |= {column: none_if_not_finite(number) for column, number in numbers.items()}
        return row | {"is_above_noise": self.is_above_noise}

    def to_cells(self) -> list[str]:
        """Return the cells of a table for people: text, divergence, interval, relative, interval, nats, final image."""
        relative, final = self.relative.as_percentage(), self.final_relative.as_percentage()
        return [
            shorten(self.text, MAX_TEXT),
            str(self.divergence) + ("" if self.is_above_noise else " (noise)"),
            self.divergence.interval,
            _with_unit(str(relative), relative),
            _with_unit(relative.interval, relative),
            str(self.nats),
            _with_unit(str(final), final),
        ]


def _with_unit(shown: str, percentage: Mean) -> str:
    return shown if math.isnan(percentage.value) or not shown else f"{shown}%"

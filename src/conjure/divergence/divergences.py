r"""Divergences between the processes of two texts, as pure functions of prediction differences along their trajectories.

For texts $y_1, y_2$ the path measures $P_1, P_2$ of the two reverse processes have, by Girsanov's theorem,

$$\mathrm{KL}(P_2 \Vert P_1) = \frac12 \, \mathbb{E}_{P_2} \int g(t)^2 \, \lVert s(x_t, t \mid y_1) - s(x_t, t \mid y_2) \rVert^2
\, dt .$$

The distance is the Jeffreys divergence between them; early versions of the paper call it Jensen-Shannon. Here `forward[i]`
belongs to trajectories of the first text, $\mathrm{KL}(P_1 \Vert P_2)$, and `backward[i]` to those of the second.

Reference: Liu and Soatto 2026, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from conjure.diffusion.noise_levels import UNITS, Unit
from conjure.divergence.differences import PairDifferences, PerStepDivergence
from conjure.divergence.weightings import WEIGHTINGS, Weighting, step_weights
from conjure.errors import InputError

Divergence = Literal["jeffreys", "kl", "initial", "final", "direct"]
DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)
Reduction = Literal["sum", "mean"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


@dataclass(frozen=True)
class DivergenceConfig:
    r"""The definition of a distance by prediction differences along trajectories.

    Attributes:
        divergence: `jeffreys`: both directions. With the uniform weighting it is their sum, as in Algorithm 1 of the paper. In
            nats it is their mean, $\frac12 \mathrm{KL}(P_1 \Vert P_2) + \frac12 \mathrm{KL}(P_2 \Vert P_1)$. `kl`: the forward
            direction only. `initial`, `final`: Jeffreys at the first or the last visited step only. `direct`: the squared
            distance of the final latents, assigned to the last step.
        weighting: `uniform`, as in the paper, or `girsanov`, in nats.
        unit: The unit of the uniform weighting. See `weightings.step_weights`.
        reduction: `sum` over the dimensions of x_t, or their `mean`, which makes resolutions comparable.

    Raises:
        InputError: If a name is unknown, or if `girsanov` is combined with a divergence other than `jeffreys` and `kl`.
    """

    divergence: Divergence = "jeffreys"
    weighting: Weighting = "uniform"
    unit: Unit = "output"
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        options = {"divergence": DIVERGENCES, "weighting": WEIGHTINGS, "unit": UNITS, "reduction": REDUCTIONS}
        for name, allowed in options.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; must be one of {', '.join(map(str, allowed))}")
        if self.weighting == "girsanov" and self.divergence not in ("jeffreys", "kl"):
            raise InputError(f"divergence {self.divergence!r} has no value in nats; use it with the weighting 'uniform'")

    @property
    def unit_label(self) -> str:
        """The unit of the distance, for tables and figures."""
        if self.weighting == "girsanov":
            return "nats" if self.reduction == "sum" else "nats per dimension"
        quantities = {
            "output": "", "epsilon": " of noise", "x0": " of x0", "score": " of score", "velocity": " of velocity",
        }  # fmt: skip
        quantity = " of latents" if self.divergence == "direct" else quantities[self.unit]
        return ("squared norm" if self.reduction == "sum" else "mean square") + quantity

    def per_step(self, differences: PairDifferences) -> PerStepDivergence:
        """Return the divergence, split over samples and steps. The sum over the steps is the value of a sample.

        Args:
            differences: The differences between the two texts.

        Raises:
            InputError: If the unit is undefined at a visited level, or `girsanov` is used with a single step.
        """
        steps = len(differences.noise_levels)
        selected = np.zeros(steps)
        selected[0 if self.divergence == "initial" else -1] = 1
        factor = 1 if self.reduction == "sum" else 1 / differences.dimensions
        if self.divergence == "direct":
            total = differences.direct[:, None] * selected * factor
            return PerStepDivergence(total, total, total)  # it has no directions
        if self.weighting == "girsanov" and steps < 2:
            raise InputError("the weighting girsanov integrates between visited levels, so steps must be at least 2, not 1")
        weights = step_weights(differences.noise_levels, differences.prediction_type, self.weighting, self.unit) * factor
        if self.divergence in ("initial", "final"):
            weights = weights * selected * steps
        forward, backward = differences.forward * weights, differences.backward * weights
        if self.divergence == "kl":
            return PerStepDivergence(forward, backward, forward)
        both = forward + backward
        return PerStepDivergence(forward, backward, both if self.weighting == "uniform" else both / 2)

    def per_sample(self, differences: PairDifferences) -> Float[np.ndarray, " samples"]:
        """Return the value of the divergence in each sample. Argument and errors are those of `per_step`."""
        return self.per_step(differences).total.sum(1)

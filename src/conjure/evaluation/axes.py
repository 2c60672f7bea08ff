"""The settings that an ablation can vary. This module imports nothing slow: the command line checks its arguments with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conjure.errors import InputError

# The values of an axis if none are given; an empty tuple where values must be given, None for an axis that takes no values
ABLATION_AXES: dict[str, tuple[Any, ...] | None] = {
    "steps": (5, 10, 15, 20, 30, 50),
    "guidance": (1.0, 2.0, 3.0, 5.0, 7.5, 10.0),
    "scheduler": ("lms", "ddim", "euler", "dpmsolvermultistep"),
    "size": (),
    "model": (),
    "prior": None,
    "samples": None,
    "weighting": None,
}

# The names of the x axes of charts; "single step" belongs to the axis prior
AXIS_LABELS = {
    "steps": "number of steps T",
    "guidance": "guidance scale",
    "prior": "timesteps of the steps that count, from first to last",
    "single step": "timestep of the only step that counts",
    "samples": "number of samples k",
    "weighting": "unit of the weighting",
}


def check_axes(vary: Mapping[str, Sequence[Any] | None]) -> dict[str, Sequence[Any]]:
    """Return the values of each axis, without duplicates; the default values where none are given.

    Args:
        vary: For each axis of ABLATION_AXES its values, or None for the default ones.

    Raises:
        InputError: If there is no axis, an axis is unknown, or an axis has values that it must not have or lacks those it needs.
    """
    allowed = ", ".join(ABLATION_AXES)
    if not vary:
        raise InputError(f"no axis is given to vary; must be one or more of {allowed}")
    axes: dict[str, Sequence[Any]] = {}
    for axis, values in vary.items():
        if axis not in ABLATION_AXES:
            raise InputError(f"unknown axis {axis!r}; must be one of {allowed}")
        defaults = ABLATION_AXES[axis]
        if defaults is None and values:
            raise InputError(f"the axis {axis!r} takes no values, because one run gives all of them; leave out the values")
        if defaults is not None and not (values or defaults):
            example = "512,768" if axis == "size" else "MODEL,MODEL"
            raise InputError(f"the axis {axis!r} needs values, for example {axis}={example}")
        axes[axis] = list(dict.fromkeys(values or defaults or ()))
    return axes

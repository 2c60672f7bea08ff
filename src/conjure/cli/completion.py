"""Completion of values by the shell: names of models, datasets, divergences and schedulers. Nothing slow is imported."""

from __future__ import annotations

import glob
from collections.abc import Iterable

# The usual ones; a model may support others
SCHEDULERS = (
    "own", "lms", "ddim", "ddpm", "pndm", "euler", "eulerancestral", "heun", "dpmsolvermultistep", "dpmsolversinglestep",
    "unipcmultistep", "deismultistep", "kdpm2", "kdpm2ancestral", "lcm",
)  # fmt: skip


def complete_model(incomplete: str) -> list[str]:
    """Return `default`, and the folders and .safetensors files that begin with a text."""
    start = glob.escape(incomplete)
    paths = [path.rstrip("/") for path in sorted(glob.glob(f"{start}*/"))] + sorted(glob.glob(f"{start}*.safetensors"))
    return _starting_with(incomplete, ["default", *paths])


def complete_divergence(incomplete: str) -> list[str]:
    """Return the divergences that begin with a text."""
    from conjure.divergence.divergences import DIVERGENCES

    return _starting_with(incomplete, DIVERGENCES)


def complete_scheduler(incomplete: str) -> list[str]:
    """Return the usual schedulers that begin with a text."""
    return _starting_with(incomplete, SCHEDULERS)


def complete_tasks(incomplete: str) -> list[str]:
    """Return the datasets that continue a list of names, which are separated by commas."""
    from conjure.evaluation.datasets import TASKS

    before, comma, _ = incomplete.rpartition(",")
    return _starting_with(incomplete, [f"{before}{comma}{name}" for name in ("paper-table-1", *TASKS)])


def _starting_with(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

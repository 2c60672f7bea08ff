"""The comparison of a process with one of other settings, whose values come from a visitor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conjure.app.limits import Limits, visitor_values
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.pipeline_kwargs import with_negative_prompt
from conjure.diffusion.process import Process
from conjure.errors import InputError
from conjure.process_drift.compute import drift
from conjure.process_drift.results import Drift

DTYPES = ("float32", "bfloat16")  # of the weights of the other process
SHOWN = 3  # texts that changed most, and texts that changed least, whose images are shown


@dataclass(frozen=True)
class OtherSettings:
    """The settings in which the other process differs; None for no difference.

    Attributes:
        guidance: The guidance scale.
        steps: The number of denoising steps.
        dtype: The data type of the weights, one of `DTYPES`.
        negative_prompt: The negative prompt.
    """

    guidance: float | None
    steps: int | None
    dtype: str | None
    negative_prompt: str | None

    @classmethod
    @visitor_values()
    def validated(cls, limits: Limits, guidance: object, steps: object, dtype: object, negative_prompt: object) -> OtherSettings:
        """Return the settings that a visitor gives. None and blank texts stand for no difference.

        Raises:
            InputError: A value is invalid or above a limit, or no setting is given.
        """
        given = [None if value is None or (isinstance(value, str) and not value.strip()) else value
                 for value in (guidance, _number_or_same(steps), dtype, negative_prompt)]  # fmt: skip
        guidance, steps, dtype, negative_prompt = given
        if all(value is None for value in given):
            raise InputError("process B has the settings of process A; change at least one setting of B")
        if dtype is not None and dtype not in DTYPES:
            raise InputError(f"the data type of B is {str(dtype)[:80]!r}; allowed are {', '.join(DTYPES)}")
        return cls(
            guidance=limits.validated_guidance("the guidance of B", guidance),
            steps=None if steps is None else limits.validated_steps("steps of B", steps),
            dtype=str(dtype) if dtype is not None else None,
            negative_prompt=None if negative_prompt is None else limits.validated_text(negative_prompt),
        )

    def apply(self, process: Process) -> Process:
        """Return a process with these settings, except for the data type.

        Raises:
            InputError: If the pipeline of the process does not have a setting.
        """
        changes: dict[str, Any] = {"guidance": self.guidance, "steps": self.steps}
        process = process.set(**{name: value for name, value in changes.items() if value is not None})
        kwargs = with_negative_prompt(process.pipeline_kwargs, self.negative_prompt, process.pipeline, process.guidance)
        return process.set(pipeline_kwargs=kwargs)


def compute_drift(
    process: Process,
    other: OtherSettings,
    load_other: Callable[..., Process],
    texts: Sequence[str],
    samples: int,
    seed: int,
    progress: ProgressCallback | None,
) -> Drift:
    """Return the drift between a process and one of other settings, with images of some texts.

    Args:
        process: The first process.
        other: The settings of the other process.
        load_other: Loads the model of the process with another data type (`dtype`). It is released after its parts of the
            computation.
        texts: The texts.
        samples: The number of samples.
        seed: The seed of the noise.
        progress: Called after each denoising step.

    Raises:
        InputError: If the processes cannot be compared, or are the same.
    """
    same_weights = other.apply(process)

    def reload() -> Process:
        return replace(same_weights, pipeline=load_other(dtype=other.dtype).pipeline)

    has_dtype = other.dtype in (None, process.settings()["dtype"])
    if has_dtype and same_weights.settings() == process.settings():
        raise InputError("process B has the settings of process A; change at least one setting of B")
    process_b: Any = same_weights if has_dtype else reload
    return drift(process, process_b, texts, samples=samples, seed=seed, images=min(SHOWN, len(texts)), progress=progress)


def _number_or_same(value: object) -> object:
    """Return the number that a text is; other values are returned as they are."""
    if isinstance(value, str):
        for parse in (int, float):
            with contextlib.suppress(ValueError):
                return parse(value)
    return value

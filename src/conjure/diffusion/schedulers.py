"""Schedulers by name, made from the configuration of a pipeline's scheduler."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from conjure.errors import InputError
from conjure.io.numbers import none_if_not_finite
from conjure.io.text import one_line

# Models distilled to few steps work with their scheduler only, although diffusers lists the others as compatible
FEW_STEP_SCHEDULERS = ("LCMScheduler", "TCDScheduler", "SCMScheduler")
NOT_FINITE = ("inf", "-inf", "nan")


def scheduler_alias(name: str) -> str:
    """Return the short name of a scheduler class: `LMSDiscreteScheduler` is `lms`."""
    return name.lower().replace("scheduler", "").replace("discrete", "").replace("-", "").replace("_", "")


def make_scheduler(default_scheduler: Any, name: str | None) -> Any:
    """Return a new scheduler made from the configuration of the pipeline's scheduler.

    Args:
        default_scheduler: The scheduler of the pipeline.
        name: A class name of diffusers, complete or short (`lms`, `ddim`, `euler`, ...). `own` is the class of the pipeline's
            scheduler. None is LMS with evenly spaced timesteps, as in the paper, if LMS supports the model; else `own`. LMS
            supports models that predict epsilon, x0 or v, unless they were distilled to few steps, have a learned variance, use
            a noise schedule that LMS does not have, or have timesteps with trailing spacing, as distilled models have.

    Raises:
        InputError: If the name is unknown or the scheduler does not fit the model.
    """
    if not isinstance(name, str | None):
        raise InputError(f"the scheduler is {name!r}; must be a name, such as lms or own")
    classes = _classes(default_scheduler)
    requested = name
    # Only the scheduler with which the model was trained can use a learned variance
    has_learned_variance = default_scheduler.config.get("variance_type") in ("learned", "learned_range")
    if name is None:
        predicts_flow = default_scheduler.config.get("prediction_type") == "flow_prediction"
        is_few_step = is_few_step_scheduler(default_scheduler)
        name = "lms" if "lms" in classes and not is_few_step and not predicts_flow and not has_learned_variance else "own"
    _check_shift(default_scheduler)
    check_methods(default_scheduler)
    if scheduler_alias(name) == "own":
        return type(default_scheduler).from_config(default_scheduler.config)
    if scheduler_alias(name) not in classes:
        raise InputError(f"unknown scheduler {name!r} for this model; must be own or one of {', '.join(sorted(classes))}")
    cls = classes[scheduler_alias(name)]
    parameters = inspect.signature(cls.__init__).parameters
    # The default spacing of diffusers, "leading", starts below the highest noise level, so that all timesteps would be shifted
    replaced: dict[str, Any] = {"timestep_spacing": "linspace"} if "timestep_spacing" in parameters else {}
    # DDIM, DDPM and Heun clip x0 to -1..1 by default. This is the range of pixels, but not that of latents
    if "clip_sample" in parameters and "clip_sample" not in default_scheduler.config:
        replaced["clip_sample"] = False
    variance = {"variance_type": "fixed_small"} if has_learned_variance and cls is not type(default_scheduler) else {}
    try:
        scheduler = cls.from_config(dict(default_scheduler.config) | variance, **replaced)
    except (ImportError, ValueError, NotImplementedError) as error:
        raise InputError(f"the scheduler {name!r} cannot be used here: {one_line(error)}") from error
    if has_same_noise_schedule(scheduler, default_scheduler):
        return scheduler
    if requested is None:
        return type(default_scheduler).from_config(default_scheduler.config)
    raise InputError(
        f"the scheduler {name!r} does not support the noise schedule that this model was trained with (such as zero terminal "
        "SNR); use own"
    )


def _check_shift(scheduler: Any) -> None:
    """Check that the shift of the noise levels is that of the configuration, from which every run makes a new scheduler.

    Raises:
        InputError: If it is not.
    """
    shift, configured = getattr(scheduler, "shift", None), scheduler.config.get("shift")
    if shift is not None and configured is not None and shift != configured:
        raise InputError(
            f"set_shift changed the shift of {type(scheduler).__name__} to {shift}, but its configuration has {configured}; give "
            f"the pipeline a scheduler whose configuration has it: from_config(scheduler.config, shift={shift})"
        )


def check_methods(scheduler: Any) -> None:
    """Check that no method of a scheduler was replaced. It may refer to the scheduler's state, so that a new one cannot use it.

    Raises:
        InputError: If one was replaced.
    """
    if replaced := replaced_methods(scheduler):
        raise InputError(
            f"the scheduler has replaced methods ({', '.join(replaced)}), which a measurement cannot use; override them in a "
            f"subclass of {type(scheduler).__name__}, and load the pipeline with a scheduler of this class and scheduler='own'"
        )


def is_few_step_scheduler(scheduler: Any) -> bool:
    """Return whether a scheduler is one of models that were distilled to few steps.

    Euler schedulers of distilled models (Turbo, Lightning, Hyper) start at the last timestep (`timestep_spacing` is `trailing`).
    Models with zero terminal SNR do so too, and are not distilled.
    """
    is_trailing = scheduler.config.get("timestep_spacing") == "trailing"
    return type(scheduler).__name__ in FEW_STEP_SCHEDULERS or (
        is_trailing and not scheduler.config.get("rescale_betas_zero_snr", False)
    )


def replaced_methods(scheduler: Any) -> dict[str, Any]:
    """Return the functions that replace methods of a scheduler, by name. A scheduler made from its configuration has none."""
    cls = type(scheduler)
    return {name: value for name, value in vars(scheduler).items() if callable(value) and hasattr(cls, name)}


def plain_config(scheduler: Any) -> dict[str, Any]:
    """Return the configuration of a scheduler, sorted by name, as plain data for JSON. It has texts for infinite numbers."""
    config = {name: value for name, value in sorted(scheduler.config.items()) if not name.startswith("_")}
    return {name: str(value) if none_if_not_finite(value) is not value else value for name, value in config.items()}


def config_from_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that `plain_config` returned, with its infinite numbers."""
    return {name: float(value) if isinstance(value, str) and value in NOT_FINITE else value for name, value in config.items()}


def scheduler_from_config(default_scheduler: Any, name: str, config: Mapping[str, Any]) -> Any:
    """Return a scheduler with a configuration that was stored as plain data.

    Args:
        default_scheduler: The scheduler of the pipeline.
        name: The name of the class.
        config: The complete configuration.

    Raises:
        InputError: If there is no such class for this model, or the configuration is not one of it.
    """
    classes = _classes(default_scheduler)
    if name not in classes:
        raise InputError(f"unknown scheduler {name!r} for this model; must be one of {', '.join(sorted(classes))}")
    try:
        return classes[name].from_config(config_from_plain(config))
    except Exception as error:  # each scheduler computes with values of the configuration
        raise InputError(f"the scheduler {name!r} cannot be made from its stored configuration") from error


def _classes(default_scheduler: Any) -> dict[str, Any]:
    """Return the classes that fit the configuration of a scheduler, by their short names."""
    return {scheduler_alias(cls.__name__): cls for cls in [*default_scheduler.compatibles, type(default_scheduler)]}


def has_same_noise_schedule(a: Any, b: Any) -> bool:
    """Return whether two schedulers have equal `alphas_cumprod` and kinds of timesteps.

    True if one of them does not define `alphas_cumprod`. Continuous timesteps are logarithms of noise levels, and only one class
    has them.
    """
    if "continuous" in (a.config.get("timestep_type"), b.config.get("timestep_type")) and type(a) is not type(b):
        return False
    alphas_a, alphas_b = (getattr(scheduler, "alphas_cumprod", None) for scheduler in (a, b))
    if alphas_a is None or alphas_b is None:
        return True
    # The tolerance allows for schedulers that keep the last value above zero
    return len(alphas_a) == len(alphas_b) and bool((alphas_a.cpu() - alphas_b.cpu()).abs().max() < 1e-4)

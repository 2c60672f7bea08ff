"""The seam: the stock pipeline runs, and every row sees the noisy picture of the row that drives it.

Every text-to-image pipeline of diffusers ends a step with `scheduler.step(prediction, t, x_t, ...)`, the prediction already
guided. So one wrapper around that method serves them all, with nothing per family: each row keeps its own prediction, but takes
x_t, before and after the step, from its driver. Rows [y, z1, z2] driven by the first are the judgements of three texts on the
trajectory of y; that is Algorithm 1 of Liu and Soatto (2026), x_t being the SAME under all texts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from conjure.errors import InputError
from conjure.process import Process
from conjure.units import Level, level_of


@dataclass(frozen=True)
class Visit:
    """One visited state of all rows.

    index: 0 ... T - 1. timestep: the scheduler's. level: its level of noise.
    x_t: the drivers' noisy latents in network coordinates, (rows, ...). output: each row's own guided prediction, same shape.
    """

    index: int
    timestep: float
    level: Level
    x_t: torch.Tensor
    output: torch.Tensor


def follow(
    process: Process,
    texts: Sequence[str],
    drivers: Sequence[int],
    seeds: Sequence[int],
    observe: Callable[[Visit], None],
) -> torch.Tensor:
    """Run rows `texts` in lockstep and return their final latents (rows, ...); row i walks the trajectory of `drivers[i]`.

    drivers: row numbers, each driving itself. seeds: of the noise, equal where drivers are equal.

    Errors: `InputError` where the scheduler visits other states than the T timesteps (its calls cannot be averaged), or where
    the pipeline does not step through its scheduler.
    """
    scheduler = type(process.scheduler).from_config(process.scheduler.config)
    stock = scheduler.step
    signature = inspect.signature(stock)
    visits = 0

    @functools.wraps(stock)  # pipelines read the signature to find out about `eta` and `generator`
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal visits
        call = signature.bind(*args, **kwargs)  # by name, as one family passes another order
        timesteps = len(scheduler.timesteps)
        if scheduler.order != 1 or timesteps != process.steps:
            raise InputError(
                f"the scheduler {type(scheduler).__name__} visits {timesteps} states in {process.steps} steps, some of them "
                "twice; use one that visits each timestep once, such as lms, ddim, euler or dpmsolvermultistep"
            )
        x_t = call.arguments["sample"][by_driver]
        prediction = call.arguments["model_output"]
        seen = torch.as_tensor(call.arguments["timestep"])
        observe(
            Visit(
                index=visits,
                timestep=float(seen),
                level=level_of(scheduler, seen),
                x_t=scheduler.scale_model_input(x_t, seen) if hasattr(scheduler, "scale_model_input") else x_t,
                output=prediction[:, : x_t.shape[1]],  # without the learned variance of some models
            )
        )
        visits += 1
        call.arguments["sample"] = x_t
        if "generator" in signature.parameters and call.arguments.get("generator") is None:
            call.arguments["generator"] = step_noise  # most flow pipelines would draw from the global generator
        result = stock(*call.args, **call.kwargs)
        if isinstance(result, tuple):
            return (result[0][by_driver], *result[1:])
        result.prev_sample = result.prev_sample[by_driver]
        return result

    step_noise = [torch.Generator("cpu").manual_seed(seed + 1) for seed in seeds]
    by_driver = torch.tensor(drivers, device=process.pipeline.device)
    scheduler.step = step
    try:
        final = replace(process, scheduler=scheduler).run(texts, seeds)
    except InputError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        # the stock pipeline's word against these settings
        raise InputError(
            f"{type(process.pipeline).__name__} with {type(scheduler).__name__} cannot run {process.steps} steps of these "
            f"settings: {' '.join(str(error).split())[:200] or type(error).__name__}; change the settings, or use --scheduler lms"
        ) from error
    if visits != process.steps:
        raise InputError(
            f"{type(process.pipeline).__name__} made {visits} scheduler steps instead of {process.steps}; "
            "it does not keep the seam that Conjure drives pipelines by"
        )
    return final

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
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import PNDMScheduler

from conjure.errors import InputError
from conjure.memory import out_of_memory
from conjure.once import Encoded
from conjure.process import Process, opposite
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


@dataclass
class Path:
    """A walked trajectory: x_t at every call of `scheduler.step` and after the last, in the sampler's coordinates."""

    points: list[torch.Tensor] = field(default_factory=list)


def follow(
    process: Process,
    texts: Sequence[str],
    drivers: Sequence[int],
    seeds: Sequence[int],
    observe: Callable[[Visit], None],
    *,
    encoded: Encoded | None = None,
    path: Path | None = None,
) -> torch.Tensor:
    """Run rows `texts` in lockstep and return their final latents (rows, ...); row i walks the trajectory of `drivers[i]`.

    drivers: row numbers, each driving itself. seeds: of the noise, equal where drivers are equal. encoded: see `Process.run`.
    path: if it is empty, it is filled with the points that the rows walk; else they walk its points again, whatever they drive.

    Errors: `InputError` where the pipeline does not step through its scheduler, or the scheduler does not visit T states.
    """
    scheduler = type(process.scheduler).from_config(process.scheduler.config)
    stock = scheduler.step
    signature = inspect.signature(stock)
    calls = visits = 0
    latest: torch.Tensor | None = None
    points = path.points if path else []
    replayed = bool(points)

    def walked(x: torch.Tensor) -> torch.Tensor:
        return points[calls] if replayed else x[by_driver]

    @functools.wraps(stock)  # pipelines read the signature to find out about `eta` and `generator`
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls, visits, latest
        known = {name: value for name, value in kwargs.items() if name in signature.parameters}  # one hands all a generator
        call = signature.bind(*args, **known)  # by name, as one family passes another order
        x_t = walked(call.arguments["sample"])
        prediction = call.arguments["model_output"]
        if stands_at_a_state(scheduler):
            timestep = torch.as_tensor(call.arguments["timestep"])
            seen = scheduler.scale_model_input(x_t, timestep) if hasattr(scheduler, "scale_model_input") else x_t
            # without the learned variance of some models
            output = prediction if prediction.shape == x_t.shape else prediction[:, : x_t.shape[1]]
            observe(Visit(visits, float(timestep), level_of(scheduler, timestep), seen, output))
            visits += 1
        call.arguments["sample"] = x_t
        if "generator" in signature.parameters and call.arguments.get("generator") is None:
            call.arguments["generator"] = step_noise  # most flow pipelines would draw from the global generator
        with opposite(step_noise, seeds):
            result = stock(*call.args, **call.kwargs)
        if path is not None and not replayed:
            points.append(x_t)
        calls += 1
        latest = walked(result[0])
        if isinstance(result, tuple):
            return (latest, *result[1:])
        result.prev_sample = latest
        return result

    step_noise = [torch.Generator("cpu").manual_seed(abs(seed) + 1) for seed in seeds]
    if hasattr(scheduler, "noise_sampler_seed"):  # a Brownian tree a row instead of generators
        scheduler.noise_sampler_seed = [abs(seed) + 1 for seed in seeds]
    by_driver = torch.tensor(drivers, device=process.pipeline.device)
    scheduler.step = step
    try:
        replace(process, scheduler=scheduler).run(texts, seeds, encoded=encoded)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        if out_of_memory(error):
            raise
        # the stock pipeline's word against these settings
        raise InputError(
            f"{type(process.pipeline).__name__} with {type(scheduler).__name__} cannot run {process.steps} steps of these "
            f"settings: {' '.join(str(error).split())[:200] or type(error).__name__}; change the settings, or use --scheduler own"
        ) from error
    if visits != process.steps or latest is None:
        raise InputError(
            f"{type(process.pipeline).__name__} with {type(scheduler).__name__} visited {visits} states in {process.steps} "
            "steps; it does not keep the seam that Conjure drives pipelines by, so use another scheduler or other steps"
        )
    if path is not None and not replayed:
        points.append(latest)
    return latest


def stands_at_a_state(scheduler: Any) -> bool:
    """Whether the next `scheduler.step` starts from a state of the trajectory, and not from a stage within one of its steps.

    Solvers of higher order evaluate the model more than once a step, at points that they do not keep: Heun and KDPM2 (2 T - 1
    calls in all), the corrector at the start of PNDM (T + 1), or its Runge-Kutta stages. T states are visited in any case.
    """
    if hasattr(scheduler, "state_in_first_order"):
        return scheduler.state_in_first_order
    if isinstance(scheduler, PNDMScheduler):
        if scheduler.config.skip_prk_steps:
            return scheduler.counter != 1
        return scheduler.counter >= len(scheduler.prk_timesteps) or scheduler.counter % 4 == 0
    return True

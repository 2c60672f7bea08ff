"""The noise that schedulers add in a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from conjure.diffusion.antithetic import negate_noise
from conjure.diffusion.schedulers import check_methods


def bind_step(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
    """Return the arguments of a call of `scheduler.step` by name, since one model family passes them in another order.

    Arguments that the scheduler does not accept, which one pipeline passes, are left out.
    """
    return signature.bind(*args, **{name: value for name, value in kwargs.items() if name in signature.parameters})


def seeded_scheduler(scheduler: Any, seeds: Sequence[int]) -> Any:
    """Return a new scheduler of the same configuration, whose step noise depends only on the seeds of the rows.

    Most flow pipelines pass no generator to `step`, so that it would draw from the global one.

    Args:
        scheduler: The scheduler of the process.
        seeds: One seed per row. A negative seed gives the negated noise of its absolute value.

    Raises:
        InputError: If methods of the scheduler were replaced.
    """
    check_methods(scheduler)
    seeded = type(scheduler).from_config(scheduler.config)
    stock_step = seeded.step
    signature = inspect.signature(stock_step)
    generators = [torch.Generator("cpu").manual_seed(abs(seed) + 1) for seed in seeds]
    # SDE solvers take the seeds of one Brownian tree per row instead of generators
    if hasattr(seeded, "noise_sampler_seed"):
        seeded.noise_sampler_seed = [abs(seed) + 1 for seed in seeds]

    @functools.wraps(stock_step)  # pipelines read the signature for `eta` and `generator`
    def step(*args: Any, **kwargs: Any) -> Any:
        call = bind_step(signature, args, kwargs)
        if "generator" in signature.parameters and call.arguments.get("generator") is None:
            call.arguments["generator"] = generators
        with negate_noise(generators, seeds):
            return stock_step(*call.args, **call.kwargs)

    seeded.step = step
    return seeded

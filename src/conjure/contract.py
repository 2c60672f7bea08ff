"""What Conjure asks of a model, tried on it: the engine against the stock pipeline itself, one text at a time.

Nothing here knows a family. A pipeline that nobody has seen passes if it keeps the seam (see `conjure.lockstep`), and if it does
not, what fails says where.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from conjure.errors import InputError, TextCutWarning
from conjure.estimate import noise_seed
from conjure.lockstep import stands_at_a_state
from conjure.process import Process
from conjure.run import Source, run
from conjure.similarity import distance, distances

A, B = "a red apple", "two blue whales in the deep sea, seen from above"
SEED = noise_seed(0, 0)

# relative, between one text at a time and full batches, whose sums torch orders in another way
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


@dataclass(frozen=True)
class Finding:
    """What one check found. name: what was checked. passed: whether it holds. detail: what was seen, in a few words."""

    name: str
    passed: bool
    detail: str


def check_model(process: Process) -> Iterator[Finding]:
    """Try on `process` all that Conjure asks of a model, finding by finding; a check that cannot be run has failed.

    Errors: `InputError` for a process of a single step, which has no nats to try.
    """
    if process.steps < 2:
        raise InputError(f"steps is {process.steps}; a check takes at least 2")
    for name, check in CHECKS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TextCutWarning)
                yield Finding(name, *check(process))
        except InputError as error:
            yield Finding(name, False, str(error))
        except Exception as error:  # a pipeline that nobody has seen may fail in any way
            yield Finding(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _distance(process: Process) -> tuple[bool, str]:
    estimate = distance(process, A, B, samples=2)
    return estimate.distance > 0, f"{estimate} {estimate.unit}"


def _itself(process: Process) -> tuple[bool, str]:
    value = distance(process, A, A, samples=1).distance
    return value == 0, f"{value:g}"


def _driver(process: Process) -> tuple[bool, str]:
    """The row that drives ends where the stock pipeline, alone with the text, ends."""
    (measured,) = run(process, [Source(A, SEED, (B,))])
    return _close(process, measured.final, _Stock(process, A).points[-1])


def _judge(process: Process) -> tuple[bool, str]:
    """Algorithm 1 by the stock pipeline alone: it walks with one text, and walks the same points again with the other."""
    (measured,) = run(process, [Source(A, SEED, (B,))])
    own = _Stock(process, A)
    other = _Stock(process, B, own.points)
    squared = [(one - two).square().sum() for one, two in zip(own.outputs, other.outputs, strict=True)]
    return _close(process, torch.tensor(measured.squared[0]), torch.stack(squared))


def _company(process: Process) -> tuple[bool, str]:
    """Texts long and short beside a pair, and batches of any size, change nothing."""
    alone = distance(process, A, "a cat", samples=2).samples
    crowd = [(A, "a cat"), (A, B), ("a cat", B)]
    together = distances(process, crowd, samples=2)[0].samples
    narrow = distances(replace(process, rows=3), crowd, samples=2)[0].samples
    return _close(process, torch.tensor([together, narrow]), torch.tensor([alone, alone]))


def _decode(process: Process) -> tuple[bool, str]:
    """Latents are shown as the pipeline shows its own."""
    stock = _Stock(process, A, output_type="np")
    ours = process.decode(stock.points[-1].to(process.pipeline.dtype))
    height, width = ours.shape[1:3]
    passed, detail = _close(process, torch.tensor(ours[0]), torch.tensor(np.asarray(stock.pictures)[0]))
    return passed, f"{width} x {height} pixels, {detail}"


def _levels(process: Process) -> tuple[bool, str]:
    """Noise falls from step to step, and the differences have a size in x0 and in nats."""
    estimate = distance(process, A, B, samples=1, weighting="girsanov")
    x0 = distance(replace(process, unit="x0"), A, B, samples=1)
    falls = all(now < then for now, then in zip(estimate.snr, estimate.snr[1:], strict=False))
    ends = f"signal to noise {estimate.snr[0]:.3g} to {estimate.snr[-1]:.3g}"
    return falls and x0.distance > 0, f"{ends}, {estimate.distance:.3g} nats, {x0.distance:.3g} {x0.unit}"


def _long(process: Process) -> tuple[bool, str]:
    """Texts that differ in their last word alone differ, or it is said that their end does not count."""
    start = "one word after another " * 400
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TextCutWarning)
        value = distance(process, start + "apple", start + "whale", samples=1).distance
    if told:
        return True, str(told[0].message).partition(":")[0]
    return value > 0, "a text of 1,601 words counts whole" if value > 0 else "a text of 1,601 words is cut, and nothing says so"


CHECKS: dict[str, Callable[[Process], tuple[bool, str]]] = {
    "two texts have a distance": _distance,
    "a text has none to itself": _itself,
    "drivers walk as in the stock pipeline": _driver,
    "judges answer as the stock pipeline": _judge,
    "company and batch size change nothing": _company,
    "levels of noise are known": _levels,
    "latents are decoded as by the pipeline": _decode,
    "the end of a long text is not lost in silence": _long,
}


class _Stock:
    """The stock pipeline, run with one text and nothing of ours but a recorder.

    points: x_t at every call of the scheduler and after the last; given ones are walked again. outputs: at the T states, float32.
    """

    def __init__(
        self, process: Process, text: str, points: list[torch.Tensor] | None = None, output_type: str = "latent"
    ) -> None:
        pipeline, own = process.pipeline, process.pipeline.scheduler
        scheduler = type(process.scheduler).from_config(process.scheduler.config)
        stock, signature = scheduler.step, inspect.signature(scheduler.step)
        self.points: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []

        @functools.wraps(stock)
        def step(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **{name: value for name, value in kwargs.items() if name in signature.parameters})
            x_t = call.arguments["sample"]
            if stands_at_a_state(scheduler):
                output = call.arguments["model_output"]
                self.outputs.append((output if output.shape == x_t.shape else output[:, : x_t.shape[1]]).float())
            if "generator" in signature.parameters:  # step noise as the engine gives it where the pipeline gives none
                call.arguments["generator"] = call.arguments.get("generator") or [torch.Generator().manual_seed(SEED + 1)]
            self.points.append(x_t)
            result = stock(*call.args, **call.kwargs)
            following = points[len(self.points)] if points else result[0]
            self.latest = following
            if isinstance(result, tuple):
                return (following, *result[1:])
            result.prev_sample = following
            return result

        if hasattr(scheduler, "noise_sampler_seed"):
            scheduler.noise_sampler_seed = [SEED + 1]
        scheduler.step = step
        with process.lock:
            try:
                pipeline.scheduler = scheduler
                pipeline.set_progress_bar_config(disable=True)
                self.pictures = pipeline(**process.arguments([text], [SEED], output_type)).images
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                raise InputError(f"the stock pipeline itself fails: {' '.join(str(error).split())[:200]}") from error
            finally:
                pipeline.scheduler = own
        self.points.append(self.latest)


def _close(process: Process, ours: torch.Tensor, theirs: torch.Tensor) -> tuple[bool, str]:
    """Whether the two agree to the precision of the weights, relative to the largest entry."""
    ours, theirs = ours.squeeze().cpu().double(), theirs.squeeze().cpu().double()
    if ours.shape != theirs.shape:
        return False, f"of shape {tuple(ours.shape)} instead of {tuple(theirs.shape)}"
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30))
    return math.isfinite(error) and error <= TOLERANCE.get(
        process.pipeline.dtype, TOLERANCE[torch.float32]
    ), f"within {error:.1e}"

"""The requirements of Conjure on a pipeline, as checks of the engine against the stock pipeline with one text at a time.

No check depends on a model family. An unknown pipeline passes if it calls `scheduler.step` once per prediction (see
`conjure.diffusion.shared_trajectory`); if it does not, the failed checks show where it differs.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.media import generated
from conjure.diffusion.pipeline_patching import restored_pipeline
from conjure.diffusion.process import Process
from conjure.diffusion.row_independence import runs_whole_batches
from conjure.diffusion.seeding import noise_seed
from conjure.diffusion.shared_trajectory import is_trajectory_state
from conjure.diffusion.step_noise import bind_step
from conjure.engine.runner import iter_results
from conjure.errors import InputError, TextTruncationWarning
from conjure.io.text import one_line
from conjure.similarity.pairwise import distance, distances

TEXT_A, TEXT_B = "a red apple", "two blue whales in the deep sea, seen from above"
SEED = noise_seed(0, 0)

# relative errors between single texts and full batches, in which torch sums in another order
TOLERANCE = {torch.float32: 2e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: The requirement, a key of `CHECKS`.
        passed: Whether the pipeline meets it.
        detail: What was measured, in a few words.
    """

    name: str
    passed: bool
    detail: str


def check_model(process: Process) -> Iterator[Finding]:
    """Run all checks on `process`.

    Args:
        process: Process with at least 2 steps.

    Yields:
        One finding per check of `CHECKS`, in their order. A check that raises an error has failed.

    Raises:
        InputError: For a process of a single step, which has no distance in nats.
    """
    if process.steps < 2:
        raise InputError(f"steps is {process.steps}; a check needs an integer >= 2")
    for name, check in CHECKS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TextTruncationWarning)
                yield Finding(name, *check(process))
        except InputError as error:
            yield Finding(name, False, str(error))
        except Exception as error:  # an unknown pipeline may raise any exception
            yield Finding(name, False, f"{type(error).__name__}: {one_line(error)}")


def _check_positive_distance(process: Process) -> tuple[bool, str]:
    estimate = distance(process, TEXT_A, TEXT_B, samples=2)
    return estimate.distance > 0, f"{estimate} {estimate.unit}"


def _check_distance_to_itself(process: Process) -> tuple[bool, str]:
    value = distance(process, TEXT_A, TEXT_A, samples=1).distance
    return value == 0, f"{value:g}"


def _check_source_rows(process: Process) -> tuple[bool, str]:
    """The trajectory of a source row ends at the final latent of the stock pipeline with that text alone."""
    (result,) = iter_results(process, [TrajectoryJob(TEXT_A, SEED, (TEXT_B,))])
    return _compare(process, result.final_latent, _run_stock_pipeline(process, TEXT_A).states[-1])


def _check_evaluated_rows(process: Process) -> tuple[bool, str]:
    """Algorithm 1 with the stock pipeline alone: it runs one text, and then the other along the same states."""
    (result,) = iter_results(process, [TrajectoryJob(TEXT_A, SEED, (TEXT_B,))])
    source = _run_stock_pipeline(process, TEXT_A)
    evaluated = _run_stock_pipeline(process, TEXT_B, source.states)
    squared_differences = [(a - b).square().sum() for a, b in zip(source.predictions, evaluated.predictions, strict=True)]
    return _compare(process, torch.tensor(result.squared_differences[0]), torch.stack(squared_differences))


def _check_batching(process: Process) -> tuple[bool, str]:
    """Longer and shorter texts in the batch of a pair, and the size of the batch, do not change its distance."""
    single_pair = distance(process, TEXT_A, "a cat", samples=2).samples
    pairs = [(TEXT_A, "a cat"), (TEXT_A, TEXT_B), ("a cat", TEXT_B)]
    full_batch = distances(process, pairs, samples=2)[0].samples
    small_batches = distances(replace(process, batch_size=3), pairs, samples=2)[0].samples
    passed, detail = _compare(process, torch.tensor([full_batch, small_batches]), torch.tensor([single_pair, single_pair]))
    modules = [part for part in process.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    if any(runs_whole_batches(module) for module in modules):
        detail += "; predictions depend on the position or number of rows, so that equal rows are not merged"
    return passed, detail


def _check_decoding(process: Process) -> tuple[bool, str]:
    """Decoded latents equal the images that the pipeline returns."""
    stock = _run_stock_pipeline(process, TEXT_A, output_type="np")
    images = process.decode(stock.states[-1].to(process.pipeline.dtype))
    passed, detail = _compare(process, torch.tensor(images[0]), torch.tensor(np.asarray(stock.images)[0]))
    return passed, f"{_describe_size(process, images.shape[1:])}, {detail}"


def _describe_size(process: Process, shape: tuple[int, ...]) -> str:
    """Return the size of an image, a video or a sound of this shape in words."""
    if process.kind == "audio":
        return f"{shape[-1] / (process.media_rate or 1):.3g} s of sound at {process.media_rate:g} Hz"
    *frames, height, width, _ = shape
    return "".join(f"{number} frames of " for number in frames) + f"{width} x {height} pixels"


def _check_noise_levels(process: Process) -> tuple[bool, str]:
    """The signal-to-noise ratio rises from step to step, and distances exist in x0 units and in nats."""
    estimate = distance(process, TEXT_A, TEXT_B, samples=1, weighting="girsanov")
    x0_distance = distance(process, TEXT_A, TEXT_B, samples=1, unit="x0")
    is_rising = all(previous < following for previous, following in zip(estimate.snr, estimate.snr[1:], strict=False))
    snr_range = f"signal-to-noise ratio {estimate.snr[0]:.3g} to {estimate.snr[-1]:.3g}"
    detail = f"{snr_range}, {estimate.distance:.3g} nats, {x0_distance.distance:.3g} {x0_distance.unit}"
    return is_rising and x0_distance.distance > 0, detail


def _check_truncation(process: Process) -> tuple[bool, str]:
    """Long texts that differ in their last word alone have a positive distance, or a truncation warning is raised."""
    prefix = "one word after another " * 400
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TextTruncationWarning)
        value = distance(process, prefix + "apple", prefix + "whale", samples=1).distance
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, TextTruncationWarning)]
    if messages:
        return True, messages[0].partition(":")[0]
    if value > 0:
        return True, "a text of 1,601 words is not truncated"
    return False, "a text of 1,601 words is truncated without a warning"


CHECKS: dict[str, Callable[[Process], tuple[bool, str]]] = {
    "two texts have a positive distance": _check_positive_distance,
    "a text has distance 0 to itself": _check_distance_to_itself,
    "source rows follow the stock pipeline": _check_source_rows,
    "evaluated rows match the stock pipeline": _check_evaluated_rows,
    "batch size and other texts change nothing": _check_batching,
    "noise levels are known": _check_noise_levels,
    "latents are decoded as by the pipeline": _check_decoding,
    "truncation of a long text is reported": _check_truncation,
}


@dataclass
class _StockRun:
    """A run of the stock pipeline with one text.

    Attributes:
        states: x_t at every call of `scheduler.step` and after the last one.
        predictions: Predictions at the T states of the trajectory, float32.
        images: What the pipeline returned.
    """

    states: list[torch.Tensor] = field(default_factory=list)
    predictions: list[torch.Tensor] = field(default_factory=list)
    images: Any = None


def _run_stock_pipeline(
    process: Process, text: str, replay: list[torch.Tensor] | None = None, output_type: str = "latent"
) -> _StockRun:
    """Run the stock pipeline; the only change is a `scheduler.step` that records its arguments.

    Args:
        process: Process to run.
        text: The text.
        replay: States to visit instead of those of `text`: the `states` of another run.
        output_type: `latent`, or `np` for images.

    Raises:
        InputError: If the pipeline raises an error.
    """
    pipeline = process.pipeline
    scheduler = type(process.scheduler).from_config(process.scheduler.config)
    stock_step, signature = scheduler.step, inspect.signature(scheduler.step)
    run = _StockRun()
    final_state: torch.Tensor | None = None

    @functools.wraps(stock_step)  # pipelines inspect the signature for `eta` and `generator`
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal final_state
        call = bind_step(signature, args, kwargs)
        x_t = call.arguments["sample"]
        if is_trajectory_state(scheduler):
            prediction = call.arguments["model_output"]
            # models that learn their variance return it in further channels
            run.predictions.append((prediction if prediction.shape == x_t.shape else prediction[:, : x_t.shape[1]]).float())
        if "generator" in signature.parameters:  # the step noise of the engine, where the pipeline passes no generator
            call.arguments["generator"] = call.arguments.get("generator") or [torch.Generator().manual_seed(SEED + 1)]
        run.states.append(x_t)
        result = stock_step(*call.args, **call.kwargs)
        final_state = replay[len(run.states)] if replay else result[0]
        if isinstance(result, tuple):
            return (final_state, *result[1:])
        result.prev_sample = final_state
        return result

    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = [SEED + 1]
    scheduler.step = step
    with process.lock, restored_pipeline(pipeline):
        try:
            pipeline.scheduler = scheduler
            if getattr(pipeline, "safety_checker", None) is not None:
                pipeline.__dict__["safety_checker"] = None
            pipeline.set_progress_bar_config(disable=True)
            run.images = generated(pipeline(**_stock_kwargs(process, text, output_type)))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise InputError(f"the stock pipeline fails: {one_line(error)}") from error
    if final_state is None:
        raise InputError(f"{type(pipeline).__name__} does not call scheduler.step")
    run.states.append(final_state)
    return run


def _stock_kwargs(process: Process, text: str, output_type: str) -> dict[str, Any]:
    """Return the arguments with which a user calls the pipeline: no negative prompt, unless the process has one."""
    arguments = process.call_kwargs([text], [SEED], output_type)
    if "negative_prompt" not in process.pipeline_kwargs and "true_cfg_scale" not in process.call_parameters:
        arguments.pop("negative_prompt", None)
    return arguments


def _compare(process: Process, result: torch.Tensor, expected: torch.Tensor) -> tuple[bool, str]:
    """Return whether two arrays agree to the precision of the weights, relative to the largest entry, and the error."""
    result, expected = result.squeeze().cpu().double(), expected.squeeze().cpu().double()
    if result.shape != expected.shape:
        return False, f"shape {tuple(result.shape)} instead of {tuple(expected.shape)}"
    error = float((result - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    tolerance = TOLERANCE.get(process.pipeline.dtype, TOLERANCE[torch.float32])
    return math.isfinite(error) and error <= tolerance, f"relative error {error:.1e}"

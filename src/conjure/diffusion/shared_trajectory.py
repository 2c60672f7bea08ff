r"""Shared trajectories: the stock pipeline runs, and every row receives the noisy latent of its source row.

Every pipeline of diffusers that generates images, videos or sounds from texts ends a step with
`scheduler.step(prediction, t, x_t, ...)`, where the prediction is already guided. One hook on that method therefore works for all
of them. In this hook each row keeps its prediction, but takes $x_t$, before and after the step, from its source row. If the first
of the rows $[y, z_1, z_2]$ is the source row of all three, the texts are evaluated on the trajectory of $y$. This is Algorithm 1
of Liu and Soatto (2026), in which $x_t$ is the same for both texts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import PNDMScheduler
from jaxtyping import Float
from torch import Tensor

from conjure.diffusion.antithetic import negate_noise
from conjure.diffusion.batch_size import is_out_of_memory
from conjure.diffusion.deduplication import TextEmbeddingCache
from conjure.diffusion.noise_levels import NoiseLevel, is_inverted, noise_level
from conjure.diffusion.process import Process
from conjure.diffusion.step_noise import bind_step, seeded_scheduler
from conjure.errors import InputError
from conjure.io.formatting import pluralize
from conjure.io.text import one_line


@dataclass(frozen=True)
class DenoisingStep:
    """One visited state of all rows.

    Attributes:
        index: The index of the state, 0 to T - 1.
        timestep: The scheduler's timestep.
        noise_level: The noise level at this timestep.
        x_t: The noisy latent of each row's source row, after the scheduler's `scale_model_input`.
        predictions: The guided prediction for each row's text.
    """

    index: int
    timestep: float
    noise_level: NoiseLevel
    x_t: Float[Tensor, "rows *latent"]
    predictions: Float[Tensor, "rows *latent"]


@dataclass
class RecordedTrajectory:
    """A trajectory: x_t at every call of `scheduler.step` and after the last one, before `scale_model_input`."""

    points: list[Tensor] = field(default_factory=list)


def run_on_shared_trajectories(
    process: Process,
    texts: Sequence[str],
    source_rows: Sequence[int],
    seeds: Sequence[int],
    on_step: Callable[[DenoisingStep], None],
    *,
    text_cache: TextEmbeddingCache | None = None,
    replay: RecordedTrajectory | None = None,
) -> Float[Tensor, "rows *latent"]:
    """Run the pipeline on rows `texts`, where row i follows the trajectory of row `source_rows[i]`.

    Args:
        process: The process to run.
        texts: One text per row.
        source_rows: The index of the source row of each row. The source row of a source row is the row itself.
        seeds: One seed per row. Rows with the same source row have the same seed.
        on_step: Called at each of the T visited states.
        text_cache: See `Process.run`.
        replay: If it is empty, the points of this run are recorded in it. Otherwise all rows follow its points, which can come
            from another process with the same latents, in any data type and on any device.

    Returns:
        The final latents.

    Raises:
        InputError: If the pipeline cannot run these settings, does not step through its scheduler, does not visit T states, or
            cannot start from the first point of `replay`.
    """
    scheduler = seeded_scheduler(process.scheduler, seeds)
    stock_step = scheduler.step
    signature = inspect.signature(stock_step)
    num_calls = num_states = 0
    latest: Tensor | None = None
    points = replay.points if replay else []
    is_replayed = bool(points)
    stock_scale: Any = getattr(scheduler, "scale_model_input", None)

    def shared_x_t(x: Tensor) -> Tensor:
        return points[num_calls].to(x) if is_replayed else x[row_index]

    def scale_first_point(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The pipeline draws its first latents itself, and those of the recorded process can be rounded to another data type
        if num_calls == 0:
            sample = torch.cat([points[0].to(sample)] * (len(sample) // len(points[0])))
        return stock_scale(sample, *args, **kwargs)

    @functools.wraps(stock_step)  # pipelines read the signature for `eta` and `generator`
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal num_calls, num_states, latest
        call = bind_step(signature, args, kwargs)
        x_t = shared_x_t(call.arguments["sample"])
        if num_calls == 0 and is_replayed:
            _check_start(call.arguments["sample"], x_t)
        prediction = call.arguments["model_output"]
        if is_trajectory_state(scheduler):
            timestep = torch.as_tensor(call.arguments["timestep"])
            if not timestep.isfinite().all():  # some noise schedules divide by the number of steps minus 1
                raise InputError(_too_few_steps(process, "the timesteps are not finite"))
            network_x_t = scheduler.scale_model_input(x_t, timestep) if hasattr(scheduler, "scale_model_input") else x_t
            # Leave out the learned variance, which some models predict too
            mean = prediction if prediction.shape == x_t.shape else prediction[:, : x_t.shape[1]]
            mean = -mean if is_inverted(scheduler) else mean
            on_step(DenoisingStep(num_states, float(timestep), noise_level(scheduler, timestep), network_x_t, mean))
            num_states += 1
        call.arguments["sample"] = x_t
        result = stock_step(*call.args, **call.kwargs)
        if replay is not None and not is_replayed:
            points.append(x_t)
        num_calls += 1
        latest = shared_x_t(result[0])
        if isinstance(result, tuple):
            return (latest, *result[1:])
        result.prev_sample = latest
        return result

    row_index = torch.tensor(source_rows, device=process.device)
    scheduler.step = step
    if is_replayed and stock_scale is not None:
        scheduler.scale_model_input = scale_first_point
    process = replace(process, scheduler=scheduler)
    arguments = process.call_kwargs(texts, seeds, "latent")
    try:
        with (
            process.patched_pipeline(text_cache or TextEmbeddingCache(), single_row=len(texts) == 1) as pipeline,
            negate_noise(arguments["generator"], seeds),
        ):
            pipeline(**arguments)
    except InputError:
        raise
    except ZeroDivisionError as error:
        raise InputError(_too_few_steps(process, str(error))) from error
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        if is_out_of_memory(error):
            raise
        # The pipeline does not support these settings
        raise InputError(
            f"{_names(process)} cannot run {pluralize(process.steps, 'step')} with these settings: "
            f"{one_line(error)}; change the settings, or use --scheduler own"
        ) from error
    if num_states != process.steps or latest is None:
        raise InputError(
            f"{_names(process)} visited {pluralize(num_states, 'state')} in {pluralize(process.steps, 'step')}; "
            "Conjure needs one call of scheduler.step per state, so use another scheduler or another number of steps"
        )
    if replay is not None and not is_replayed:
        points.append(latest)
    return latest


def _names(process: Process) -> str:
    return f"{type(process.pipeline).__name__} with {type(process.scheduler).__name__}"


def _too_few_steps(process: Process, reason: str) -> str:
    """Return the message for a number of steps for which the noise schedule is not defined."""
    return f"{_names(process)} cannot run {pluralize(process.steps, 'step')}: {reason}; give more steps"


def _check_start(latents: Tensor, recorded: Tensor) -> None:
    """Check that the latents that a pipeline drew are those of a recorded trajectory, up to rounding.

    Raises:
        InputError: If they are not.
    """
    if latents.shape != recorded.shape or not torch.allclose(latents.float(), recorded.float(), rtol=0.02, atol=0.02):
        raise InputError(
            "the pipeline starts from other latents than those of the recorded trajectory, although the seed is the same; "
            "compare processes whose pipelines draw their noise in the same way"
        )


def is_trajectory_state(scheduler: Any) -> bool:
    """Return whether the next `scheduler.step` starts from a state of the trajectory, and not from a stage within a step.

    Solvers of higher order evaluate the model more than once per step, at intermediate points that are not part of the
    trajectory: Heun and KDPM2 (2 T - 1 calls), PNDM (T + 1 calls for its corrector at the start, or its Runge-Kutta stages). The
    trajectory always has T states.
    """
    if hasattr(scheduler, "state_in_first_order"):
        return scheduler.state_in_first_order
    if isinstance(scheduler, PNDMScheduler):
        if scheduler.config.skip_prk_steps:
            return scheduler.counter != 1
        return scheduler.counter >= len(scheduler.prk_timesteps) or scheduler.counter % 4 == 0
    return True

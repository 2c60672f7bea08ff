"""How the agreement with human ratings depends on one setting at a time (Liu and Soatto 2026, Table 3 and Figure 3).

Steps, guidance, scheduler, size and model change the process, so each value needs its own run. The prior over timesteps, the
number of samples and the weighting do not: the differences of one run, by step and sample, give the results for all their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conjure.deprecation import renamed_keywords
from conjure.diffusion.jobs import ProgressCallback
from conjure.diffusion.loading import load
from conjure.diffusion.noise_levels import UNITS
from conjure.diffusion.process import Process
from conjure.divergence.divergences import DivergenceConfig
from conjure.errors import InputError
from conjure.evaluation.ablation_results import Ablation, AblationPoint, figure_name
from conjure.evaluation.axes import check_axes
from conjure.evaluation.correlation import agreement, has_correlation
from conjure.evaluation.datasets import Pairs, read
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.results import Evaluation
from conjure.evaluation.run_folder import STORE_NAME, process_with_store
from conjure.evaluation.task_statistics import compute_distances
from conjure.io.files import keeping
from conjure.io.formatting import format_timesteps

__all__ = ["Ablation", "AblationPoint", "ablate", "figure_name"]


@renamed_keywords(over="vary", started="on_start")
def ablate(
    process: Process,
    tasks: Sequence[Pairs | str],
    vary: Mapping[str, Sequence[Any] | None],
    *,
    data: str | Path | None = None,
    samples: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    progress: ProgressCallback | None = None,
    on_start: Callable[[str], None] | None = None,
) -> Ablation:
    """Measure how the agreement of a process with human ratings depends on its settings.

    Args:
        process: The process: a model with its settings.
        tasks: As in `conjure.evaluate`.
        vary: For each setting its values, or None for the default ones (`conjure.evaluation.axes.ABLATION_AXES`). `steps`,
            `guidance` and `scheduler` are settings of `Process.set`; `size` is the height and width in pixels; `model` are names
            for `conjure.load`, each with its own guidance, scheduler, adapters and further arguments of its
            pipeline. `prior`, `samples` and `weighting` take no values.
        data: As in `conjure.evaluate`.
        samples: As in `conjure.evaluate`.
        seed: As in `conjure.evaluate`.
        out: A folder for the results. Unless the process has a store, the results of all trajectories are stored there too; those
            of a run of `conjure bench` in the same folder are reused.
        progress: As in `conjure.evaluate`.
        on_start: As in `conjure.evaluate`.

    Raises:
        InputError: If a setting or a value is not allowed, before anything is computed; a model is loaded only before its run.
        OutputError: If the files of the result cannot be written; its attribute `result` is the result.

    Reference:
        Liu and Soatto (2026), Table 3 and Figure 3.
    """
    processes = {axis: _make_processes(process, axis, values) for axis, values in check_axes(vary).items()}
    task_pairs = [read(task, data) if isinstance(task, str) else task for task in tasks]
    folder = None if out is None else Path(out)
    if folder is not None:
        process.storable_fingerprint()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {str(folder)!r} cannot be used: {error.strerror}; name another by --out") from error
    non_finite_texts: dict[str, None] = {}

    with process_with_store(process, None if folder is None else folder / STORE_NAME) as stored_process:

        def run(varied_process: Process, description: str) -> Evaluation:
            if on_start:
                on_start(description)
            varied_process = replace(varied_process, store=stored_process.store, workers=process.workers)
            evaluation = evaluate(
                varied_process, task_pairs, samples=samples, seed=seed, floors=False, progress=progress, on_start=on_start
            )
            non_finite_texts.update(dict.fromkeys(evaluation.non_finite_texts))
            return evaluation

        base = run(process, "unchanged settings")
        points = []
        for axis, makers in processes.items():
            for value, make_process in makers.items():
                evaluation = run(make_process(), f"{axis} {value}")
                agreements = {name: result.agreement for name, result in evaluation.tasks.items()}
                points.append(AblationPoint(axis, value, agreements, evaluation.fingerprint))
            if not makers:
                points += POST_HOC_AXES[axis](base)
    ablation = Ablation(base, points, {task.name: task.title for task in task_pairs}, tuple(non_finite_texts))
    if folder is not None:
        with keeping(ablation):
            ablation.save(folder)
    return ablation


def _make_processes(process: Process, axis: str, values: Sequence[Any]) -> dict[str, Callable[[], Process]]:
    """Return for each value of a setting a function that makes its process; none for a setting that needs no further run."""
    match axis:
        case "steps":
            varied = {str(steps): process.set(steps=steps) for steps in (_parse_number(int, axis, value) for value in values)}
        case "guidance":
            scales = [_parse_number(float, axis, value) for value in values]
            varied = {f"{scale:g}": process.set(guidance=scale) for scale in scales}
        case "scheduler":
            varied = {str(value): process.set(scheduler=value) for value in values}
        case "size":
            sides = [_parse_number(int, axis, value) for value in values]
            varied = {str(side): process.set(height=side, width=side) for side in sides}
        case "model":
            options = process.load_options
            settings = {
                "steps": process.steps, "unit": process.default_unit, "height": process.height, "width": process.width,
                "negative_prompt": process.pipeline_kwargs.get("negative_prompt") or "", **process.media.settings(),
                "device": str(process.device), "dtype": process.settings()["dtype"],
                "quantize": options.quantize, "offload": options.offload,
            }  # fmt: skip
            # one at a time, because two large models may not fit into the memory together
            others = {model: partial(load, model, **settings) for model in values if model != process.model}
            return {process.model: partial(_identity, process), **others}
        case _:
            varied = {}
    return {value: partial(_identity, varied_process) for value, varied_process in varied.items()}


def _identity(process: Process) -> Process:
    return process


def _parse_number(number_type: type[int] | type[float], axis: str, value: Any) -> Any:
    try:
        if number_type(value) == float(value):
            return number_type(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{value!r} is not a value of {axis}; must be {'an integer' if number_type is int else 'a number'}")


def _vary_prior(base: Evaluation) -> list[AblationPoint]:
    """Return the results of uniform priors over the steps from the noisiest one to each step, and of each step alone.

    Steps at which all distances are 0 are left out. At pure noise, this is so in the unit of the noise.
    """
    # of shape (pairs, samples, steps)
    per_step = {
        name: np.stack([result.config.per_step(differences).total for differences in result.differences])
        for name, result in base.tasks.items()
    }
    timesteps = format_timesteps(next(iter(base.tasks.values())).differences[0].timesteps)
    values = [
        ("prior", f"{timesteps[0]} to {timestep}", {name: step[..., : i + 1].sum(-1) for name, step in per_step.items()})
        for i, timestep in enumerate(timesteps)
    ]
    values += [
        ("single step", timestep, {name: step[..., i] for name, step in per_step.items()}) for i, timestep in enumerate(timesteps)
    ]
    return [
        _post_hoc_point(base, axis, value, distances)
        for axis, value, distances in values
        if all(has_correlation(of_task, base.tasks[name].pairs.scores) for name, of_task in distances.items())
    ]


def _vary_samples(base: Evaluation) -> list[AblationPoint]:
    """Return the results of the first k samples, for each k."""
    return [
        _post_hoc_point(
            base, "samples", str(k), {name: result.distances[:, :k] for name, result in base.tasks.items()}
        )
        for k in range(1, base.samples + 1)
    ]  # fmt: skip


def _vary_weighting(base: Evaluation) -> list[AblationPoint]:
    """Return the results of the uniform weighting in each unit, and of nats.

    Units that do not exist at a visited noise level are left out.
    """
    configs = {str(unit): DivergenceConfig(unit=unit) for unit in UNITS} | {"nats": DivergenceConfig(weighting="girsanov")}
    points = []
    for label, config in configs.items():
        try:
            distances = {name: compute_distances(result.differences, config) for name, result in base.tasks.items()}
            points.append(_post_hoc_point(base, "weighting", label, distances))
        except InputError:
            continue
    return points


def _post_hoc_point(base: Evaluation, axis: str, value: str, distances: Mapping[str, np.ndarray]) -> AblationPoint:
    """Return the result of distances of the pairs of `base`, of shape (pairs, samples), by task."""
    agreements = {name: agreement(values, base.tasks[name].pairs.scores) for name, values in distances.items()}
    return AblationPoint(axis, value, agreements, base.fingerprint)


# Settings for which one run gives the results of all values
POST_HOC_AXES: dict[str, Callable[[Evaluation], list[AblationPoint]]] = {
    "prior": _vary_prior,
    "samples": _vary_samples,
    "weighting": _vary_weighting,
}

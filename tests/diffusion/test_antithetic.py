"""A negative seed gives the negated noise of its absolute value, at the start and at every step that draws noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import conjure
from conjure.diffusion.shared_trajectory import run_on_shared_trajectories
from denoisers import denoiser
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of NumPy 2, inside diffusers

A = "snow leopard"


def predict_zero(process: conjure.Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch the denoiser to predict zero, so that a trajectory depends on its noise alone."""
    network = denoiser(process)
    forward = network.forward

    def zero_forward(*args: Any, **kwargs: Any) -> Any:
        return tuple(part * 0 for part in forward(*args, **kwargs))

    monkeypatch.setattr(network, "forward", zero_forward)


def assert_negated(process: conjure.Process) -> None:
    points: list[torch.Tensor] = []
    for seed in (7, -7):
        run_on_shared_trajectories(process, [A], [0], [seed], lambda step: points.append(step.x_t))
    for positive, negative in zip(points[: process.steps], points[process.steps :], strict=True):
        np.testing.assert_allclose(positive, -negative, atol=1e-4)


@pytest.mark.parametrize("scheduler", ["lms", "ddpm", "eulerancestral", pytest.param("kdpm2ancestral", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", ["default", "stable diffusion"])
def test_trajectories_of_opposite_seeds_are_opposite(default_process, tiny_sd, monkeypatch, model, scheduler):
    process = default_process if model == "default" else conjure.load(tiny_sd, guidance=2.0)
    predict_zero(process, monkeypatch)
    assert_negated(process.set(scheduler=scheduler))


def test_noise_of_steps_is_negated_where_the_pipeline_passes_no_generator(monkeypatch):
    family = FAMILIES["Stable Diffusion 3"]
    process = conjure.load(family.build(), steps=4, **family.settings)
    scheduler = process.scheduler.from_config(process.scheduler.config, stochastic_sampling=True)
    predict_zero(process, monkeypatch)
    assert_negated(replace(process, scheduler=scheduler))

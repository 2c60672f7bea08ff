"""Trajectories of one process, evaluated by another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
import torch

import conjure
from conjure.diffusion.batch_size import AdaptiveBatchSize
from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.noise_levels import prediction_type
from conjure.errors import InputError
from conjure.process_drift.facts import inspect_process
from conjure.process_drift.progress import Progress
from conjure.process_drift.spool import TensorSpool
from conjure.process_drift.trajectories import ComparedQuantity, record, replay
from denoisers import denoiser
from tiny_pipelines import FAMILIES

JOBS = [TrajectoryJob(text, seed, (text,)) for text in ("dog", "a red house") for seed in (5, 6)]
QUICK = ("Stable Diffusion 3.5", "Flux schnell", "LCM")


def test_the_batch_size_is_that_of_the_device_that_computes(tiny_sd, monkeypatch):
    """The weights of an offloaded pipeline are on another device."""
    process = conjure.load(tiny_sd, steps=1)
    devices = []

    class Recorded(AdaptiveBatchSize):
        def __init__(self, device, fixed=None):
            devices.append(device)
            super().__init__(torch.device("cpu"), fixed)

    cls = type(process.pipeline)
    monkeypatch.setattr("conjure.process_drift.trajectories.AdaptiveBatchSize", Recorded)
    monkeypatch.setattr(cls, "_execution_device", torch.device("cpu"))
    monkeypatch.setattr(cls, "device", torch.device("meta"))
    result = conjure.drift(process, process.set(guidance=2.0), ["dog"], samples=1)
    assert result.texts[0].divergence.value > 0
    assert {device.type for device in devices} == {"cpu"}


@pytest.fixture
def spool() -> Iterator[TensorSpool]:
    """A spool, which is closed after the test."""
    with closing(TensorSpool()) as spool:
        yield spool


def load_family(name: str, dtype: str = "float32") -> conjure.Process:
    family = FAMILIES[name]
    return conjure.load(family.build(), steps=2, dtype=dtype, **family.settings).set(pipeline_kwargs=family.pipeline_kwargs)


@pytest.mark.parametrize("name", ["Stable Diffusion 1.x", "Stable Diffusion 3.5", "Flux schnell"])
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float32", "bfloat16")], ids=" to ".join)
def test_the_first_latents_are_those_of_the_recorded_process(name, dtypes, monkeypatch, spool):
    """Pipelines draw their first latents themselves, in the data type of their model."""
    source, other = (load_family(name, dtype) for dtype in dtypes)
    network, inputs = denoiser(other), []
    forward = network.forward

    def recording_forward(*args, **kwargs):
        inputs.append((args[0] if args else kwargs["hidden_states"])[:1].clone())
        return forward(*args, **kwargs)

    facts, progress = inspect_process(source, "dog"), Progress(None, 0)
    quantity = ComparedQuantity(prediction_type(source.scheduler), in_pixels=False)
    (batch,) = record(source, JOBS[:1], quantity, spool, one_text_per_batch=False, progress=progress)
    monkeypatch.setattr(network, "forward", recording_forward)
    (replayed,) = replay(other, facts, batch, quantity, spool, jobs=JOBS[:1], progress=progress)
    start = spool.read(batch.points[0]).to(inputs[0].dtype)
    scheduler = type(source.scheduler).from_config(source.scheduler.config)
    scheduler.set_timesteps(2)
    if hasattr(scheduler, "scale_model_input"):
        start = scheduler.scale_model_input(start, scheduler.timesteps[0])
    assert torch.equal(inputs[0], start)
    assert (replayed.result.squared_differences > 0).all()


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES])
def test_every_family_returns_its_own_predictions(name, spool):
    """A process that is evaluated along its own trajectories makes bitwise the same predictions."""
    process = load_family(name)
    facts, progress = inspect_process(process, "dog"), Progress(None, 0)
    quantity = ComparedQuantity(facts.prediction_type, in_pixels=False)
    batches = record(process, JOBS, quantity, spool, one_text_per_batch=not process.batch_prompts, progress=progress)
    assert len(batches) == (1 if process.batch_prompts else 2)
    for batch in batches:
        for one_by_one in (False, True):
            for part in replay(process, facts, batch, quantity, spool, jobs=batch.jobs, one_by_one=one_by_one, progress=progress):
                limit = 1e-4 * float(part.recorded.square().sum()) if one_by_one else 0
                assert (part.result.squared_differences <= limit).all()


def test_a_pipeline_that_draws_other_noise_is_refused(monkeypatch, spool):
    process = load_family("Stable Diffusion 3.5")
    facts, progress = inspect_process(process, "dog"), Progress(None, 0)
    quantity = ComparedQuantity(facts.prediction_type, in_pixels=False)
    (batch,) = record(process, JOBS[:1], quantity, spool, one_text_per_batch=False, progress=progress)
    renamed = replace(batch, jobs=(replace(JOBS[0], seed=7),))  # stands for a pipeline with another order of the noise
    with pytest.raises(InputError, match="starts from other latents"):
        list(replay(process, facts, renamed, quantity, spool, jobs=renamed.jobs, progress=progress))


def test_a_pipeline_that_visits_other_levels_is_refused(tiny_sd, spool):
    process = conjure.load(tiny_sd, steps=2, guidance=2.0)
    facts, progress = inspect_process(process, "dog"), Progress(None, 0)
    quantity = ComparedQuantity(facts.prediction_type, in_pixels=False)
    (batch,) = record(process, JOBS[:1], quantity, spool, one_text_per_batch=False, progress=progress)
    shifted = replace(facts, noise_levels=facts.noise_levels[::-1])
    with pytest.raises(InputError, match="visit different noise levels"):
        list(replay(process, shifted, batch, quantity, spool, jobs=batch.jobs, progress=progress))

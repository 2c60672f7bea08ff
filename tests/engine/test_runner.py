"""The results of jobs depend on nothing but the job: not on batches, their order, their size, or the memory of the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.seeding import noise_seed
from conjure.engine.runner import iter_results
from denoisers import denoiser, initial_noise
from tiny_pipelines import FAMILIES

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default_process, tiny_sd) -> conjure.Process:
    return (default_process if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)).set(steps=3)


def test_source_rows_follow_the_trajectory_of_the_pipeline(process):
    """The final latent is that of the pipeline without other texts."""
    seed = noise_seed(0, 0)
    (result,) = iter_results(process, [TrajectoryJob(A, seed, (B, "a house"))])
    latents = process.run([A], [seed])
    assert result.final_latent.numpy() == pytest.approx(latents[0].float().numpy(), rel=1e-3, abs=1e-4)
    assert initial_noise(process, seed).shape[1:] == result.final_latent.shape


@pytest.fixture(scope="module")
def one_batch(process) -> tuple[conjure.Process, conjure.Estimate]:
    """A process, and its estimate from six samples, whose 36 rows are evaluated in one batch."""
    return process, conjure.distance(process.set(batch_size=96), A, B, samples=6)


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_batch_size_changes_no_number(one_batch, batch_size):
    process, expected = one_batch
    estimate = conjure.distance(process.set(batch_size=batch_size), A, B, samples=6)
    assert estimate.samples == pytest.approx(expected.samples, rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float16", 1e-2), ("bfloat16", 1e-1)])
def test_same_numbers_on_cuda(dtype, tolerance):
    """The tolerances of docs/howto/cluster.md hold between batch sizes, and between the device and the CPU in float32."""
    on_cuda = conjure.load(device="cuda", dtype=dtype, steps=3)
    one_batch, batches = (
        conjure.distance(on_cuda.set(batch_size=batch_size), A, B, samples=12).samples for batch_size in (96, 7)
    )
    assert one_batch == pytest.approx(batches, rel=tolerance)
    on_cpu = conjure.load(device="cpu", steps=3)
    assert conjure.distance(on_cpu, A, B, samples=12).distance == pytest.approx(sum(one_batch) / 12, rel=tolerance)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GB")])
def test_a_batch_that_does_not_fit_is_halved(process, monkeypatch, error):
    network, expected, batch_sizes = denoiser(process), conjure.distance(process, A, B, samples=3), list[int]()
    forward = network.forward

    def forward_up_to_four_rows(*args, **kwargs):
        rows = len(args[0] if args else kwargs["hidden_states"])
        batch_sizes.append(rows)
        if rows > 4:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", forward_up_to_four_rows)
    calls = list[tuple[int, int]]()
    estimate = conjure.distance(process, A, B, samples=3, progress=lambda done, total: calls.append((done, total)))
    assert 1 <= len([rows for rows in batch_sizes if rows > 4]) <= 5  # the size that fits is kept for later batches
    assert estimate.samples == pytest.approx(expected.samples, rel=1e-5)
    assert calls[-1] == (6 * process.steps, 6 * process.steps)


def test_a_single_row_that_does_not_fit_is_an_error(process, monkeypatch):
    def forward_without_memory(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(denoiser(process), "forward", forward_without_memory)
    with pytest.raises(InputError, match="not even one row fits into the memory of cpu; use --dtype.*or --seconds of a sound"):
        conjure.distance(process, A, B)


def test_order_and_batch_of_a_job_change_no_number(process):
    jobs = [TrajectoryJob(text, noise_seed(0, sample), ("a red car", B)) for text in (A, B, "pizza") for sample in range(2)]
    in_order = {result.job: result.squared_differences for result in iter_results(process, jobs)}
    reversed_order = {result.job: result.squared_differences for result in iter_results(process, jobs[::-1])}
    for job in jobs:
        (single,) = iter_results(process, [job])
        for differences in (single.squared_differences, reversed_order[job]):
            np.testing.assert_allclose(differences.sum(1), in_order[job].sum(1), rtol=1e-5, atol=1e-9)
            np.testing.assert_allclose(differences, in_order[job], rtol=1e-4, atol=1e-9)


def test_a_result_does_not_hold_the_latents_of_its_batch(tiny_sd):
    """Otherwise each result would carry those of all other jobs of its batch to another process."""
    process = conjure.load(tiny_sd, steps=1).set(batch_size=96)
    jobs = [TrajectoryJob(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(12) for seed in (1, -1)]
    results = list(iter_results(process, jobs))
    assert {result.final_latent.untyped_storage().nbytes() for result in results} == {results[0].final_latent.numel() * 4}


@pytest.mark.parametrize("scheduler", ["lms", "ddpm", "eulerancestral", "heun"])
def test_unbatched_prompts_give_the_same_numbers(tiny_sd, scheduler):
    """Trajectories are simulated first and targets evaluated afterwards, for a pipeline whose batches change no number."""
    process = conjure.load(tiny_sd, scheduler=scheduler, steps=3, guidance=2.0)
    for options in ({}, {"antithetic": True}, {"divergence": "direct"}):
        batched, unbatched = (
            conjure.distance(variant, A, B, samples=3, **options) for variant in (process, process.set(batch_prompts=False))
        )
        assert unbatched.samples == pytest.approx(batched.samples, rel=1e-3)


def test_prompts_are_not_batched_where_a_batch_would_change_numbers():
    """CogView4 pads prompts to the longest one of the batch, and the padding counts."""
    pipeline = FAMILIES["CogView4"].build()
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    process = conjure.Process(pipeline, scheduler, steps=3, guidance=5.0, height=64, width=64)
    pairs = [(A, A), (A, "a much longer text " * 5), (B, A)]
    estimates = conjure.distances(process, pairs, samples=2, antithetic=True)
    assert estimates[0].distance == 0
    for pair, estimate in zip(pairs, estimates, strict=True):
        single_pair = conjure.distance(process, *pair, samples=2, antithetic=True)
        assert estimate.samples == pytest.approx(single_pair.samples, rel=1e-5)

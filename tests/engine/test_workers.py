"""Jobs on workers: their results, their errors, and workers that die. Workers are objects here (`fake_ray.py`)."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

import conjure
from conjure import InputError, TextTruncationWarning, Workers
from conjure.diffusion.jobs import TrajectoryJob, TrajectoryResult
from conjure.engine import ray_workers
from conjure.engine.runner import iter_results
from conjure.engine.worker import ProcessSpec, Worker
from conjure.errors import NoWorkersWarning
from conjure.evaluation.pair_files import read_file
from conjure.explanation.explain import iter_explanations
from denoisers import denoiser
from fake_ray import FakeRay, RayTaskError, WorkerDeathError
from lora_files import random_lora, save_kohya

JOBS = [TrajectoryJob(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(4) for seed in (1, -1)]


@pytest.fixture
def fake_ray(monkeypatch) -> FakeRay:
    """A cluster of eight CPUs inside this process."""
    fake = FakeRay()

    def exit_worker(_):
        raise WorkerDeathError("exit")

    monkeypatch.setattr(ray_workers, "_import_ray", lambda: fake)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(os, "_exit", exit_worker)
    return fake


@pytest.fixture(scope="module")
def process(tiny_sd) -> conjure.Process:
    return conjure.load(tiny_sd, steps=2, guidance=3.0).set(batch_size=8)  # small chunks, so that all workers have jobs


@pytest.fixture(scope="module")
def expected(process) -> dict[TrajectoryJob, TrajectoryResult]:
    return {result.job: result for result in iter_results(process, JOBS)}


def assert_expected(results, expected):
    by_job = {result.job: result for result in results}
    assert set(by_job) == set(expected)
    for job, result in by_job.items():
        np.testing.assert_allclose(result.squared_differences, expected[job].squared_differences, rtol=1e-4)
        np.testing.assert_allclose(result.final_latent, expected[job].final_latent, atol=1e-3)
        assert (result.timesteps, result.noise_levels) == (expected[job].timesteps, expected[job].noise_levels)


@pytest.mark.parametrize("count", [1, 3])
def test_results_and_progress(fake_ray, process, expected, count):
    """Results arrive in any order, and each job has one."""
    calls = []
    results = list(iter_results(process.set(workers=Workers(count)), JOBS, progress=lambda *call: calls.append(call)))
    assert len(results) == len(JOBS)
    assert_expected(results, expected)
    assert calls == sorted(calls)
    assert calls[-1] == (len(JOBS) * 2, len(JOBS) * 2)
    assert [worker.num_starts for worker in fake_ray.workers] == [1] * count


def test_every_call_uses_the_workers(fake_ray, process, tmp_path):
    """A matrix, an evaluation, and images in their order: as without workers."""
    texts, with_workers = ["a cat", "a dog", "rain"], process.set(workers=Workers(2))
    matrix = conjure.matrix(with_workers, texts, samples=1)
    np.testing.assert_allclose(matrix.distance, conjure.matrix(process, texts, samples=1).distance, rtol=1e-5)
    assert matrix.process["device"] == "2 workers on CPUs"
    assert matrix.fingerprint == process.fingerprint()
    *_, explanation = iter_explanations(with_workers, "a cat", "a dog", samples=2)
    *_, local = iter_explanations(process, "a cat", "a dog", samples=2)
    np.testing.assert_allclose(explanation.forward.x_t, local.forward.x_t, atol=1e-4)
    np.testing.assert_allclose(explanation.backward.x0_second, local.backward.x0_second, atol=1e-4)
    own = tmp_path / "own.tsv"
    own.write_text("text1\ttext2\tscore\n" + "".join(f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8)))
    pairs = read_file(own)
    ablation, expected = (conjure.ablate(variant, [pairs], {"guidance": [1.0]}) for variant in (with_workers, process))
    np.testing.assert_allclose(ablation.base.tasks["own"].distances, expected.base.tasks["own"].distances, rtol=1e-5)
    assert ablation.rows() == expected.rows()


class DyingWorker(Worker):
    """A worker whose second chunk ends it, if fewer than two workers have died."""

    num_deaths = 0

    def __init__(self, threads, load_options):
        super().__init__(threads, load_options)
        self.num_chunks = 0

    def run(self, spec, jobs, keep_latents):
        self.num_chunks += 1
        if self.num_chunks == 2 and type(self).num_deaths < 2:
            type(self).num_deaths += 1
            self.end()
        return super().run(spec, jobs, keep_latents)

    def end(self):
        raise WorkerDeathError("killed")


class FailingWorker(DyingWorker):
    """A worker that raises an error instead, as a GPU does that is unusable afterwards."""

    num_deaths = 0

    def end(self):
        self.has_failed = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("worker", [DyingWorker, FailingWorker])
def test_jobs_of_a_worker_that_dies_are_run_again(fake_ray, process, expected, monkeypatch, worker):
    monkeypatch.setattr(worker, "num_deaths", 0)
    monkeypatch.setattr(ray_workers, "Worker", worker)
    assert_expected(iter_results(process.set(workers=Workers(3)), JOBS), expected)
    assert worker.num_deaths == 2
    assert sorted(actor.num_starts for actor in fake_ray.workers) == [1, 2, 2]


class DefectiveWorker(Worker):
    """A worker with an error in its code."""

    def run(self, spec, jobs, keep_latents):
        if any(job.text == "a thing 3" for job in jobs):
            self.has_failed = True
            raise RuntimeError("a defect")
        return super().run(spec, jobs, keep_latents)


def test_an_error_of_every_worker_is_raised_after_the_results(fake_ray, process, monkeypatch):
    """It is raised as it is, since it is a defect whose traceback must be visible."""
    monkeypatch.setattr(ray_workers, "Worker", DefectiveWorker)
    monkeypatch.setattr(ray_workers, "MAX_RETRIES", 1)
    finished: list[TrajectoryJob] = []

    def collect():
        finished.extend(result.job for result in iter_results(process.set(workers=Workers(2)), JOBS))

    with pytest.raises(RayTaskError, match="a defect"):
        collect()
    assert finished
    assert all(job.text != "a thing 3" for job in finished)


class MortalWorker(Worker):
    """A worker that one text ends."""

    def run(self, spec, jobs, keep_latents):
        if any(job.text == "a thing 3" for job in jobs):
            raise WorkerDeathError("killed")
        return super().run(spec, jobs, keep_latents)


def test_jobs_that_end_every_worker_are_an_error(fake_ray, process, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", MortalWorker)
    monkeypatch.setattr(ray_workers, "MAX_RETRIES", 1)
    results = iter_results(process.set(workers=Workers(1)), JOBS)
    assert next(results).job in JOBS  # finished chunks are yielded first
    with pytest.raises(InputError, match=r"2 workers died over 'a thing \d'"):
        list(results)


class UnimportableWorker(Worker):
    """A worker that cannot be created, as where Conjure is not installed."""

    def __init__(self, *_):
        raise ModuleNotFoundError("No module named 'conjure'")


def test_workers_that_cannot_be_created_are_an_error(fake_ray, process, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", UnimportableWorker)
    with pytest.raises(InputError, match="the last one with: ModuleNotFoundError: No module named 'conjure'"):
        list(iter_results(process.set(workers=Workers(2)), JOBS))


def test_missing_workers_are_reported(fake_ray, process, expected):
    fake_ray.idle_waits = 1
    with pytest.warns(NoWorkersWarning, match=r"no worker is available yet; \d chunks wait for the cluster to start one"):
        results = list(iter_results(process.set(workers=Workers(1)), JOBS))
    assert_expected(results, expected)


def test_truncated_texts_are_reported(fake_ray, process):
    with pytest.warns(TextTruncationWarning, match="but the text encoder of this model takes 77"):
        list(iter_results(process.set(workers=Workers(1)), [TrajectoryJob("x" * 200, 0, ("y",))]))


class OverflowingWorker(Worker):
    """A worker whose model predicts NaN for texts with an @."""

    def _process(self, spec):
        is_new = self.pipeline is None
        process, batch_size = super()._process(spec)
        if is_new:
            token = process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

            def set_nan(_, inputs, output):
                output[0][(inputs[0] == token).any(1)] = float("nan")

            process.pipeline.text_encoder.register_forward_hook(set_nan)
        return process, batch_size


def test_texts_without_finite_predictions_are_excluded(fake_ray, process, monkeypatch, tmp_path):
    """They are named and their results are stored. The other pairs have the numbers of an evaluation without them."""
    own = tmp_path / "own.tsv"
    valid_pairs = "text1\ttext2\tscore\n" + "".join(f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8))
    own.write_text(valid_pairs + "thing 1\tan @\t3\n")
    monkeypatch.setattr(ray_workers, "Worker", OverflowingWorker)
    overflowing = process.set(workers=Workers(1))
    evaluations = [conjure.evaluate(overflowing, [read_file(own)], out=tmp_path / "run") for _ in range(2)]
    own.write_text(valid_pairs)
    expected = conjure.evaluate(process, [read_file(own)])
    for evaluation in evaluations:
        assert (evaluation.non_finite_texts, evaluation.tasks["own"].num_excluded) == (("an @",), 1)
        np.testing.assert_allclose(evaluation.tasks["own"].distances, expected.tasks["own"].distances, rtol=1e-5)


def test_a_worker_keeps_its_batch_size(process, monkeypatch):
    """A batch size that did not fit into its memory is not tried again in the next chunk."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    worker, spec = Worker(1, {"device": "cpu"}), ProcessSpec.from_process(process.set(batch_size=16))
    worker.run(spec, JOBS[:1], [])
    ((worker_process, batch_size),) = worker.processes.values()
    network, rows_of_calls = denoiser(worker_process), list[int]()
    forward = network.forward

    def forward_up_to_four_rows(*args, **kwargs):
        rows_of_calls.append(len(args[0]))
        if len(args[0]) > 4:
            raise torch.OutOfMemoryError
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", forward_up_to_four_rows)
    worker.run(spec, JOBS, [])
    assert batch_size.size == 4
    assert max(rows_of_calls) > 4
    rows_of_calls.clear()
    worker.run(spec, JOBS, [])
    assert max(rows_of_calls) <= 4


@pytest.fixture(scope="module")
def other_model(tiny_sd, tmp_path_factory):
    """The folder of a model with other weights."""
    pipeline = DiffusionPipeline.from_pretrained(tiny_sd)
    next(pipeline.unet.parameters()).data += 1e-3
    folder = tmp_path_factory.mktemp("other") / "model"
    pipeline.save_pretrained(folder)
    return folder


def test_a_worker_keeps_one_model(process, other_model, monkeypatch):
    """There may be no memory for the next model beside the last one."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    worker, other = Worker(1, {"device": "cpu"}), conjure.load(other_model, steps=2)
    networks = []
    for variant in (process, other, process.set(steps=1), other):
        output = worker.run(ProcessSpec.from_process(variant), JOBS[:1], [])
        assert isinstance(output, tuple)
        ((result,), _) = output
        (expected,) = iter_results(variant, JOBS[:1])
        np.testing.assert_allclose(result.squared_differences, expected.squared_differences, rtol=1e-4)
        assert worker.pipeline is not None
        networks.append(weakref.ref(worker.pipeline.unet))
    gc.collect()
    assert [network() is not None for network in networks] == [False, False, False, True]


def test_other_weights_on_the_workers_are_refused(fake_ray, tiny_sd):
    process = conjure.load(tiny_sd, steps=2)
    next(process.pipeline.unet.parameters()).data += 1e-3
    with pytest.raises(InputError, match="has another fingerprint on the workers than here"):
        list(iter_results(process.set(workers=Workers(1)), JOBS[:1]))


def test_a_pipeline_in_memory_is_refused(fake_ray, process):
    in_memory = conjure.load(process.pipeline)
    with pytest.raises(InputError, match="was passed as a pipeline; write it to a folder with save_pretrained"):
        list(iter_results(in_memory.set(workers=Workers(1)), JOBS[:1]))


def test_workers_load_a_model_of_the_hub_at_its_commit(process):
    process = replace(process, model="owner/name@main", revision="0123abc")
    assert ProcessSpec.from_process(process).model == "owner/name@0123abc"


def test_workers_load_the_model_in_the_same_way(fake_ray, tiny_sd, tmp_path, monkeypatch):
    """With its variant, its LoRA and its quantisation; a relative path is valid in the folder of the command only."""
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 0.5 * tensor for name, tensor in load_file(weights).items()}, weights.with_suffix(".half.safetensors"))
    save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path / "style.safetensors")
    monkeypatch.chdir(tmp_path)
    process = conjure.load(
        "model", steps=2, variant="half", lora="style.safetensors:0.5", quantize="int8", negative_prompt="rain"
    )
    expected = {result.job: result for result in iter_results(process, JOBS[:2])}
    spec = ProcessSpec.from_process(process)
    monkeypatch.chdir("/")
    assert_expected(
        iter_results(replace(process, model=spec.model, load_options=spec.load_options, workers=Workers(1)), JOBS[:2]), expected
    )
    assert spec.load_options.lora[0].name == str(tmp_path / "style.safetensors")


def test_a_changed_lora_on_the_workers_is_refused(fake_ray, tiny_sd, tmp_path):
    file = save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet), tmp_path / "style.safetensors")
    process = conjure.load(tiny_sd, steps=2, lora=file)
    save_kohya(random_lora(conjure.load(tiny_sd).pipeline.unet, seed=1), file)
    with pytest.raises(InputError, match=r"the file of the LoRA '.*style\.safetensors' has changed"):
        list(iter_results(process.set(workers=Workers(1)), JOBS[:1]))


def test_offloading_is_reported_with_the_workers(monkeypatch):
    fake = FakeRay(cpus=4, gpus=2)
    monkeypatch.setattr(ray_workers, "_import_ray", lambda: fake)
    workers = Workers(2, load={"offload": "model"})
    assert [actor.args[1]["offload"] for actor in workers.actors] == ["model"] * 2
    assert str(workers) == "2 workers on GPUs, offload model"


def test_one_worker_per_gpu(monkeypatch):
    """The device is passed to the workers, so that none computes on the CPU because PyTorch does not find its GPU."""
    fake = FakeRay(cpus=4, gpus=2)
    monkeypatch.setattr(ray_workers, "_import_ray", lambda: fake)
    for workers, devices, kind, num_gpus in [
        (Workers(), ["cuda"] * 2, "GPUs", 1),
        (Workers(2, load={"device": "cuda:1"}), ["cuda"] * 2, "GPUs", 1),
        (Workers(2, load={"device": "cpu"}), ["cpu"] * 2, "CPUs", 0),
    ]:
        assert [actor.args[1]["device"] for actor in workers.actors] == devices
        assert str(workers) == f"2 workers on {kind}"
        assert fake.options["num_gpus"] == num_gpus
    with pytest.raises(InputError, match="3 workers are asked for, but the Ray cluster has 2 GPUs; ask for fewer"):
        _ = Workers(3).actors


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_workers_do_not_replace_a_missing_gpu_by_the_cpu(fake_ray, process):
    fake_ray.resources["GPU"] = 2.0
    with pytest.raises(InputError, match="PyTorch finds no CUDA device"):
        list(iter_results(process.set(workers=Workers(1)), JOBS[:1]))


@pytest.mark.parametrize("count", [0, -1, True])
def test_invalid_numbers_of_workers_are_refused(count):
    with pytest.raises(InputError, match="must be an integer >= 1"):
        Workers(count)


def test_more_workers_than_the_cluster_has_are_refused(fake_ray, process):
    with pytest.raises(InputError, match="99 workers are asked for, but the Ray cluster has 8 CPUs"):
        list(iter_results(process.set(workers=Workers(99)), JOBS[:1]))


def test_workers_can_be_closed_and_start_again(fake_ray, process, expected):
    workers = Workers(2)
    assert_expected(iter_results(process.set(workers=workers), JOBS), expected)
    workers.close()
    assert [worker.is_alive for worker in fake_ray.workers] == [False, False]
    workers.close()
    assert_expected(iter_results(process.set(workers=workers), JOBS), expected)
    assert [worker.is_alive for worker in fake_ray.workers] == [False, False, True, True]


def test_a_command_leaves_gpus_to_its_workers(conjure_command, monkeypatch):
    """The process of the command needs the model for its fingerprint only, which takes no GPU."""
    options = {}

    def load(*_, **settings):
        options.update(settings)
        raise InputError("the options are known")

    monkeypatch.setattr(conjure, "load", load)
    code, _, err = conjure_command("matrix", "a", "b", "--workers", 2, "--device", "cuda", "--compile")
    assert (code, "the options are known" in err) == (2, True)
    assert (options["device"], options["compile"]) == ("cpu", False)


class NotConnectedRay(FakeRay):
    """Ray that is not connected to a cluster; `init` must not be called."""

    def is_initialized(self) -> bool:
        return False


def test_a_cluster_that_does_not_exist_is_an_error(process, monkeypatch):
    """It is raised immediately: Ray itself would try to connect for ten minutes."""
    monkeypatch.setattr(ray_workers, "_import_ray", NotConnectedRay)
    message = r"cannot connect to the Ray cluster '127\.0\.0\.1:1': \[Errno 111\] Connection refused"
    with pytest.raises(InputError, match=message):
        process.set(workers=Workers(1, "127.0.0.1:1")).settings()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("Initialization failure from server:\nTraceback:\nRuntimeError: Starting failed.", r"RuntimeError: Starting failed\."),
        ("Version mismatch: the cluster has:\n  Ray: 2.1\nThis has:\n  Ray: 2.2", r"Version mismatch: .* Ray: 2\.1 .* Ray: 2\.2"),
    ],
)
def test_an_error_of_the_server_of_a_cluster_is_reported(monkeypatch, error, message):
    """Of a traceback the last line is reported, other errors with all their lines."""

    def init(**_):
        raise ConnectionAbortedError(error)

    monkeypatch.setattr(ray_workers, "_import_ray", lambda: SimpleNamespace(init=init))
    with pytest.raises(InputError, match=f"cannot connect to the Ray cluster 'ray://head:10001': {message}; start one"):
        ray_workers._connect("ray://head:10001", None)

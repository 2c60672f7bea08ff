"""Many real workers on a Ray cluster of two nodes on this machine: the same numbers, also when workers and nodes die.

`test_workers.py` shows the same in seconds, with workers that are objects.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from pyarrow import parquet

import conjure
from conjure import InputError, TextTruncationWarning
from conjure.diffusion.jobs import TrajectoryJob
from conjure.engine import ray_workers
from conjure.engine.ray_workers import Workers
from conjure.engine.runner import iter_results
from conjure.engine.store_maintenance import open_store as open_store_file
from conjure.engine.store_maintenance import summarize
from conjure.engine.worker import Worker
from conjure.evaluation.pair_files import read_file
from conjure.explanation.explain import iter_explanations

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.slow,
    # Ray emits a tip when it starts, and does not close its files and subprocesses
    pytest.mark.filterwarnings("ignore:Tip:FutureWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::conjure.NoWorkersWarning"),  # on a busy machine
]

JOBS = [TrajectoryJob(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(12) for seed in (1, -1)]


with socket.socket() as free_socket:
    free_socket.bind(("127.0.0.1", 0))
    CLIENT_PORT = free_socket.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of eight nominal CPUs; `cluster.other` is the node that a test removes."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # a busy machine needs more than the default of 30 seconds
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # otherwise the client's server may fail when it is forked while gRPC runs
    client_server = {"ray_client_server_port": CLIENT_PORT} if find_spec("grpc") else {}
    # Connect while there is one node: both have the address of this machine, and the second one is killed later
    cluster = cluster_utils.Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 8} | client_server)
    cluster.other = cluster.add_node(num_cpus=8)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    gc.collect()  # so that warnings of Ray's files are emitted here, where they are ignored


@pytest.fixture(scope="module")
def four_workers(cluster):
    return Workers(4, cluster.address)


@pytest.fixture(scope="module")
def one_worker(cluster):
    return Workers(1, cluster.address)


@pytest.fixture(scope="module")
def process(tiny_sd):
    return conjure.load(tiny_sd, steps=3, guidance=3.0).set(batch_size=8)  # small chunks, so that all workers have jobs


@pytest.fixture(scope="module")
def expected(process):
    return {result.job: result for result in iter_results(process, JOBS)}


def assert_expected(results, expected):
    assert sorted(results, key=JOBS.index) == JOBS
    for job, result in results.items():
        total, expected_total = (
            differences.sum(1) for differences in (result.squared_differences, expected[job].squared_differences)
        )
        np.testing.assert_allclose(total, expected_total, rtol=1e-5)
        np.testing.assert_allclose(result.squared_differences, expected[job].squared_differences, rtol=1e-4)
        np.testing.assert_allclose(result.final_latent, expected[job].final_latent, atol=1e-3)  # of about 20
        assert (result.timesteps, result.noise_levels) == (expected[job].timesteps, expected[job].noise_levels)


def run_all(process, workers):
    return {result.job: result for result in iter_results(process.set(workers=workers), JOBS)}


def call_in_workers(workers, function):
    """Return what `function` returns in each worker; one that died is started again."""
    return ray.get([actor.__ray_call__.options(max_task_retries=-1).remote(function) for actor in workers.actors])


def process_id(_):
    return os.getpid()


def node_id(_):
    return ray.get_runtime_context().get_node_id()


def write_pairs(path: Path, *further_lines: str) -> Path:
    lines = [f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8)]
    path.write_text("text1\ttext2\tscore\n" + "".join([*lines, *further_lines]))
    return path


def test_same_numbers_on_one_worker_and_on_four(process, expected, four_workers, one_worker):
    calls = []
    results = iter_results(process.set(workers=four_workers), JOBS, progress=lambda *call: calls.append(call))
    assert_expected({result.job: result for result in results}, expected)
    assert calls == sorted(calls)
    assert calls[-1] == (len(JOBS) * 3, len(JOBS) * 3)
    assert len(set(call_in_workers(four_workers, node_id))) == 2
    assert_expected(run_all(process, one_worker), expected)


GPUS = """
import os, ray
from conjure import InputError, Workers, distance, load
ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level="error")
def visible(worker):
    return os.environ["CUDA_VISIBLE_DEVICES"], worker.load_options["device"]
def devices_of(workers):
    devices = sorted(ray.get([actor.__ray_call__.remote(visible) for actor in workers.actors])), str(workers)
    workers.close()
    return devices
all_gpus = [(str(number), "cuda") for number in range(2)]
assert devices_of(Workers()) == (all_gpus, "2 workers on GPUs")
assert devices_of(Workers(2, load={"device": "cuda:1"})) == (all_gpus, "2 workers on GPUs")
devices, kind = devices_of(Workers(2, load={"device": "cpu"}))
assert ([device for _, device in devices], kind) == (["cpu"] * 2, "2 workers on CPUs")
for count, message in ((3, "3 workers are asked for, but the Ray cluster has 2 GPUs"), (1, "PyTorch finds no CUDA device")):
    try:
        distance(load(steps=1).set(workers=Workers(count)), "a", "b", samples=1)
    except InputError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPUs are invented and must not exist")
def test_one_worker_per_gpu():
    """Each worker sees its own GPU only, whatever its number, and never computes on the CPU instead."""
    result = subprocess.run([sys.executable, "-c", GPUS], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_worker_keeps_one_model(process, one_worker, tiny_sd, tmp_path):
    """There may be no memory for the next model beside the last one."""
    other_pipeline = DiffusionPipeline.from_pretrained(tiny_sd)
    next(other_pipeline.unet.parameters()).data += 1e-3
    other_pipeline.save_pretrained(tmp_path / "other")
    other = conjure.load(tmp_path / "other", steps=3)
    for variant in (process, other, process.set(steps=2), other):
        (result,), (expected,) = (iter_results(run, JOBS[:1]) for run in (variant.set(workers=one_worker), variant))
        np.testing.assert_allclose(result.squared_differences, expected.squared_differences, rtol=1e-4)

    def num_denoisers(_):
        gc.collect()
        return sum(type(instance).__name__ == "UNet2DConditionModel" for instance in gc.get_objects())

    assert call_in_workers(one_worker, num_denoisers) == [1]


def test_every_call_uses_the_workers(process, four_workers, tmp_path):
    """A matrix, an ablation, and images in their order: as without workers."""
    with_workers, texts = process.set(workers=four_workers), ["a cat", "a dog", "rain"]
    np.testing.assert_allclose(conjure.matrix(with_workers, texts).distance, conjure.matrix(process, texts).distance, rtol=1e-5)
    pairs = read_file(write_pairs(tmp_path / "own.tsv"))
    ablation, expected = (conjure.ablate(variant, [pairs], {"guidance": [1.0]}) for variant in (with_workers, process))
    np.testing.assert_allclose(ablation.base.tasks["own"].distances, expected.base.tasks["own"].distances, rtol=1e-5)
    assert ablation.rows() == expected.rows()
    assert ablation.base.process["device"] == "4 workers on CPUs"
    *_, explanation = iter_explanations(with_workers, "a cat", "a dog", samples=2)
    *_, local = iter_explanations(process, "a cat", "a dog", samples=2)
    np.testing.assert_allclose(explanation.forward.x_t, local.forward.x_t, atol=1e-4)
    np.testing.assert_allclose(explanation.backward.x0_second, local.backward.x0_second, atol=1e-4)


@pytest.mark.parametrize("remote", [False, True])
def test_a_command_on_a_cluster(conjure_command, cluster, tiny_sd, remote):
    """From one of its nodes, and from another machine through Ray's client."""
    if remote and not find_spec("grpc"):
        pytest.skip("Ray's client needs grpcio")
    command = ("matrix", "a cat", "a dog", "rain", "--model", str(tiny_sd), "--steps", "2", "--samples", "1", "--json")
    address = f"ray://127.0.0.1:{CLIENT_PORT}" if remote else cluster.address
    on_workers = [sys.executable, "-m", "conjure", *command, "--ray", address, "--workers", "2"]
    result = subprocess.run(on_workers, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    matrix, expected = json.loads(result.stdout), json.loads(conjure_command(*command)[1])
    np.testing.assert_allclose(matrix["distance"], expected["distance"], rtol=1e-5)
    assert matrix["process"]["device"] == "2 workers on CPUs"


def test_bench_and_ablate_by_command(conjure_command, cluster, tiny_sd, tmp_path):
    """With a run folder and a store, as without workers."""
    own = write_pairs(tmp_path / "own.tsv")
    on_workers = ("--ray", cluster.address, "--workers", 2, "--store", tmp_path / "shared")
    distances = {}
    for name, options in (("local", ()), ("workers", on_workers)):
        settings = ("--data", own, "--model", tiny_sd, "--steps", 2, *options)
        assert conjure_command("bench", *settings, "--out", tmp_path / name)[0] == 0
        distances[name] = parquet.read_table(tmp_path / name / "own.parquet").to_pydict()["distance"]
        assert conjure_command("ablate", *settings, "--vary", "guidance=1", "--out", tmp_path / f"ablation {name}")[0] == 0
    np.testing.assert_allclose(distances["workers"], distances["local"], rtol=1e-5)
    summary = json.loads((tmp_path / "workers" / "summary.json").read_text())
    assert summary["process"]["device"] == "2 workers on CPUs"
    with contextlib.closing(open_store_file(tmp_path / "shared")) as store:
        stored = [summary for summary in summarize(store) if summary.trajectories]  # without the text encoder of the floors
        assert [summary.settings["guidance"] for summary in stored] == [7.5, 1.0]


class DyingWorker(Worker):
    """A worker that kill -9 ends in its second chunk, if fewer than two workers have died."""

    def __init__(self, threads, load_options):
        super().__init__(threads, load_options)
        self.folder, self.num_chunks = Path(self.load_options.pop("folder")), 0

    def run(self, spec, jobs, keep_latents):
        self.num_chunks += 1
        results = super().run(spec, jobs, keep_latents)
        if self.num_chunks == 2:
            for name in ("first", "second"):
                with contextlib.suppress(FileExistsError):
                    (self.folder / name).touch(exist_ok=False)
                    self.end()
        return results

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


class FailingWorker(DyingWorker):
    """A worker that raises an error instead, as a GPU does that is unusable afterwards."""

    def end(self):
        self.has_failed = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("worker", [DyingWorker, FailingWorker])
def test_jobs_of_a_worker_that_dies_are_run_again(process, expected, cluster, monkeypatch, tmp_path, worker):
    """Two of three workers die with their chunks: others run them, the two start again, and no number changes."""
    monkeypatch.setattr(ray_workers, "Worker", worker)
    workers = Workers(3, cluster.address, load={"folder": str(tmp_path)})
    process_ids = call_in_workers(workers, process_id)
    assert_expected(run_all(process, workers), expected)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
    assert_expected(run_all(process, workers), expected)
    assert set(call_in_workers(workers, process_id)) - set(process_ids)
    workers.close()


class DefectiveWorker(Worker):
    """A worker with an error in its code."""

    def run(self, spec, jobs, keep_latents):
        if any(job.text == "a thing 3" for job in jobs):
            self.has_failed = True
            raise RuntimeError("a defect")
        return super().run(spec, jobs, keep_latents)


def test_an_error_of_every_worker_is_raised_after_the_results(process, cluster, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", DefectiveWorker)
    monkeypatch.setattr(ray_workers, "MAX_RETRIES", 1)
    workers, finished = Workers(2, cluster.address), list[TrajectoryJob]()

    def collect():
        finished.extend(result.job for result in iter_results(process.set(workers=workers), JOBS))

    with pytest.raises(RuntimeError, match="a defect"):
        collect()
    assert finished
    assert all(job.text != "a thing 3" for job in finished)
    workers.close()


@pytest.mark.filterwarnings("ignore:TF32:UserWarning")  # of torch.backends.mkldnn.flags
def test_a_worker_without_memory_halves_its_batches(process, one_worker):
    """The address space of the worker is limited to less than the batch needs. No number changes."""

    def limit_memory(worker):
        import torch  # in the worker

        torch.backends.mkldnn.set_flags(False)  # its message about missing memory does not mention memory
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        # Half of what the batch needs, and enough for the threads of Ray, which end the process without it
        resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20,) * 2)

    jobs = [TrajectoryJob(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(12) for seed in range(20)]
    large = process.set(batch_size=1024, height=64, width=64, steps=1)
    on_worker = large.set(workers=one_worker)
    list(iter_results(on_worker, jobs[:1]))  # loads everything before the limit is set
    ray.get(one_worker.actors[0].__ray_call__.remote(limit_memory))
    results = {result.job: result.squared_differences for result in iter_results(on_worker, jobs)}
    # Without retries, since a worker that was started again would have another batch size
    (sizes,) = ray.get(
        [
            actor.__ray_call__.remote(lambda worker: [size.size for _, size in worker.processes.values()])
            for actor in one_worker.actors
        ]
    )
    assert sizes[-1] < 1024
    with torch.backends.mkldnn.flags(enabled=False):
        for result in iter_results(large, jobs):
            np.testing.assert_allclose(results[result.job], result.squared_differences, rtol=1e-4)


class MortalWorker(Worker):
    """A worker that one text ends."""

    def run(self, spec, jobs, keep_latents):
        if any(job.text == "a thing 3" for job in jobs):
            os._exit(1)
        return super().run(spec, jobs, keep_latents)


def test_jobs_that_end_every_worker_are_an_error(process, cluster, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", MortalWorker)
    monkeypatch.setattr(ray_workers, "MAX_RETRIES", 1)
    workers = Workers(1, cluster.address)
    results = iter_results(process.set(workers=workers), JOBS)
    assert next(results).job in JOBS  # finished chunks are yielded first
    with pytest.raises(InputError, match=r"2 workers died over 'a thing \d'"):
        list(results)
    workers.close()


class SlowWorker(Worker):
    """A worker that takes seconds to start."""

    def __init__(self, threads, load_options):
        time.sleep(3)
        super().__init__(threads, load_options)


def test_a_command_waits_for_workers_and_reports_it(conjure_command, cluster, tiny_sd, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", SlowWorker)
    monkeypatch.setattr(ray_workers, "CONNECT_TIMEOUT", 1)
    options = ("--model", tiny_sd, "--steps", 1, "--samples", 1, "--ray", cluster.address, "--workers", 1)
    code, _, err = conjure_command("matrix", "a", "b", *options)
    assert code == 0
    assert "warning: no worker is available yet; 1 chunks wait for the cluster to start one" in err


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


def test_texts_without_finite_predictions_are_excluded(process, cluster, monkeypatch, tmp_path):
    """They are named and their results are stored. The other pairs have the numbers of an evaluation without them."""
    own = write_pairs(tmp_path / "own.tsv", "thing 1\tan @\t3\n")
    monkeypatch.setattr(ray_workers, "Worker", OverflowingWorker)
    workers = Workers(1, cluster.address)
    evaluations = [conjure.evaluate(process.set(workers=workers), [read_file(own)], out=tmp_path / "run") for _ in range(2)]
    expected = conjure.evaluate(process, [read_file(write_pairs(own))])
    for evaluation in evaluations:
        assert (evaluation.non_finite_texts, evaluation.tasks["own"].num_excluded) == (("an @",), 1)
        np.testing.assert_allclose(evaluation.tasks["own"].distances, expected.tasks["own"].distances, rtol=1e-5)
    workers.close()


class UnimportableWorker(Worker):
    """A worker that cannot be created, as where Conjure is not installed."""

    def __init__(self, *_):
        raise ModuleNotFoundError("No module named 'conjure'")


def test_workers_that_cannot_be_created_are_an_error(process, cluster, monkeypatch):
    monkeypatch.setattr(ray_workers, "Worker", UnimportableWorker)
    workers = Workers(2, cluster.address)
    with pytest.raises(InputError, match="the last one with: ModuleNotFoundError: No module named 'conjure'"):
        list(iter_results(process.set(workers=workers), JOBS))
    workers.close()


def test_other_weights_on_the_workers_are_refused(tiny_sd, four_workers):
    process = conjure.load(tiny_sd, steps=3)
    next(process.pipeline.unet.parameters()).data += 1e-3
    with pytest.raises(InputError, match="has another fingerprint on the workers than here"):
        list(iter_results(process.set(workers=four_workers), JOBS[:1]))


def test_truncated_texts_are_reported(process, four_workers):
    with pytest.warns(TextTruncationWarning, match="but the text encoder of this model takes 77"):
        list(iter_results(process.set(workers=four_workers), [TrajectoryJob("x" * 200, 0, ("y",))]))


def test_more_workers_than_the_cluster_has_are_refused(cluster, process):
    with pytest.raises(InputError, match="99 workers are asked for, but the Ray cluster has"):
        list(iter_results(process.set(workers=Workers(99, cluster.address)), JOBS[:1]))


def test_workers_of_a_killed_node_start_on_another_one(process, expected, four_workers, cluster):
    """Meanwhile the other workers run their jobs."""
    removed_node = cluster.other.node_id
    nodes = call_in_workers(four_workers, node_id)
    assert removed_node in nodes
    results = {}
    for number, result in enumerate(iter_results(process.set(workers=four_workers), JOBS)):
        if number == 0:
            cluster.remove_node(cluster.other, allow_graceful=False)
        results[result.job] = result
    assert_expected(results, expected)
    assert_expected(run_all(process, four_workers), expected)
    assert set(call_in_workers(four_workers, node_id)) == set(nodes) - {removed_node}

"""Many workers: the same numbers, whoever computes and whoever dies. A real Ray cluster of two nodes, on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conjure.benchmarks import read_file
from conjure.run import Source, run
from conjure.upkeep import held, opened
from conjure.workers import Recipe, Worker, Workers
from diffusers import DiffusionPipeline
from pyarrow import parquet

import conjure
from conjure import InputError, TextCutWarning, workers
from conjure.explanation import unfold

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

SOURCES = [Source(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(12) for seed in (1, -1)]


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    CLIENT_PORT = free.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # two cores may be busy for more than its half minute
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # or the server for a client dies as it is forked while gRPC is at work
    far = {"ray_client_server_port": CLIENT_PORT} if find_spec("grpc") else {}
    # joined while there is one node: both have the address of this machine, and the second is to be killed
    made = cluster_utils.Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 8} | far)
    made.other = made.add_node(num_cpus=8)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def four(cluster):
    return Workers(4, cluster.address)


@pytest.fixture(scope="module")
def one(cluster):
    return Workers(1, cluster.address)


@pytest.fixture(scope="module")
def alone(tiny_sd):
    return conjure.load(tiny_sd, steps=3, guidance=3.0).set(rows=8)  # small parcels, so that all have something to do


@pytest.fixture(scope="module")
def expected(alone):
    return {measured.source: measured for measured in run(alone, SOURCES)}


def check(given, expected):
    assert sorted(given, key=SOURCES.index) == SOURCES
    for source, measured in given.items():
        np.testing.assert_allclose(measured.squared.sum(1), expected[source].squared.sum(1), rtol=1e-5)
        np.testing.assert_allclose(measured.squared, expected[source].squared, rtol=1e-4)
        np.testing.assert_allclose(measured.final, expected[source].final, atol=1e-3)  # of about 20
        assert (measured.timesteps, measured.levels) == (expected[source].timesteps, expected[source].levels)


def asked(workers, what):
    """What `what` finds in each worker, started again or not."""
    return ray.get([actor.__ray_call__.options(max_task_retries=-1).remote(what) for actor in workers.actors])


def where(_):
    return ray.get_runtime_context().get_node_id()


def test_same_numbers_on_one_worker_and_on_four(alone, expected, four, one):
    told = []
    given = run(alone.set(workers=four), SOURCES, progress=lambda *step: told.append(step))
    check({measured.source: measured for measured in given}, expected)
    assert told == sorted(told)
    assert told[-1] == (len(SOURCES) * 3, len(SOURCES) * 3)
    assert len(set(asked(four, where))) == 2
    check({measured.source: measured for measured in run(alone.set(workers=one), SOURCES)}, expected)


def test_a_result_travels_alone(alone):
    """Its latents are no part of those of its whole batch, which would go along with each."""
    whole = list(run(alone.set(rows=96), SOURCES))
    assert {measured.final.untyped_storage().nbytes() for measured in whole} == {whole[0].final.numel() * 4}


GPUS = """
import os, ray
from conjure import InputError, Workers, distance, load
ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, logging_level="error")
def told(worker):
    return os.environ["CUDA_VISIBLE_DEVICES"], worker.load["device"]
def of(workers):
    found = sorted(ray.get([actor.__ray_call__.remote(told) for actor in workers.actors])), str(workers)
    workers.close()
    return found
every = [(str(number), "cuda") for number in range(2)]
assert of(Workers()) == (every, "2 workers on GPUs")
assert of(Workers(2, load={"device": "cuda:1"})) == (every, "2 workers on GPUs")
found, kind = of(Workers(2, load={"device": "cpu"}))
assert ([device for _, device in found], kind) == (["cpu"] * 2, "2 workers on CPUs")
for count, message in ((3, "3 workers are asked for, but the Ray cluster has 2 GPUs"), (1, "PyTorch finds no CUDA device")):
    try:
        distance(load(steps=1).set(workers=Workers(count)), "a", "b", samples=1)
    except InputError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs are made up, and must not be there")
def test_one_worker_a_gpu():
    """Each sees its own GPU alone, whatever its number, and never computes on the CPU instead in silence."""
    told = subprocess.run([sys.executable, "-c", GPUS], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_the_command_leaves_gpus_to_its_workers(conjure_command, monkeypatch):
    """It needs the model to say who it is alone, which takes no GPU."""
    asked = {}

    def load(_, **settings):
        asked.update(settings)
        raise InputError("enough is known")

    monkeypatch.setattr(conjure, "load", load)
    code, _, err = conjure_command("matrix", "a", "b", "--workers", 2, "--device", "cuda", "--compile")
    assert (code, "enough is known" in err) == (2, True)
    assert (asked["device"], asked["compile"]) == ("cpu", False)


def test_a_worker_keeps_one_model(alone, one, tiny_sd, tmp_path):
    """There may not be room for the next one beside the last."""
    other = DiffusionPipeline.from_pretrained(tiny_sd)
    next(other.unet.parameters()).data += 1e-3
    other.save_pretrained(tmp_path / "other")
    second = conjure.load(tmp_path / "other", steps=3)
    for process in (alone, second, alone.set(steps=2), second):
        (given,), (wanted,) = (run(these, SOURCES[:1]) for these in (process.set(workers=one), process))
        np.testing.assert_allclose(given.squared, wanted.squared, rtol=1e-4)

    def held(_):
        import gc

        gc.collect()
        return sum(type(known).__name__ == "UNet2DConditionModel" for known in gc.get_objects())

    assert ray.get(one.actors[0].__ray_call__.remote(held)) == 1


def test_every_call_takes_workers(alone, four, tmp_path):
    """A matrix, an ablation, and pictures in their order: as without."""
    many, texts = alone.set(workers=four), ["a cat", "a dog", "rain"]
    np.testing.assert_allclose(conjure.matrix(many, texts).distance, conjure.matrix(alone, texts).distance, rtol=1e-5)
    own = tmp_path / "own.tsv"
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8)))
    pairs = read_file(own)
    given, wanted = (conjure.ablate(one, [pairs], {"guidance": [1.0]}) for one in (many, alone))
    np.testing.assert_allclose(given.base.tasks["own"].distances, wanted.base.tasks["own"].distances, rtol=1e-5)
    assert given.rows() == wanted.rows()
    assert given.base.process["device"] == "4 workers on CPUs"
    *_, shown = unfold(many, "a cat", "a dog", samples=2)
    *_, seen = unfold(alone, "a cat", "a dog", samples=2)
    np.testing.assert_allclose(shown.forward.noisy, seen.forward.noisy, atol=1e-4)
    np.testing.assert_allclose(shown.backward.second, seen.backward.second, atol=1e-4)


@pytest.mark.parametrize("far", [False, True])
def test_command_on_a_cluster(conjure_command, cluster, tiny_sd, far):
    """From one of its machines, and from afar."""
    if far and not find_spec("grpc"):
        pytest.skip("Ray's client needs grpcio")
    command = ("matrix", "a cat", "a dog", "rain", "--model", str(tiny_sd), "--steps", "2", "--samples", "1", "--json")
    where = ("--ray", f"ray://127.0.0.1:{CLIENT_PORT}" if far else cluster.address, "--workers", "2")
    told = subprocess.run([sys.executable, "-m", "conjure", *command, *where], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    given, wanted = json.loads(told.stdout), json.loads(conjure_command(*command)[1])
    np.testing.assert_allclose(given["distance"], wanted["distance"], rtol=1e-5)
    assert given["process"]["device"] == "2 workers on CPUs"


def test_bench_and_ablate_by_command(conjure_command, cluster, tiny_sd, tmp_path):
    """Into a folder and a store, as without workers."""
    own = tmp_path / "own.tsv"
    own.write_text("one\ttwo\tscore\n" + "".join(f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8)))
    tables = {}
    for name, where in (("alone", ()), ("spread", ("--ray", cluster.address, "--workers", 2, "--store", tmp_path / "shared"))):
        settings = ("--data", own, "--model", tiny_sd, "--steps", 2, *where)
        assert conjure_command("bench", *settings, "--out", tmp_path / name)[0] == 0
        tables[name] = parquet.read_table(tmp_path / name / "own.parquet").to_pydict()["distance"]
        assert conjure_command("ablate", *settings, "--over", "guidance=1", "--out", tmp_path / f"ablated {name}")[0] == 0
    np.testing.assert_allclose(tables["spread"], tables["alone"], rtol=1e-5)
    told = json.loads((tmp_path / "spread" / "summary.json").read_text())
    assert told["process"]["device"] == "2 workers on CPUs"
    assert [one.settings["guidance"] for one in held(opened(tmp_path / "shared"))] == [7.5, 1.0]


class Mortal(Worker):
    """A worker that is killed with kill -9 in its second parcel, as the first two of them all are; or fails in it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.place, self.parcels = Path(self.load.pop("place")), 0

    def run(self, recipe, sources, pictures):
        self.parcels += 1
        given = super().run(recipe, sources, pictures)
        if self.parcels == 2:
            for name in ("first", "second"):
                with contextlib.suppress(FileExistsError):
                    (self.place / name).touch(exist_ok=False)
                    self.end()
        return given

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Faulty(Mortal):
    """The same with an error, as a GPU gives it of which nothing more is to be had."""

    def end(self):
        self.failed = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("worker", [Mortal, Faulty])
def test_workers_die_at_work(alone, expected, cluster, monkeypatch, tmp_path, worker):
    """Two of three do, with what they were at: others take it, they come back, and no number changes."""
    monkeypatch.setattr(workers, "Worker", worker)
    mortal = Workers(3, cluster.address, load={"place": str(tmp_path)})
    before = asked(mortal, lambda _: os.getpid())
    check({measured.source: measured for measured in run(alone.set(workers=mortal), SOURCES)}, expected)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
    check({measured.source: measured for measured in run(alone.set(workers=mortal), SOURCES)}, expected)
    assert set(asked(mortal, lambda _: os.getpid())) - set(before)
    mortal.close()


class Wrong(Worker):
    """A worker with a mistake in it."""

    def run(self, recipe, sources, pictures):
        if any(source.text == "a thing 3" for source in sources):
            self.failed = True
            raise RuntimeError("a mistake")
        return super().run(recipe, sources, pictures)


def test_what_fails_on_every_worker_is_seen(alone, cluster, monkeypatch):
    """After what the others gave."""
    monkeypatch.setattr(workers, "Worker", Wrong)
    monkeypatch.setattr(workers, "DEATHS", 1)
    wrong = Workers(2, cluster.address)
    given: list[Source] = []

    def take():
        given.extend(measured.source for measured in run(alone.set(workers=wrong), SOURCES))

    with pytest.raises(RuntimeError, match="a mistake"):
        take()
    assert given
    assert all(source.text != "a thing 3" for source in given)
    wrong.close()


def test_memory_of_a_worker_runs_out(alone, one):
    """A worker that may take less memory than a batch needs: it halves its batches, and the numbers stay."""

    def narrow(worker):
        import torch  # there

        torch.backends.mkldnn.set_flags(False)  # which says of full memory only that something could not be created
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        # half of what the batch needs, and enough for the threads of Ray, which do not live without
        resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20,) * 2)

    many = [Source(f"a thing {i}", seed, (f"thing {i + 1}", "a cat")) for i in range(12) for seed in range(20)]
    large = alone.set(rows=1024, height=64, width=64, steps=1)
    wide = large.set(workers=one)
    list(run(wide, many[:1]))  # all is loaded
    ray.get(one.actors[0].__ray_call__.remote(narrow))
    given = {measured.source: measured.squared for measured in run(wide, many)}
    halved = ray.get(one.actors[0].__ray_call__.remote(lambda worker: [rows.number for _, rows in worker.processes.values()]))
    assert halved[-1] < 1024  # by the worker that began: another one in its place would know nothing of it
    with torch.backends.mkldnn.flags(enabled=False):
        for measured in run(large, many):
            np.testing.assert_allclose(given[measured.source], measured.squared, rtol=1e-4)


class Doomed(Worker):
    """A worker that does not survive a text."""

    def run(self, recipe, sources, pictures):
        if any(source.text == "a thing 3" for source in sources):
            os._exit(1)
        return super().run(recipe, sources, pictures)


def test_text_that_no_worker_survives(alone, cluster, monkeypatch):
    monkeypatch.setattr(workers, "Worker", Doomed)
    monkeypatch.setattr(workers, "DEATHS", 1)
    doomed = Workers(1, cluster.address)
    given = run(alone.set(workers=doomed), SOURCES)
    assert next(given).source in SOURCES  # what is finished before is there
    with pytest.raises(InputError, match=r"2 workers died over 'a thing \d'"):
        list(given)
    doomed.close()


class Unborn(Worker):
    """A worker that never comes to be, as where Conjure is not installed."""

    def __init__(self, *_):
        raise ModuleNotFoundError("No module named 'conjure'")


class Late(Worker):
    """A worker that takes its time to start."""

    def __init__(self, *arguments):
        time.sleep(3)
        super().__init__(*arguments)


def test_workers_are_waited_for(conjure_command, cluster, tiny_sd, monkeypatch):
    """Which a command says while it waits."""
    monkeypatch.setattr(workers, "Worker", Late)
    monkeypatch.setattr(workers, "PATIENCE", 1)
    where = ("--model", tiny_sd, "--steps", 1, "--samples", 1, "--ray", cluster.address, "--workers", 1)
    code, _, err = conjure_command("matrix", "a", "b", *where)
    assert code == 0
    assert "warning: no worker is there yet; 1 parcels wait for the cluster to start one" in err


class Overflowing(Worker):
    """A worker whose model gives NaN for texts with an @."""

    def _process(self, recipe):
        first = self.pipeline is None
        process, rows = super()._process(recipe)
        if first:
            sign = process.pipeline.tokenizer.convert_tokens_to_ids("@</w>")

            def spoil(_, inputs, output):
                output[0][(inputs[0] == sign).any(1)] = float("nan")

            process.pipeline.text_encoder.register_forward_hook(spoil)
        return process, rows


def test_numbers_that_are_none_on_a_worker(alone, cluster, monkeypatch, tmp_path):
    """They are named, kept like others, and the pairs without them give what they give alone."""
    own = tmp_path / "own.tsv"
    good = "one\ttwo\tscore\n" + "".join(f"thing {i}\twhat {i % 3}\t{i % 4}\n" for i in range(8))
    own.write_text(good + "thing 1\tan @\t3\n")
    monkeypatch.setattr(workers, "Worker", Overflowing)
    overflows = alone.set(workers=Workers(1, cluster.address))
    told = [conjure.evaluate(overflows, [read_file(own)], out=tmp_path / "run") for _ in range(2)]
    own.write_text(good)
    wanted = conjure.evaluate(alone, [read_file(own)])
    for one in told:
        assert (one.broken, one.tasks["own"].left_out) == (("an @",), 1)
        np.testing.assert_allclose(one.tasks["own"].distances, wanted.tasks["own"].distances, rtol=1e-5)
    overflows.workers.close()


def test_workers_that_cannot_be(alone, cluster, monkeypatch):
    monkeypatch.setattr(workers, "Worker", Unborn)
    unborn = Workers(2, cluster.address)
    with pytest.raises(InputError, match="the last of: ModuleNotFoundError: No module named 'conjure'"):
        list(run(alone.set(workers=unborn), SOURCES))
    unborn.close()


def test_other_weights_on_the_workers_are_refused(tiny_sd, four):
    here = conjure.load(tiny_sd, steps=3)
    next(here.pipeline.unet.parameters()).data += 1e-3
    with pytest.raises(InputError, match="is another one on the workers than here"):
        list(run(here.set(workers=four), SOURCES[:1]))


def test_pipeline_in_memory_is_refused(alone, four):
    process = conjure.load(alone.pipeline)
    with pytest.raises(InputError, match="was handed over as a pipeline; write it to a folder with save_pretrained"):
        list(run(process.set(workers=four), SOURCES[:1]))


def test_recipe_names_the_commit_of_a_model_from_the_hub(alone):
    process = replace(alone, model="owner/name@main", revision="0123abc")
    assert Recipe.of(process).model == "owner/name@0123abc"


def test_cut_texts_are_told_from_workers(alone, four):
    with pytest.warns(TextCutWarning, match="but this model's encoder takes 77"):
        list(run(alone.set(workers=four), [Source("x" * 200, 0, ("y",))]))


def test_bad_counts_and_clusters(cluster, alone):
    for count in (0, -1, True):
        with pytest.raises(InputError, match="allowed are whole numbers from 1 on"):
            Workers(count)
    with pytest.raises(InputError, match="99 workers are asked for, but the Ray cluster has"):
        list(run(alone.set(workers=Workers(99, cluster.address)), SOURCES[:1]))


def test_cluster_that_is_not_there():
    """Is told at once, in a process that has no cluster yet."""
    script = "import conjure; conjure.load().set(workers=conjure.Workers(1, '127.0.0.1:1')).settings()"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert "InputError: the Ray cluster '127.0.0.1:1' cannot be joined: [Errno 111] Connection refused" in told.stderr


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Initialization failure from server:\nTraceback:\nRuntimeError: Starting failed.", r"RuntimeError: Starting failed\."),
        ("Version mismatch: the cluster has:\n  Ray: 2.1\nThis has:\n  Ray: 2.2", r"Version mismatch: .* Ray: 2\.1 .* Ray: 2\.2"),
    ],
)
def test_what_the_server_of_a_cluster_ran_into_is_told(monkeypatch, said, told):
    """Ray's client hands on a traceback, of which the end says what happened; other errors of several lines are told whole."""

    def init(**_):
        raise ConnectionAbortedError(said)

    monkeypatch.setattr(workers, "_ray", lambda: SimpleNamespace(init=init))
    with pytest.raises(InputError, match=f"'ray://head:10001' cannot be joined: {told}; start one"):
        workers._connect("ray://head:10001", None)


def test_killed_node(alone, expected, four, cluster):
    """A node goes, with its workers: they are started again on the other, and the others do their work."""

    other = cluster.other.node_id
    before = asked(four, where)
    assert other in before
    given = {}
    for number, measured in enumerate(run(alone.set(workers=four), SOURCES)):
        if number == 0:
            cluster.remove_node(cluster.other, allow_graceful=False)
        given[measured.source] = measured
    check(given, expected)
    check({measured.source: measured for measured in run(alone.set(workers=four), SOURCES)}, expected)
    assert set(asked(four, where)) == set(before) - {other}

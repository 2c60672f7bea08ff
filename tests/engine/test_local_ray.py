"""Two real workers on this machine give the numbers of this process."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import conjure
from conjure import Workers

ray = pytest.importorskip("ray")

pytestmark = [  # Ray emits a tip when it starts, and does not close its files and subprocesses
    pytest.mark.filterwarnings("ignore:Tip:FutureWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::conjure.NoWorkersWarning"),  # on a busy machine
]


@pytest.fixture
def two_workers():
    workers = Workers(2)
    yield workers
    workers.close()
    ray.shutdown()
    gc.collect()  # so that warnings of Ray's files are emitted here, where they are ignored


def test_two_local_workers(tiny_sd, two_workers):
    """They start a local cluster, load the model by its folder, check its fingerprint, and return results in chunks."""
    process = conjure.load(tiny_sd, steps=2, guidance=3.0).set(batch_size=8)
    calls: list[tuple[int, int]] = []
    matrix = conjure.matrix(
        process.set(workers=two_workers),
        ["a cat", "a dog", "rain"],
        samples=2,
        progress=lambda done, total: calls.append((done, total)),
    )
    expected = conjure.matrix(process, ["a cat", "a dog", "rain"], samples=2)
    np.testing.assert_allclose(matrix.distance, expected.distance, rtol=1e-5)
    assert matrix.process["device"] == "2 workers on CPUs"
    assert matrix.fingerprint == expected.fingerprint
    assert len(calls) > 1
    assert calls[-1] == (6 * 2, 6 * 2)

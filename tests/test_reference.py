"""The engine compared with Algorithm 1 of the paper in plain code."""

from __future__ import annotations

import numpy as np
import pytest

import conjure
from conjure.diffusion.seeding import noise_seed
from conjure.reference import GuidedPrediction, algorithm_1
from denoisers import initial_noise, record_batch_sizes
from reference_algorithm import guided_pixart, guided_unet

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default_process, tiny_sd) -> conjure.Process:
    return (default_process if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)).set(steps=5)


def guided_prediction(process: conjure.Process) -> GuidedPrediction:
    assert process.guidance is not None
    if "transformer" in process.pipeline.components:
        return guided_pixart(process.pipeline, process.guidance, process.pipeline_kwargs["max_sequence_length"])
    return guided_unet(process.pipeline, process.guidance)


def test_distance_equals_the_reference_algorithm(process):
    """One sample per noise of `conjure.distance`: both directions, the steps, and the final latents that `direct` compares."""
    estimate = conjure.distance(process, A, B, samples=2, seed=3)
    results = [
        algorithm_1(
            guided_prediction(process),
            process.scheduler,
            initial_noise(process, noise_seed(3, sample)),
            A,
            B,
            process.steps,
            velocity_as_noise=process.default_unit == "epsilon",
        )
        for sample in range(2)
    ]
    assert estimate.samples == pytest.approx([result.forward + result.backward for result in results], rel=1e-4)
    assert estimate.forward == pytest.approx(np.mean([result.forward for result in results]), rel=1e-4)
    assert estimate.backward == pytest.approx(np.mean([result.backward for result in results]), rel=1e-4)
    assert estimate.per_step == pytest.approx(np.mean([result.per_step for result in results], axis=0), rel=1e-3)
    direct = conjure.distance(process, A, B, samples=2, seed=3, divergence="direct")
    final_distances = [float((x - y).square().sum()) for x, y in (result.final_latents for result in results)]
    assert direct.samples == pytest.approx(final_distances, rel=1e-3)


def test_the_reference_evaluates_twelve_rows_per_step(process, monkeypatch):
    """Two directions times three predictions, each with and without text. The engine needs six (`test_row_counts.py`)."""
    batch_sizes = record_batch_sizes(process, monkeypatch)
    result = algorithm_1(guided_prediction(process), process.scheduler, initial_noise(process, 0), A, B, process.steps)
    assert result.forward > 0
    assert sum(batch_sizes) == 12 * process.steps

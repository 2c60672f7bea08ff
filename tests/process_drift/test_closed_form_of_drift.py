"""Two processes with exact scores of different Gaussians: the drift is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

import conjure
from analytic_pipelines import Mixture, gaussian, gaussian_kl, path_kl, process_of

P = gaussian(*[0.2] * 4, variance=0.5)
Q = gaussian(*[-0.1] * 4, variance=0.7)
EMPTY = gaussian(*[0.0] * 4)


def pair(p: Mixture, q: Mixture, scheduler_a: str, scheduler_b: str, steps: int) -> list[conjure.Process]:
    return [process_of({"y": mixture, "": EMPTY}, name, steps) for mixture, name in ((p, scheduler_a), (q, scheduler_b))]


@pytest.mark.parametrize(
    ("scheduler_a", "scheduler_b"),
    [
        ("ddim sample", "ddim sample"),
        ("flow", "flow"),
        pytest.param("lms epsilon", "lms epsilon", marks=pytest.mark.slow),
        pytest.param("lms epsilon", "lms v", marks=pytest.mark.slow),
        pytest.param("ddim sample", "lms v", marks=pytest.mark.slow),
    ],
)
def test_nats_are_the_known_divergence(scheduler_a, scheduler_b):
    a, b = pair(P, Q, scheduler_a, scheduler_b, 160)
    result = conjure.drift(a, b, ["y"], samples=300)
    (text,) = result.texts
    forward, backward = path_kl(gaussian_kl, P, Q, result.snr), path_kl(gaussian_kl, Q, P, result.snr)
    assert text.nats_forward.value == pytest.approx(forward, rel=0.05)
    assert text.nats_backward.value == pytest.approx(backward, rel=0.05)
    assert text.nats.value == pytest.approx((text.nats_forward.value + text.nats_backward.value) / 2)
    assert text.nats_forward.ci95[0] < forward < text.nats_forward.ci95[1]
    assert text.nats_backward.ci95[0] < backward < text.nats_backward.ci95[1]
    assert text.is_above_noise


def test_types_of_prediction_are_converted():
    """The processes A and B of one type, and A with B of another type, have equal differences at every step."""
    (a, b), (_, other) = (pair(P, Q, "ddim sample", scheduler, 8) for scheduler in ("ddim sample", "lms v"))
    same, mixed = (conjure.drift(a, process, ["y"], samples=4, unit="x0") for process in (b, other))
    # x_t of B is simulated by another solver, and so only the trajectories of A are the same
    assert mixed.texts[0].forward.value == pytest.approx(same.texts[0].forward.value, rel=1e-4)
    assert mixed.checks["prediction type"] == "v_prediction of B is converted to sample of A"


@pytest.mark.slow
def test_coverage_of_intervals():
    """Intervals of repeated estimates with 8 samples cover the known divergence."""
    processes = pair(P, Q, "flow", "flow", 160)
    covered = []
    for seed in range(60):
        result = conjure.drift(processes[0], processes[1], ["y"], samples=8, seed=seed)
        low, high = result.texts[0].nats.ci95
        snr = result.snr
        covered.append(low <= (path_kl(gaussian_kl, P, Q, snr) + path_kl(gaussian_kl, Q, P, snr)) / 2 <= high)
    assert np.mean(covered) >= 0.87


def test_the_uniform_weighting_is_the_mean_over_steps():
    """The scores of two Gaussians of equal variance differ by a constant, so all contributions are known."""
    mean, steps = 1.7, 10
    a, b = pair(gaussian(0.0), gaussian(mean), "ddim sample", "ddim sample", steps)
    for process in (a, b):
        process.pipeline.texts[""] = gaussian(0.5)
    result = conjure.drift(a, b, ["y"], samples=2, unit="epsilon")
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.arange(0, 1000, 111)][::-1]
    per_step = (np.sqrt(1 - alphas) * np.sqrt(alphas) * mean) ** 2  # eps = -sigma * score, and the scores differ by alpha * mean
    (text,) = result.texts
    assert text.forward.value == pytest.approx(per_step.mean(), rel=2e-3)
    assert text.divergence.value == pytest.approx(2 * per_step.mean(), rel=2e-3)
    assert text.per_step == pytest.approx(2 * per_step / steps, rel=1e-2)
    # the distance between the text and the empty text under A has a difference of means of 0.5
    assert text.relative.value == pytest.approx((mean / 0.5) ** 2, rel=1e-2)


def test_different_steps_are_compared_on_one_grid():
    """The differences are the same function of the noise level for any number of steps."""
    texts = ({"y": gaussian(0.0), "": gaussian(0.5)}, {"y": gaussian(1.0), "": gaussian(0.5)})
    a, b = (process_of(text, "ddim sample", 40) for text in texts)
    same = conjure.drift(a, b, ["y"], samples=2, unit="epsilon")
    a, b = (process_of(text, "ddim sample", steps) for text, steps in zip(texts, (40, 30), strict=True))
    other = conjure.drift(a, b, ["y"], samples=2, unit="epsilon")
    assert other.texts[0].divergence.value == pytest.approx(same.texts[0].divergence.value, rel=0.02)
    assert len(other.timesteps) == 40
    assert "interpolated to the 40 levels of A" in other.checks["noise levels"]

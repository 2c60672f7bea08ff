"""Distances of processes with exact scores, compared with divergences that are known in closed form or by quadrature."""

from __future__ import annotations

import numpy as np
import pytest

import conjure
from analytic_pipelines import Mixture, gaussian, gaussian_kl, path_kl, process_of, quadrature_kl
from conjure.diffusion.jobs import TrajectoryJob
from conjure.diffusion.seeding import noise_seed
from conjure.divergence.intervals import nonnegative_interval, t_interval
from conjure.engine.runner import iter_results

TWO_COMPONENTS = Mixture((0.3, 0.7), ((-1.0,), (1.5,)), (0.2, 0.5))
ONE_COMPONENT = gaussian(0.5, variance=0.8)


@pytest.mark.parametrize(
    ("scheduler", "p", "q", "kl"),
    [
        ("lms epsilon", gaussian(0.0), gaussian(1.0), gaussian_kl),
        ("lms epsilon", gaussian(*[0.2] * 16, variance=0.5), gaussian(*[-0.1] * 16, variance=0.7), gaussian_kl),
        ("lms epsilon", TWO_COMPONENTS, ONE_COMPONENT, quadrature_kl),
        ("lms v", TWO_COMPONENTS, ONE_COMPONENT, quadrature_kl),
        ("ddim sample", TWO_COMPONENTS, ONE_COMPONENT, quadrature_kl),
    ],
    ids=["epsilon of two gaussians", "epsilon in 16 dimensions", "epsilon of a mixture", "v of a mixture", "x0 of a mixture"],
)
def test_nats_converge_to_the_known_divergence(scheduler, p, q, kl):
    errors = {}
    for steps in (10, 160):
        process = process_of({"p": p, "q": q}, scheduler, steps)
        estimate = conjure.distance(process, "p", "q", samples=300, weighting="girsanov")
        forward, backward = path_kl(kl, p, q, estimate.snr), path_kl(kl, q, p, estimate.snr)
        assert estimate.distance == pytest.approx((estimate.forward + estimate.backward) / 2)
        errors[steps] = max(abs(estimate.forward - forward) / forward, abs(estimate.backward - backward) / backward)
    assert errors[10] < 0.6  # ten steps give the order of magnitude
    assert errors[160] < 0.05  # the sampling error of 300 samples
    assert errors[160] < errors[10] / 4


def test_flow_in_nats():
    p, q = gaussian(0.0, 1.0, variance=0.5), gaussian(0.7, 0.2, variance=0.5)
    estimate = conjure.distance(process_of({"p": p, "q": q}, "flow", 160), "p", "q", samples=30, weighting="girsanov")
    assert estimate.forward == pytest.approx(path_kl(gaussian_kl, p, q, estimate.snr), rel=0.03)


@pytest.mark.slow
def test_coverage_of_intervals():
    """300 estimates of 16 samples each, computed in one call since LMS integrates its coefficients again in every call."""
    repetitions, samples = 300, 16
    process = process_of({"p": TWO_COMPONENTS, "q": ONE_COMPONENT}, steps=160)
    estimate = conjure.distance(process, "p", "q", samples=repetitions * samples, weighting="girsanov")
    forward = path_kl(quadrature_kl, TWO_COMPONENTS, ONE_COMPONENT, estimate.snr)
    backward = path_kl(quadrature_kl, ONE_COMPONENT, TWO_COMPONENTS, estimate.snr)
    values = np.array(estimate.samples)
    assert estimate.ci95 == nonnegative_interval(values)[2]
    assert 0.90 <= coverage(values.reshape(repetitions, samples), (forward + backward) / 2, nonnegative_interval) <= 0.988


def test_coverage_of_intervals_of_normal_values():
    values = np.random.default_rng(0).normal(3.0, 2.0, (2000, 4))
    assert coverage(values, 3.0, t_interval) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / len(values)))


def coverage(values, expected, interval) -> float:
    """Return the share of rows whose 95% interval, by the function `interval`, contains `expected`."""
    intervals = [interval(row)[2] for row in values]
    return sum(low <= expected <= high for low, high in intervals) / len(intervals)


def test_uniform_weighting_is_the_mean_of_squared_norms():
    """The scores of two Gaussians of equal variance differ by a constant, so all contributions are known."""
    mean, steps = 1.7, 10
    process = process_of({"p": gaussian(0.0), "q": gaussian(mean)}, steps=steps)
    estimate = conjure.distance(process, "p", "q", samples=2)
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.arange(0, 1000, 111)][::-1]
    per_step = (np.sqrt(1 - alphas) * np.sqrt(alphas) * mean) ** 2  # eps = -sigma * score, and the scores differ by alpha * mean
    assert estimate.forward == pytest.approx(per_step.mean(), rel=2e-3)
    assert estimate.distance == pytest.approx(2 * per_step.mean(), rel=2e-3)
    assert estimate.per_step == pytest.approx(2 * per_step / steps, rel=1e-2)
    initial = conjure.distance(process, "p", "q", samples=2, divergence="initial")
    assert initial.distance == pytest.approx(2 * per_step[0], rel=1e-3)


def test_forward_is_the_divergence_of_the_first_text_from_the_second():
    """KL(wide || narrow) is much larger than KL(narrow || wide)."""
    wide, narrow = gaussian(0.0, variance=1.0), gaussian(0.0, variance=0.1)
    process = process_of({"wide": wide, "narrow": narrow}, steps=160)
    estimate = conjure.distance(process, "wide", "narrow", samples=2000, weighting="girsanov", divergence="kl")
    assert estimate.distance == estimate.forward
    assert estimate.forward == pytest.approx(path_kl(gaussian_kl, wide, narrow, estimate.snr), rel=0.1)
    assert estimate.backward == pytest.approx(path_kl(gaussian_kl, narrow, wide, estimate.snr), rel=0.1)
    assert estimate.forward > 3 * estimate.backward


def test_common_random_numbers():
    """A sample has the same noise for every text. Other samples and other seeds have other noise."""
    process = process_of({"p": gaussian(0.0), "q": gaussian(0.0)}, steps=5)
    jobs = [TrajectoryJob(text, noise_seed(0, sample), ()) for text, sample in (("p", 0), ("q", 0), ("p", 1))]
    first, same_sample, next_sample = iter_results(process, jobs)
    assert first.final_latent.equal(same_sample.final_latent)
    assert not first.final_latent.equal(next_sample.final_latent)
    assert len({noise_seed(seed, sample) for seed in range(30) for sample in range(30)}) == 900


def test_step_noise_of_flows_depends_on_the_seed():
    """Flow pipelines pass no generator to their scheduler. Without one, results would change from call to call."""
    texts = {"p": gaussian(0.0, variance=0.5), "q": gaussian(1.0, variance=0.2)}
    first, second = (conjure.distance(process_of(texts, "stochastic flow", 10), "p", "q", samples=4) for _ in range(2))
    assert first.samples == second.samples
    small_batches = conjure.distance(process_of(texts, "stochastic flow", 10, batch_size=2), "p", "q", samples=4)
    assert small_batches.samples == pytest.approx(first.samples, rel=1e-5)
    assert len(set(first.samples)) == 4


def test_intervals_have_quantiles_of_student_s_t():
    """The 0.975 quantile with two degrees of freedom is 4.303, as printed in tables."""
    mean, error, (low, high) = t_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, error) == (2, pytest.approx(1 / 3**0.5))
    assert (low, high) == (pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3), pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3))

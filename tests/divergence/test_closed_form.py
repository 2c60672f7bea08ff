"""The engine against divergences that are known: the same code that drives real models, on exact scores."""

from __future__ import annotations

import numpy as np
import pytest
from gaussian import Mixture, gaussian, kl_of_gaussians, kl_on_a_line, process_of

import conjure
from conjure.estimate import interval, noise_seed
from conjure.run import Source, run
from conjure.units import Level

TWO = Mixture((0.3, 0.7), ((-1.0,), (1.5,)), (0.2, 0.5))
ONE = gaussian(0.5, variance=0.8)


def truth(kl, p, q, snr) -> float:
    """The path divergence between the first and the last visited level: what the marginals differ by at either end."""
    ends = [Level(alpha=float(np.sqrt(s / (1 + s))), sigma=float(np.sqrt(1 / (1 + s)))) for s in (snr[0], snr[-1])]
    return kl(p, q, ends[1]) - kl(p, q, ends[0])


@pytest.mark.parametrize(
    ("scheduler", "p", "q", "kl"),
    [
        ("lms epsilon", gaussian(0.0), gaussian(1.0), kl_of_gaussians),
        ("lms epsilon", gaussian(*[0.2] * 16, variance=0.5), gaussian(*[-0.1] * 16, variance=0.7), kl_of_gaussians),
        ("lms epsilon", TWO, ONE, kl_on_a_line),
        ("lms v", TWO, ONE, kl_on_a_line),
        ("ddim sample", TWO, ONE, kl_on_a_line),
    ],
    ids=["shifted", "sixteen dimensions", "mixture", "velocity", "denoised"],
)
def test_nats_converge_to_the_known_divergence(scheduler, p, q, kl):
    errors = []
    for steps in (10, 40, 160):
        process = process_of({"p": p, "q": q}, scheduler, steps)
        estimate = conjure.distance(process, "p", "q", samples=300, weighting="girsanov")
        there, back = (truth(kl, *ends, estimate.snr) for ends in ((p, q), (q, p)))
        assert estimate.distance == pytest.approx((estimate.forward + estimate.backward) / 2)
        errors.append(max(abs(estimate.forward - there) / there, abs(estimate.backward - back) / back))
    assert errors[0] < 0.6  # ten steps already tell the size
    assert errors[2] < 0.05  # the sampling error of 300 draws
    assert errors[2] < errors[0] / 4


def test_flow_in_nats():
    p, q = gaussian(0.0, 1.0, variance=0.5), gaussian(0.7, 0.2, variance=0.5)
    estimate = conjure.distance(process_of({"p": p, "q": q}, "flow", 160), "p", "q", samples=30, weighting="girsanov")
    assert estimate.forward == pytest.approx(truth(kl_of_gaussians, p, q, estimate.snr), rel=0.03)


def test_intervals_cover_the_truth_at_their_rate():
    """300 estimates of 16 samples each, walked together since LMS integrates its coefficients anew for every walk."""
    process, repetitions, samples = process_of({"p": TWO, "q": ONE}, steps=160), 300, 16
    estimate = conjure.distance(process, "p", "q", samples=repetitions * samples, weighting="girsanov")
    known = (truth(kl_on_a_line, TWO, ONE, estimate.snr) + truth(kl_on_a_line, ONE, TWO, estimate.snr)) / 2
    drawn = np.array(estimate.samples)
    assert estimate.ci95 == interval(drawn)[2]
    ends = [interval(part)[2] for part in drawn.reshape(repetitions, samples)]
    covered = sum(low <= known <= high for low, high in ends)
    # three binomial standard errors around 95 %, and one point less for skewness
    assert 0.90 <= covered / repetitions <= 0.988


def test_uniform_weighting_is_the_plain_mean_of_squares():
    """Two Gaussians of one variance: the difference of their scores does not depend on x, so it can be written down."""
    apart, steps = 1.7, 10
    process = process_of({"p": gaussian(0.0), "q": gaussian(apart)}, steps=steps)
    estimate = conjure.distance(process, "p", "q", samples=2)
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.arange(0, 1000, 111)][::-1]
    per_step = (np.sqrt(1 - alphas) * np.sqrt(alphas) * apart) ** 2  # eps = -sigma * score, score difference alpha * apart
    assert estimate.forward == pytest.approx(per_step.mean(), rel=2e-3)
    assert estimate.distance == pytest.approx(2 * per_step.mean(), rel=2e-3)
    assert estimate.per_step == pytest.approx(2 * per_step / steps, rel=1e-2)
    assert conjure.distance(process, "p", "q", samples=2, divergence="initial").distance == pytest.approx(
        2 * per_step[0], rel=1e-3
    )


def test_directions_are_the_right_way_round():
    """A wide and a narrow Gaussian: KL(wide || narrow) is much the larger."""
    wide, narrow = gaussian(0.0, variance=1.0), gaussian(0.0, variance=0.1)
    process = process_of({"wide": wide, "narrow": narrow}, steps=160)
    estimate = conjure.distance(process, "wide", "narrow", samples=2000, weighting="girsanov", divergence="kl")
    assert estimate.distance == estimate.forward
    assert estimate.forward == pytest.approx(truth(kl_of_gaussians, wide, narrow, estimate.snr), rel=0.1)
    assert estimate.backward == pytest.approx(truth(kl_of_gaussians, narrow, wide, estimate.snr), rel=0.1)
    assert estimate.forward > 3 * estimate.backward


def test_common_random_numbers():
    """Sample i has the same noise for every text; another sample or seed has another."""
    process = process_of({"p": gaussian(0.0), "q": gaussian(0.0)}, steps=5)
    first, same, other = run(process, [Source("p", noise_seed(0, 0), ()), Source("q", noise_seed(0, 0), ()),
                                       Source("p", noise_seed(0, 1), ())])  # fmt: skip
    assert first.final.equal(same.final)
    assert not first.final.equal(other.final)
    assert len({noise_seed(seed, sample) for seed in range(30) for sample in range(30)}) == 900


def test_step_noise_of_flows_comes_from_the_seed():
    """Flow pipelines hand no generator to their scheduler; without one, results would change from call to call."""
    texts = {"p": gaussian(0.0, variance=0.5), "q": gaussian(1.0, variance=0.2)}
    process = process_of(texts, "stochastic flow", 10)
    once, again = (conjure.distance(process, "p", "q", samples=4) for _ in range(2))
    assert once.samples == again.samples
    apart = conjure.distance(process_of(texts, "stochastic flow", 10, rows=2), "p", "q", samples=4)
    assert apart.samples == pytest.approx(once.samples, rel=1e-5)
    assert len(set(once.samples)) == 4


def test_interval_is_student_s():
    """The 0.975 quantile with two degrees of freedom is 4.303, from the tables."""
    mean, error, (low, high) = interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, error) == (2, pytest.approx(1 / 3**0.5))
    assert (low, high) == (pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3), pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3))

"""The Jensen-Shannon divergence between path measures is compared with properties of exact likelihood ratios."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import conjure
from analytic_pipelines import gaussian, process_of
from conjure import InputError
from conjure.baselines.jensen_shannon import JensenShannon, ancestral_transition
from conjure.diffusion.noise_levels import prediction_type
from conjure.diffusion.seeding import NoiseSeeds
from conjure.diffusion.shared_trajectory import DenoisingStep, run_on_shared_trajectories
from conjure.similarity.sampling import jobs_for_pairs


def test_likelihood_ratios_of_analytic_processes():
    """Under P the mean of exp(-L) is 1 for any number of steps, which holds only if the sampler has these densities."""
    process = process_of({"p": gaussian(0.0), "q": gaussian(0.15)}, "ddim sample", steps=6)
    baseline = JensenShannon(process, samples=400)
    ratios = baseline.log_likelihood_ratios(jobs_for_pairs([("p", "q")], range(4000), NoiseSeeds(0)))
    for text, partner in (("p", "q"), ("q", "p")):
        values = np.array([value for (source, _, target), value in ratios.items() if (source, target) == (text, partner)])
        assert len(values) == 4000
        assert np.exp(-values).mean() == pytest.approx(1, abs=4 * np.exp(-values).std() / 4000**0.5)
        assert values.mean() > 4 * values.std() / 4000**0.5  # KL is positive
    distances = baseline.distances([("p", "q")])
    assert distances.shape == (1, 400)
    assert 0 < distances.mean() < math.log(2)
    assert baseline.distances([("p", "p")]).max() == 0


def test_transitions_have_the_density_of_the_sampler(tiny_sd):
    """With a network, the normalised residual of every transition is standard normal."""
    baseline = JensenShannon(conjure.load(tiny_sd, steps=6))
    steps: list[DenoisingStep] = []
    run_on_shared_trajectories(baseline.process, ["the moon"] * 2, [0, 1], [3, 4], steps.append)
    for step, next_step in pairwise(steps):
        mean, width = ancestral_transition(prediction_type(baseline.process.scheduler), step, next_step.noise_level)
        noise = (next_step.x_t - mean) / width
        assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
        assert float(noise.std()) == pytest.approx(1, abs=4 / (2 * noise.numel()) ** 0.5)


def test_the_divergence_saturates(default_process):
    """Different texts have log likelihood ratios in the hundreds. That is the reason for the Jeffreys divergence."""
    baseline = JensenShannon(default_process)
    assert baseline.distances([("puppy", "shark"), ("gem", "jewel")]).tolist() == [[math.log(2)]] * 2
    assert baseline.distances([("puppy", "puppy")]).tolist() == [[0.0]]


def test_flow_models_and_single_steps_are_refused(default_process):
    with pytest.raises(InputError, match="which flow models do not have; leave this baseline out"):
        JensenShannon(process_of({"p": gaussian(0.0)}, "flow"))
    with pytest.raises(InputError, match="steps must be an integer >= 2"):
        JensenShannon(default_process.set(steps=1))


def test_keys_of_settings_are_those_of_existing_stores(default_process):
    baseline = JensenShannon(default_process, samples=2, seed=5)
    fingerprint = baseline.process.fingerprint()
    assert baseline.settings() == {"name": "jensen-shannon", "process": fingerprint, "samples": 2, "seed": 5}

"""Schedulers of diffusers: the default choice, the states and noise levels that each visits, and the noise of its steps."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch

import conjure
from conjure import InputError
from conjure.diffusion.schedulers import make_scheduler, scheduler_alias
from denoisers import record_batch_sizes
from tiny_pipelines import FAMILIES

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),  # of NumPy 2, inside diffusers
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),  # of torchsde, about rounding errors
]

A, B = "snow leopard", "bengal tiger"

COMPATIBLE = sorted({scheduler_alias(cls.__name__) for cls in diffusers.PNDMScheduler().compatibles} - {"edmeuler"})
STEPS = 6
NUM_CALLS = dict.fromkeys(("heun", "kdpm2", "kdpm2ancestral", "dpmsolversde"), 2 * STEPS - 1) | {"pndm": STEPS + 1}  # else STEPS
QUICK = ("lms", "heun", "pndm", "ddpm", "dpmsolversde")


def test_there_are_many_schedulers():
    assert len(COMPATIBLE) >= 14
    assert set(QUICK) <= set(COMPATIBLE)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMPATIBLE])
def test_every_scheduler(tiny_sd, monkeypatch, name):
    """T states are visited however often the model is called, with decreasing noise. Each row has its own noise at each step."""
    process = conjure.load(tiny_sd, steps=STEPS, guidance=2.0, scheduler=name)
    batch_sizes = record_batch_sizes(process, monkeypatch)
    estimate = conjure.distance(process, A, B, samples=2)
    assert len(batch_sizes) == NUM_CALLS.get(name, STEPS)
    assert len(estimate.per_step) == len(set(estimate.timesteps)) == STEPS
    assert estimate.distance > 0
    assert list(estimate.snr) == sorted(estimate.snr)
    small_batches = conjure.distance(process.set(batch_size=2), A, B, samples=2)
    assert small_batches.samples == pytest.approx(estimate.samples, rel=1e-3)
    antithetic = conjure.distance(process, A, B, samples=2, antithetic=True)
    assert antithetic.backward == pytest.approx(estimate.backward, rel=1e-3)  # "bengal tiger" sorts first and keeps its noise
    assert antithetic.forward != pytest.approx(estimate.forward, rel=1e-3)


@pytest.mark.parametrize("name", ["heun", "pndm", "ddpm", "dpmsolvermultistep"])
def test_schedulers_agree_on_the_default_model(default_process, name):
    """Solvers of one equation give similar distances for a trained model."""
    estimate = conjure.distance(default_process.set(scheduler=name), A, B, samples=2)
    assert estimate.distance == pytest.approx(conjure.distance(default_process, A, B, samples=2).distance, rel=0.7)
    assert len(estimate.per_step) == 10


def test_runge_kutta_stages_of_pndm_are_not_states(tiny_sd):
    process = conjure.load(tiny_sd, scheduler="pndm")
    scheduler = process.scheduler.from_config(process.scheduler.config, skip_prk_steps=False)
    estimate = conjure.distance(replace(process, scheduler=scheduler), A, B, samples=1)
    assert len(set(estimate.timesteps)) == 10
    assert list(estimate.snr) == sorted(estimate.snr)


@pytest.mark.parametrize("spacing", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize(
    "name",
    [
        "dpmsolvermultistep",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dpmsolversinglestep", "deismultistep", "unipcmultistep", "kdpm2")
        ),
        "lms",
    ],
)
def test_noise_levels_where_timesteps_repeat(tiny_sd, name, spacing):
    """Of many steps several are rounded to one timestep; each keeps its noise level."""
    process = conjure.load(tiny_sd, scheduler=name, steps=50)
    if spacing not in process.scheduler.config:
        pytest.skip("the scheduler does not have this spacing")
    scheduler = process.scheduler.from_config(process.scheduler.config, **{spacing: True})
    estimate = conjure.distance(replace(process, scheduler=scheduler), A, B, samples=1)
    assert len(set(estimate.snr)) == 50
    assert list(estimate.snr) == sorted(estimate.snr)
    scheduler.set_timesteps(50)
    noise_to_signal = [snr**-0.5 for snr in estimate.snr]
    visited = sorted({round(float(sigma), 6) for sigma in scheduler.sigmas if sigma > 0}, reverse=True)
    assert noise_to_signal == pytest.approx(visited[:50], rel=1e-3)


def test_noise_schedules_are_kept():
    """LMS does not support zero terminal SNR: it is refused, and the model's own scheduler is the default."""
    zero_terminal_snr = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_schedule="scaled_linear"
    )
    assert type(make_scheduler(zero_terminal_snr, None)) is diffusers.EulerDiscreteScheduler
    assert make_scheduler(zero_terminal_snr, "ddim").config.rescale_betas_zero_snr
    with pytest.raises(InputError, match="'lms' does not support the noise schedule"):
        make_scheduler(zero_terminal_snr, "lms")
    assert type(make_scheduler(diffusers.CogVideoXDDIMScheduler(), None)) is diffusers.CogVideoXDDIMScheduler


def test_continuous_timesteps_are_kept():
    """A network whose timesteps are logarithms of noise levels runs with no scheduler that has others."""
    continuous = diffusers.EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous")
    assert type(make_scheduler(continuous, None)) is diffusers.EulerDiscreteScheduler
    with pytest.raises(InputError, match="'lms' does not support the noise schedule"):
        make_scheduler(continuous, "lms")


def test_latents_are_not_clipped(tiny_sd):
    """Pixels are in -1..1, latents are not. DDIM and DDPM clip by default, if the model's own scheduler does not say whether."""
    for name in ("ddim", "ddpm"):
        assert make_scheduler(diffusers.PNDMScheduler(), name).config.clip_sample is False
        assert make_scheduler(diffusers.DDPMScheduler(), name).config.clip_sample is True
        process = conjure.load(tiny_sd, scheduler=name, steps=3)
        assert process.run([A], [0]).abs().max() > 1


def test_a_shift_that_the_configuration_does_not_have_is_refused():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert make_scheduler(scheduler, None).shift == 3.0
    scheduler.set_shift(9.0)
    for name in (None, "own"):
        with pytest.raises(InputError, match="set_shift changed the shift .* to 9.0, but its configuration has 3.0"):
            make_scheduler(scheduler, name)


@pytest.mark.parametrize(("name", "settings"), [("dpmsolversde", {}), ("own", {"stochastic_sampling": True})])
def test_step_noise_of_images_depends_on_their_seeds_alone(tiny_sd, tmp_path, name, settings):
    """Neither the global generator nor the other rows of a batch change an image; a negative seed does."""
    folder = FAMILIES["Stable Diffusion 3"].save(tmp_path) if settings else tiny_sd
    process = conjure.load(folder, scheduler=name, steps=3, guidance=2.0)
    process = replace(process, scheduler=process.scheduler.from_config(process.scheduler.config, **settings))
    torch.manual_seed(1)
    alone = process.run([A], [5])
    torch.manual_seed(2)
    assert torch.equal(process.run([A], [5]), alone)
    assert torch.allclose(process.run([B, A], [4, 5])[1], alone[0], rtol=1e-2, atol=1e-2)
    assert not torch.allclose(process.run([A], [-5]), alone, atol=0.1)


def test_schedulers_without_noise_levels_are_refused(default_process):
    with pytest.raises(InputError, match="EDMEulerScheduler"):
        conjure.distance(default_process.set(scheduler="edmeuler"), A, B, samples=1)


def test_a_named_scheduler_is_spaced_as_in_the_paper(tiny_sd):
    process = conjure.load(tiny_sd)
    process.pipeline.scheduler = process.scheduler.from_config(process.scheduler.config, timestep_spacing="leading")
    assert process.set(scheduler="lms").scheduler.config.timestep_spacing == "linspace"
    assert process.set(scheduler="ddim").scheduler.config.timestep_spacing == "linspace"
    assert process.set(scheduler="own").scheduler.config.timestep_spacing == "leading"

"""The engine on real pipelines: against a plain Algorithm 1, and what must hold whatever the model."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from plain import algorithm_1, guided_pixart, guided_unet

import conjure
from conjure import InputError
from conjure.estimate import noise_seed
from conjure.run import Source, run

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default, tiny_sd):
    return default if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)


def guided_of(process):
    if "transformer" in process.pipeline.components:
        return guided_pixart(process.pipeline, process.guidance, process.call["max_sequence_length"])
    return guided_unet(process.pipeline, process.guidance)


def noise_of(process, seed):
    network = process.pipeline.components.get("unet") or process.pipeline.transformer
    shape = (1, network.config.in_channels, network.config.sample_size, network.config.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_agrees_with_plain_algorithm_1(process):
    estimate = conjure.distance(process, A, B, samples=2, seed=3)
    noises = [noise_of(process, noise_seed(3, sample)) for sample in range(2)]
    guided, as_noise = guided_of(process), process.unit == "epsilon"
    plain = [algorithm_1(guided, process.scheduler, noise, A, B, process.steps, as_noise) for noise in noises]
    assert estimate.samples == pytest.approx([one.forward + one.backward for one in plain], rel=1e-4)
    assert estimate.forward == pytest.approx(np.mean([one.forward for one in plain]), rel=1e-4)
    assert estimate.backward == pytest.approx(np.mean([one.backward for one in plain]), rel=1e-4)
    assert estimate.per_step == pytest.approx(np.mean([one.per_step for one in plain], axis=0), rel=1e-3)
    direct = conjure.distance(process, A, B, samples=2, seed=3, divergence="direct")
    ends = [float((one.finals[0] - one.finals[1]).square().sum()) for one in plain]
    assert direct.samples == pytest.approx(ends, rel=1e-3)


def test_divergences_come_from_the_same_steps(process):
    def of(name):
        return conjure.distance(process, A, B, samples=1, divergence=name)

    whole = of("jeffreys")
    assert of("kl").distance == pytest.approx(whole.forward, rel=1e-5)
    assert whole.distance == pytest.approx(whole.forward + whole.backward, rel=1e-5)
    assert sum(whole.per_step) == pytest.approx(whole.distance)
    assert of("initial").distance == pytest.approx(whole.per_step[0] * process.steps, rel=1e-5)
    assert of("final").distance == pytest.approx(whole.per_step[-1] * process.steps, rel=1e-5)


def test_driver_rows_are_the_stock_run(process):
    """What drives is the pipeline's own trajectory, judged or not."""
    seed = noise_seed(0, 0)
    (judged,) = run(process, [Source(A, seed, (B, "a house"))])
    network = noise_of(process, seed)
    stock = process.run([A], [seed])
    assert judged.final.numpy() == pytest.approx(stock[0].float().numpy(), rel=1e-3, abs=1e-4)
    assert network.shape[1:] == judged.final.shape


def test_a_text_has_no_distance_to_itself(process):
    estimate = conjure.distance(process, A, A, samples=2)
    assert estimate.distance == 0
    assert conjure.distance(process, A, A, samples=1, divergence="direct").distance == 0


def test_symmetry(process):
    there, back = conjure.distance(process, A, B), conjure.distance(process, B, A)
    assert there.samples == pytest.approx(back.samples, rel=1e-5)
    assert (there.forward, there.backward) == pytest.approx((back.backward, back.forward), rel=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_batch_size_changes_nothing(process, rows):
    whole, parts = (conjure.distance(one, A, B, samples=4) for one in (process, process.set(rows=rows)))
    assert whole.samples == pytest.approx(parts.samples, rel=1e-5)


def test_a_batch_that_does_not_fit_is_halved(process, monkeypatch):
    from conjure import lockstep

    tried = []

    def follow(process, texts, *rest):
        tried.append(len(texts))
        if len(texts) > 4:
            raise torch.OutOfMemoryError
        return lockstep.follow(process, texts, *rest)

    whole = conjure.distance(process, A, B, samples=3)
    monkeypatch.setattr("conjure.run.follow", follow)
    shown = []
    halved = conjure.distance(process, A, B, samples=3, progress=lambda done, total: shown.append((done, total)))
    assert tried == [12, 6, 2, 4, 6, 2, 4]
    assert halved.samples == pytest.approx(whole.samples, rel=1e-5)
    assert shown[-1] == (6 * process.steps, 6 * process.steps)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)


def test_order_and_company_change_nothing(process):
    sources = [Source(text, noise_seed(0, sample), ("a red car", B)) for text in (A, B, "pizza") for sample in range(2)]
    together = {one.source: one.squared for one in run(process, sources)}
    backwards = {one.source: one.squared for one in run(process, sources[::-1])}
    for source in sources:
        (alone,) = run(process, [source])
        np.testing.assert_allclose(alone.squared, together[source], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(backwards[source], together[source], rtol=1e-5, atol=1e-9)


def test_more_samples_keep_the_first(process):
    few, many = conjure.distance(process, A, B, samples=2), conjure.distance(process, A, B, samples=4)
    assert many.samples[:2] == pytest.approx(few.samples, rel=1e-5)


def test_another_process_gives_the_same_numbers(default):
    code = "import conjure, json; print(json.dumps(conjure.distance(conjure.load(), 'snow leopard', 'bengal tiger').to_dict()))"
    told = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    here = conjure.distance(default, A, B)
    assert told["samples"] == pytest.approx(here.samples, rel=1e-6)
    assert told["identity"] == here.identity


def count_rows(module, counted):
    forward = module.forward

    def counting(*args, **kwargs):
        first = args[0] if args else kwargs["hidden_states"]
        counted.append(len(first))
        return forward(*args, **kwargs)

    return forward, counting


def test_a_pair_costs_six_denoiser_rows_a_step(process, monkeypatch):
    """Two directions times (without text, with either text); the plain loop evaluates twelve."""
    network = process.pipeline.components.get("unet") or process.pipeline.transformer
    counted: list[int] = []
    monkeypatch.setattr(network, "forward", count_rows(network, counted)[1])
    conjure.distance(process, A, B, samples=3)
    # at the first step both directions stand at the same noise, so they share all their rows
    assert counted == [3 * 3] + [3 * 6] * (process.steps - 1)
    counted.clear()
    plain = algorithm_1(guided_of(process), process.scheduler, noise_of(process, 0), A, B, process.steps)
    assert plain.forward > 0
    assert sum(counted) == 12 * process.steps


def test_the_pipeline_is_left_as_it_was(process):
    before = dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)
    conjure.distance(process, A, B, samples=1)
    with pytest.raises(InputError), pytest.warns(conjure.TextCutWarning):
        conjure.distance(process.set(scheduler="heun"), A, "word " * 500, samples=1)
    assert (dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)) == before
    assert all("forward" not in vars(part) for part in before[0].values() if isinstance(part, torch.nn.Module))


def test_identity_follows_what_changes_numbers(process):
    same = process.set(rows=3)
    others = [process.set(steps=5), process.set(guidance=1.0), process.set(scheduler="ddim")]
    assert same.identity() == process.identity()
    assert len({process.identity(), *(other.identity() for other in others)}) == 4
    network = process.pipeline.components.get("unet") or process.pipeline.transformer
    weight = next(network.parameters())
    before = process.identity()
    with torch.no_grad():
        weight.view(-1)[0] += 1e-3
        changed = process.identity()
        weight.view(-1)[0] -= 1e-3
    assert changed != before


@pytest.mark.parametrize(
    "scheduler", ["ddim", "euler", "eulerancestral", "ddpm", "dpmsolvermultistep", "unipcmultistep", "deismultistep"]
)
def test_other_schedulers(process, scheduler):
    estimate = conjure.distance(process.set(scheduler=scheduler), A, B, samples=2)
    assert estimate.distance > 0
    assert len(estimate.per_step) == process.steps
    apart = conjure.distance(process.set(scheduler=scheduler, rows=2), A, B, samples=2)
    assert apart.samples == pytest.approx(estimate.samples, rel=1e-4)  # step noise is a row's own, too


@pytest.mark.parametrize("scheduler", ["heun", "kdpm2", "pndm"])
def test_schedulers_that_visit_states_twice_are_refused(default, scheduler):
    with pytest.raises(InputError, match="visits each timestep once"):
        conjure.distance(default.set(scheduler=scheduler), A, B, samples=1)


def test_paper_defaults(tiny_sd):
    settings = conjure.load(tiny_sd).settings()
    assert (settings["steps"], settings["scheduler"], settings["guidance"], settings["unit"]) == (10, "lms", 7.5, "output")
    assert settings["scheduler_config"]["timestep_spacing"] == "linspace"
    estimate = conjure.distance(conjure.load(tiny_sd), A, B, samples=1)
    assert estimate.timesteps == tuple(range(999, -1, -111))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; allowed are whole numbers from 1 to 1000"),
        ({"steps": 1001}, "from 1 to 1000"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"scheduler": "nope"}, "unknown scheduler 'nope'.*lms"),
        ({"unit": "metres"}, "unknown unit 'metres'; allowed are output, epsilon, x0"),
        ({"sampels": 2}, "unknown setting 'sampels'"),
    ],
)
def test_settings_out_of_range(default, change, message):
    with pytest.raises(InputError, match=message):
        default.set(**change)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (("", B), {}, "the text '' is blank"),
        ((A, " \n\t"), {}, "is blank"),
        ((A, "\u200b\x01"), {}, "is blank"),
        ((A, "a\udcff"), {}, "not valid Unicode"),
        ((None, B), {}, "a text is None; allowed are strings"),
        ((A, B), {"samples": 0}, "samples is 0; allowed"),
        ((A, B), {"seed": -1}, "seed is -1; allowed"),
        ((A, B), {"divergence": "js"}, "unknown divergence 'js'; allowed are jeffreys"),
        ((A, B), {"weighting": "bits"}, "unknown weighting 'bits'; allowed are uniform, girsanov"),
        ((A, B), {"weighting": "girsanov", "divergence": "final"}, "no value in nats"),
    ],
)
def test_bad_input(default, texts, options, message):
    with pytest.raises(InputError, match=message):
        conjure.distance(default, *texts, **options)


def test_unknown_symbols_are_noticed(default):
    """Two emoji are one and the same to a tokenizer that knows neither: a distance of 0 that must not pass in silence."""
    with pytest.warns(conjure.TextCutWarning, match="symbols that this model's encoder does not know"):
        assert conjure.distance(default, "🐱", "✈️", samples=1).distance == 0


def test_own_lms_is_spaced_as_in_the_paper(tiny_sd):
    process = conjure.load(tiny_sd)
    process.pipeline.scheduler = process.scheduler.from_config(process.scheduler.config, timestep_spacing="leading")
    assert process.set(scheduler="lms").scheduler.config.timestep_spacing == "linspace"
    assert process.set(scheduler="ddim").scheduler.config.timestep_spacing == "linspace"
    assert process.set(scheduler="own").scheduler.config.timestep_spacing == "leading"


def test_overflow_is_an_error(default):
    with pytest.raises(InputError, match="overflow"):
        conjure.distance(default.set(guidance=1e30), A, B, samples=1)


def test_a_cut_text_is_noticed(default, tiny_sd):
    long = "a very long story " * 40
    with pytest.warns(conjure.TextCutWarning, match=r"encoder takes 64: .*does not count"):
        conjure.distance(default, A, long, samples=1)
    with pytest.warns(conjure.TextCutWarning, match="encoder takes 77"):
        conjure.distance(conjure.load(tiny_sd, steps=2), A, long, samples=1)
    conjure.distance(default, A, "word " * 62, samples=1)  # 64 tokens with both ends: just fits, and warns of nothing

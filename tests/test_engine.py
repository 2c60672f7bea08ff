"""The engine on real pipelines: against a plain Algorithm 1, and what must hold whatever the model."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from families import FAMILIES
from plain import algorithm_1, guided_pixart, guided_unet

import conjure
from conjure import InputError, identity
from conjure.estimate import Noise, noise_seed
from conjure.lockstep import follow
from conjure.process import scheduler_for, short
from conjure.run import Source, run
from conjure.similarity import sources_of

A, B = "snow leopard", "bengal tiger"


@pytest.fixture(scope="module", params=["default", "stable diffusion"])
def process(request, default, tiny_sd):
    return default if request.param == "default" else conjure.load(tiny_sd, guidance=2.0)


def guided_of(process):
    if "transformer" in process.pipeline.components:
        return guided_pixart(process.pipeline, process.guidance, process.call["max_sequence_length"])
    return guided_unet(process.pipeline, process.guidance)


def noise_of(process, seed):
    network = network_of(process)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-3), ("float16", 1e-2), ("bfloat16", 1e-1)])
def test_same_numbers_on_cuda(dtype, apart):
    """The tolerance that docs/howto/cluster.md states, over batch sizes and against the CPU (float32 there)."""
    one = conjure.load(device="cuda", dtype=dtype, steps=3)
    whole, parts = (conjure.distance(one.set(rows=rows), A, B, samples=12).samples for rows in (96, 7))
    assert whole == pytest.approx(parts, rel=apart)
    here = conjure.load(device="cpu", steps=3)
    assert conjure.distance(here, A, B, samples=12).distance == pytest.approx(sum(whole) / 12, rel=apart)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_batch_size_changes_nothing(process, rows):
    few = process.set(steps=3)
    whole, parts = (conjure.distance(one, A, B, samples=12) for one in (few.set(rows=96), few.set(rows=rows)))  # 72 rows
    assert whole.samples == pytest.approx(parts.samples, rel=1e-5)


def test_rows_are_a_limit(process, monkeypatch):
    counted: list[int] = []
    monkeypatch.setattr(network_of(process), "forward", count_rows(network_of(process), counted))
    conjure.matrix(process.set(rows=4), [A, B, "pizza", "a house", "a red car"], samples=1)
    assert max(counted) <= 4
    assert sum(counted) <= 5 * 6 * process.steps


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GB")])
def test_a_batch_that_does_not_fit_is_halved(process, monkeypatch, error):
    network, whole, tried = network_of(process), conjure.distance(process, A, B, samples=3), list[int]()
    forward = network.forward

    def small(*args, **kwargs):
        rows = len(args[0] if args else kwargs["hidden_states"])
        tried.append(rows)
        if rows > 4:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", small)
    shown = list[tuple[int, int]]()
    halved = conjure.distance(process, A, B, samples=3, progress=lambda done, total: shown.append((done, total)))
    assert 1 <= len([rows for rows in tried if rows > 4]) <= 5  # once found, the size that fits stays
    assert halved.samples == pytest.approx(whole.samples, rel=1e-5)
    assert shown[-1] == (6 * process.steps, 6 * process.steps)


def test_not_even_one_row_fits(process, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(network_of(process), "forward", full)
    with pytest.raises(InputError, match="not even one row fits into the memory of cpu; use --dtype"):
        conjure.distance(process, A, B)


def test_rows_grow_to_fill_an_accelerator(monkeypatch):
    """The arithmetic of it, on numbers as a GPU would tell them: 10 GB of weights, 90 GB free, 1 GB a row."""
    from conjure.memory import MOST, Rows

    giga = 10**9
    peak = [0]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peak[0])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10 * giga)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30 * giga)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70 * giga, 100 * giga))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    rows = Rows(torch.device("cuda"))
    peak[0] = 10 * giga + rows.number * giga
    rows.fitted(rows.number)
    assert rows.number == 64  # four times as many; 72 would fill 0.8 of the 90 GB
    peak[0] = 10 * giga + rows.number * giga
    rows.fitted(rows.number)
    assert rows.number == 72
    peak[0] = 10 * giga + 1
    for _ in range(5):
        rows.fitted(rows.number)
    assert rows.number == MOST
    assert rows.failed(torch.OutOfMemoryError())
    rows.fitted(rows.number)
    assert rows.number == MOST // 2  # what failed once is not tried again
    assert not rows.failed(ValueError("another thing"))
    fixed = Rows(torch.device("cuda"), 5)
    fixed.fitted(5)
    assert fixed.number == 5


def test_order_and_company_change_nothing(process):
    sources = [Source(text, noise_seed(0, sample), ("a red car", B)) for text in (A, B, "pizza") for sample in range(2)]
    together = {one.source: one.squared for one in run(process, sources)}
    backwards = {one.source: one.squared for one in run(process, sources[::-1])}
    for source in sources:
        (alone,) = run(process, [source])
        for other in (alone.squared, backwards[source]):
            np.testing.assert_allclose(other.sum(1), together[source].sum(1), rtol=1e-5, atol=1e-9)
            np.testing.assert_allclose(other, together[source], rtol=1e-4, atol=1e-9)


def test_more_samples_keep_the_first(process):
    few, many = conjure.distance(process, A, B, samples=2), conjure.distance(process, A, B, samples=4)
    assert many.samples[:2] == pytest.approx(few.samples, rel=1e-5)


def test_another_process_gives_the_same_numbers(default):
    code = "import conjure, json; print(json.dumps(conjure.distance(conjure.load(), 'snow leopard', 'bengal tiger').to_dict()))"
    told = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    here = conjure.distance(default, A, B)
    assert told["samples"] == pytest.approx(here.samples, rel=1e-6)
    assert told["identity"] == here.identity


def network_of(process):
    return process.pipeline.components.get("unet") or process.pipeline.transformer


def count_rows(module, counted):
    forward = module.forward

    def counting(*args, **kwargs):
        counted.append(len(args[0] if args else kwargs["hidden_states"]))
        return forward(*args, **kwargs)

    return counting


def test_a_pair_costs_six_denoiser_rows_a_step(process, monkeypatch):
    """Two directions times (without text, with either text); the plain loop evaluates twelve."""
    counted: list[int] = []
    monkeypatch.setattr(network_of(process), "forward", count_rows(network_of(process), counted))
    conjure.distance(process, A, B, samples=3)
    # at the first step both directions stand at the same noise, so they share all their rows
    assert counted == [3 * 3] + [3 * 6] * (process.steps - 1)
    counted.clear()
    plain = algorithm_1(guided_of(process), process.scheduler, noise_of(process, 0), A, B, process.steps)
    assert plain.forward > 0
    assert sum(counted) == 12 * process.steps


def test_a_matrix_costs_n_times_n_plus_one_rows_a_step(process, monkeypatch):
    """72 for eight texts, of which the plain loop evaluates 336; and the numbers are those of pairs one by one."""
    texts = ["puppy", "poodle", "whale", "shark", "a red car", "pizza", "the sun", "a house"]
    counted: list[int] = []
    process = process.set(steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(network_of(process), "forward", count_rows(network_of(process), counted))
        matrix = conjure.matrix(process.set(rows=1000), texts, samples=2)
    assert counted == [2 * 9] + [2 * 72] * (process.steps - 1)
    for i, j in ((0, 1), (2, 7), (5, 3)):
        alone = conjure.distance(process, texts[i], texts[j], samples=2)
        assert matrix.distance[i, j] == matrix.distance[j, i] == pytest.approx(alone.distance, rel=1e-5)
        assert matrix.stderr[i, j] == matrix.stderr[j, i] == pytest.approx(alone.stderr, rel=1e-3)
    assert not matrix.distance.diagonal().any()


def test_no_more_rows_than_guidance_needs(process, monkeypatch):
    counted: list[int] = []
    monkeypatch.setattr(network_of(process), "forward", count_rows(network_of(process), counted))
    conjure.distance(process.set(guidance=1.0), A, B, samples=1)
    assert counted == [2] + [4] * (process.steps - 1)


def test_texts_are_encoded_once_and_trajectories_walked_once(process, monkeypatch):
    """Three pairs over three texts: three trajectories a sample, and three texts and the empty one to encode, in any batches."""
    encoder, network = process.pipeline.text_encoder, network_of(process)
    encoded: list[int] = []
    rows: list[int] = []
    forward = encoder.forward

    def counting(*args, **kwargs):
        encoded.append(len(args[0] if args else kwargs["input_ids"]))
        return forward(*args, **kwargs)

    pairs = [(A, B), (B, "pizza"), ("pizza", A), (A, B)]
    alone = [conjure.distance(process, *pair, samples=2).samples for pair in pairs]
    monkeypatch.setattr(encoder, "forward", counting)
    monkeypatch.setattr(network, "forward", count_rows(network, rows))
    together = conjure.distances(process.set(rows=8), pairs, samples=2)
    assert encoded == [1] * 4
    assert sum(rows) <= 2 * 3 * 4 * process.steps
    assert [estimate.samples for estimate in together] == [pytest.approx(one, rel=1e-5) for one in alone]
    assert together[2].texts == ("pizza", A)


def test_direct_output_of_many_pairs(process):
    pairs = [(A, B), (B, "pizza")]
    together = conjure.distances(process, pairs, samples=2, divergence="direct")
    for pair, estimate in zip(pairs, together, strict=True):
        alone = conjure.distance(process, *pair, samples=2, divergence="direct")
        assert estimate.samples == pytest.approx(alone.samples, rel=1e-4)


def test_kl_matrices_have_a_direction(process):
    matrix = conjure.matrix(process, [A, B, "pizza"], samples=2, divergence="kl")
    there, back = (conjure.distance(process, *pair, samples=2, divergence="kl").distance for pair in ((A, B), (B, A)))
    assert (matrix.distance[0, 1], matrix.distance[1, 0]) == (pytest.approx(there, rel=1e-5), pytest.approx(back, rel=1e-5))


def test_more_judges_than_one_batch_holds(default):
    """Their source is split, and nobody notices."""
    texts = [f"{word} {number}" for word in ("apple", "boat") for number in range(80)]
    sources = sources_of([("pizza", text) for text in texts], range(1), Noise())
    assert [len(source.targets) for source in sources if source.text == "pizza"] == [128, 32]
    small = default.set(steps=2)
    one, *_, last = conjure.distances(small, [("pizza", text) for text in texts], samples=1)
    assert one.distance == pytest.approx(conjure.distance(small, "pizza", texts[0], samples=1).distance, rel=1e-5)
    assert last.distance == pytest.approx(conjure.distance(small, "pizza", texts[-1], samples=1).distance, rel=1e-5)


def test_precision(default):
    """Samples are drawn until the interval is as narrow as wanted, the first ones being those of any run."""
    rough = conjure.distance(default, A, B)
    fine = conjure.distance(default, A, B, precision=0.05)
    assert (fine.ci95[1] - fine.ci95[0]) / 2 <= 0.05 * fine.distance
    assert len(fine.samples) > len(rough.samples)
    assert fine.samples[:3] == pytest.approx(rough.samples, rel=1e-5)
    assert len(conjure.distance(default, A, B, precision=10.0).samples) == 3
    assert len(conjure.distance(default, A, A, samples=1, precision=0.1).samples) == 2
    shown = conjure.explain(default.set(steps=2), A, B, precision=0.2)
    assert len(shown.estimate.samples) >= 3


def test_antithetic_noise(default):
    """The text that sorts second starts from the opposite noise; the error falls, the value stays, and pairs stay symmetric."""
    plain, mirrored = (conjure.distance(default, A, B, samples=24, antithetic=which) for which in (False, True))
    back = conjure.distance(default, B, A, samples=24, antithetic=True)
    assert mirrored.backward == pytest.approx(plain.backward, rel=1e-5)  # bengal before snow
    assert mirrored.samples == pytest.approx(back.samples, rel=1e-5)
    assert abs(mirrored.distance - plain.distance) < 3 * np.hypot(mirrored.stderr, plain.stderr)
    assert mirrored.to_dict()["antithetic"]
    with pytest.raises(InputError, match="without antithetic noise"):
        conjure.distance(default, A, B, antithetic=True, divergence="direct")
    assert conjure.distance(default, A, A, samples=1, antithetic=True).distance == 0


def assert_opposite(process):
    points: list[torch.Tensor] = []
    for seed in (7, -7):
        follow(process, [A], [0], [seed], lambda visit: points.append(visit.x_t))
    for one, other in zip(points[: process.steps], points[process.steps :], strict=True):
        np.testing.assert_allclose(one, -other, atol=1e-4)


@pytest.mark.parametrize("scheduler", ["lms", "ddpm", "eulerancestral", "kdpm2ancestral"])
def test_opposite_noise_is_the_opposite(process, monkeypatch, scheduler):
    """All that a pipeline draws, at the start and at the steps: under a network that says nothing, the paths are opposite."""
    network = network_of(process)
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *args, **kwargs: tuple(part * 0 for part in forward(*args, **kwargs)))
    assert_opposite(process.set(scheduler=scheduler))


def test_opposite_step_noise_where_the_pipeline_gives_no_generator(tmp_path, monkeypatch):
    family = FAMILIES["Stable Diffusion 3"]
    process = conjure.load(family.build(), steps=4, **family.settings)
    scheduler = process.scheduler.from_config(process.scheduler.config, stochastic_sampling=True)
    network = process.pipeline.transformer
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *args, **kwargs: tuple(part * 0 for part in forward(*args, **kwargs)))
    assert_opposite(replace(process, scheduler=scheduler))


def test_noise_schedules_are_kept(tiny_sd):
    """LMS does not know zero terminal SNR: the model's own sampler is taken instead, and LMS refused."""
    own = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_schedule="scaled_linear"
    )
    assert type(scheduler_for(own, None)) is diffusers.EulerDiscreteScheduler
    assert scheduler_for(own, "ddim").config.rescale_betas_zero_snr
    with pytest.raises(InputError, match="'lms' does not know the noise schedule"):
        scheduler_for(own, "lms")
    assert type(scheduler_for(diffusers.CogVideoXDDIMScheduler(), None)) is diffusers.CogVideoXDDIMScheduler


@pytest.mark.parametrize("spacing", ["use_karras_sigmas", "use_exponential_sigmas"])
@pytest.mark.parametrize("name", ["dpmsolvermultistep", "dpmsolversinglestep", "deismultistep", "unipcmultistep", "kdpm2", "lms"])
def test_levels_where_timesteps_repeat(tiny_sd, name, spacing):
    """Of many steps some are rounded to one timestep; each keeps its own level."""
    process = conjure.load(tiny_sd, scheduler=name, steps=50)
    if spacing not in process.scheduler.config:
        pytest.skip("not a spacing of this scheduler")
    scheduler = process.scheduler.from_config(process.scheduler.config, **{spacing: True})
    estimate = conjure.distance(replace(process, scheduler=scheduler), A, B, samples=1)
    assert len(set(estimate.snr)) == 50
    assert list(estimate.snr) == sorted(estimate.snr)
    scheduler.set_timesteps(50)
    k = [ratio**-0.5 for ratio in estimate.snr]
    visited = sorted({round(float(sigma), 6) for sigma in scheduler.sigmas if sigma > 0}, reverse=True)
    assert k == pytest.approx(visited[:50], rel=1e-3)


def test_company_is_known_however_a_process_is_made():
    family = FAMILIES["CogView4"]
    pipeline = family.build()
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    process = conjure.Process(pipeline, scheduler, steps=3, guidance=5.0, height=64, width=64)
    assert process.alone
    assert process.set(steps=2).alone

    class Mine(type(pipeline)):  # type: ignore[misc]
        pass

    assert conjure.load(Mine(**pipeline.components)).alone
    texts = [(A, A), (A, "a much longer text " * 5), (B, A)]
    together = conjure.distances(process, texts, samples=2, antithetic=True)
    assert together[0].distance == 0
    for pair, estimate in zip(texts, together, strict=True):
        assert estimate.samples == pytest.approx(conjure.distance(process, *pair, samples=2, antithetic=True).samples, rel=1e-5)


@pytest.mark.parametrize("scheduler", ["lms", "ddpm", "eulerancestral", "heun"])
def test_apart_is_lockstep(tiny_sd, scheduler):
    """Where company does not count, walking first and judging afterwards gives the same."""
    process = conjure.load(tiny_sd, scheduler=scheduler, steps=5, guidance=2.0)
    for options in ({}, {"antithetic": True}, {"divergence": "direct"}):
        lockstep, apart = (conjure.distance(one, A, B, samples=3, **options) for one in (process, process.set(alone=True)))
        assert apart.samples == pytest.approx(lockstep.samples, rel=1e-3)


def test_training_mode_is_refused(tiny_sd):
    pipeline = conjure.load(tiny_sd).pipeline
    pipeline.text_encoder.train()
    with pytest.raises(InputError, match="'text_encoder' is in training mode"):
        conjure.load(pipeline)


def test_one_side_of_a_picture_is_refused(tiny_sd):
    with pytest.raises(InputError, match="height is 128 and width is None; give both or neither"):
        conjure.load(tiny_sd, height=128)


def test_identity_is_the_same_after_use(default):
    """Tokenizers remember how they were last asked to cut and pad, which changes nothing that is asked next."""
    fresh = conjure.load()
    before = fresh.identity()
    conjure.distance(fresh.set(steps=1), "sun", "moon", samples=1)
    fresh.pipeline.tokenizer(["a", "longer text"], padding=True, truncation=True, max_length=5)
    identity._digests.clear()
    assert fresh.identity() == before == default.identity()


def test_identity_follows_configurations():
    pipeline = FAMILIES["Flux 2 Klein"].build()
    process = conjure.load(pipeline, height=64, width=64)
    before = process.identity()
    pipeline.register_to_config(is_distilled=True)
    changed = process.identity()
    assert changed != before
    pipeline.tokenizer.chat_template += " "
    pipeline.register_to_config(is_distilled=False)


@pytest.mark.parametrize(
    "pairs", [["ab"], [("a", "b", "c")], ["sun", "moon"], [3], [("sun", None)]], ids=["word", "three", "words", "number", "none"]
)
def test_pairs_that_are_none(default, pairs):
    with pytest.raises(InputError):
        conjure.distances(default, pairs)


def test_pairs_and_texts_from_iterators(default):
    small = default.set(steps=2)
    (estimate,) = conjure.distances(small, zip(["sun"], ["moon"], strict=True), samples=1)
    assert estimate.texts == ("sun", "moon")
    assert conjure.matrix(small, (text for text in ("sun", "moon")), samples=1).texts == ("sun", "moon")
    for texts in ("abc", ["sun"], ["sun", "sun"]):
        with pytest.raises(InputError):
            conjure.matrix(small, texts)


def test_precision_that_is_never_reached(default, monkeypatch):
    monkeypatch.setattr("conjure.similarity.MOST_SAMPLES", 5)
    for precision in (1e-9, 1e-200, 5e-324):
        assert len(conjure.distance(default.set(steps=2), A, B, precision=precision).samples) == 5


def test_pictures_that_do_not_fit_are_decoded_in_parts(tiny_sd, monkeypatch):
    process = conjure.load(tiny_sd, steps=2)
    whole = conjure.explain(process, A, B, samples=1)
    decode = process.pipeline.vae.decode

    def small(latents, *args, **kwargs):
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return decode(latents, *args, **kwargs)

    monkeypatch.setattr(process.pipeline.vae, "decode", small)
    np.testing.assert_allclose(conjure.explain(process, A, B, samples=1).forward.first, whole.forward.first, atol=1e-4)


def test_antithetic_matrices_share_trajectories(process, monkeypatch):
    """Both signs of a trajectory are walked, each judged by its part of the texts: N (N - 1) + 4 N rows, less the two ends."""
    counted: list[int] = []
    texts = [f"thing {letter}" for letter in "abcde"]
    process = process.set(steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(network_of(process), "forward", count_rows(network_of(process), counted))
        matrix = conjure.matrix(process.set(rows=1000), texts, samples=1, antithetic=True)
    assert counted[-1] == 5 * 4 + 2 * 2 * 5 - 4
    alone = conjure.distance(process, texts[3], texts[1], samples=1, antithetic=True)
    assert matrix.distance[3, 1] == pytest.approx(alone.distance, rel=1e-5)


def test_mean_over_dimensions(process):
    whole, share = (conjure.distance(process, A, B, samples=2, reduction=name) for name in ("sum", "mean"))
    size = noise_of(process, 0).numel()
    assert share.samples == pytest.approx([sample / size for sample in whole.samples], rel=1e-6)
    assert share.unit.startswith("mean square")
    nats = conjure.distance(process, A, B, samples=2, reduction="mean", weighting="girsanov")
    assert nats.unit == "nats per dimension"


def test_nats_do_not_depend_on_the_unit(process):
    nats = {conjure.distance(process.set(unit=unit), A, B, samples=2, weighting="girsanov").samples for unit in ("epsilon", "x0")}
    assert len(nats) == 1


def test_the_pipeline_is_left_as_it_was(process, monkeypatch):
    before = dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)
    conjure.distance(process, A, B, samples=1)
    with monkeypatch.context() as patch:
        patch.setattr(network_of(process), "forward", lambda: None)
        with pytest.raises(InputError, match="cannot run 10 steps of these settings"), pytest.warns(conjure.TextCutWarning):
            conjure.distance(process, A, "word " * 500, samples=1)
    assert (dict(process.pipeline.components), process.pipeline.scheduler, dict(process.pipeline.config)) == before
    assert all("forward" not in vars(part) for part in before[0].values() if isinstance(part, torch.nn.Module))


def test_identity_follows_what_changes_numbers(process):
    same = process.set(rows=3)
    others = [process.set(steps=5), process.set(guidance=1.0), process.set(scheduler="ddim")]
    assert same.identity() == process.identity()
    assert len({process.identity(), *(other.identity() for other in others)}) == 4
    weight = next(network_of(process).parameters())
    before = process.identity()
    with torch.no_grad():
        weight.view(-1)[0] += 1e-3
        changed = process.identity()
        weight.view(-1)[0] -= 1e-3
    assert changed != before


def test_all_schedulers_of_diffusers(tiny_sd, monkeypatch):
    """Each visits T states however often it calls the model, tells its levels, and gives every row its own step noise."""
    process = conjure.load(tiny_sd, guidance=2.0)
    names = sorted({short(cls.__name__) for cls in process.scheduler.compatibles} - {"edmeuler"})
    assert len(names) >= 14
    calls: list[int] = []
    monkeypatch.setattr(network_of(process), "forward", count_rows(network_of(process), calls))
    for name in names:
        calls.clear()
        one = process.set(scheduler=name)
        estimate = conjure.distance(one, A, B, samples=2)
        assert len(calls) == {"heun": 19, "kdpm2": 19, "kdpm2ancestral": 19, "dpmsolversde": 19, "pndm": 11}.get(name, 10), name
        assert len(estimate.per_step) == len(set(estimate.timesteps)) == 10, name
        assert estimate.distance > 0
        assert list(estimate.snr) == sorted(estimate.snr), name
        apart = conjure.distance(one.set(rows=2), A, B, samples=2)
        assert apart.samples == pytest.approx(estimate.samples, rel=1e-3), name
        mirrored = conjure.distance(one, A, B, samples=2, antithetic=True)
        assert mirrored.backward == pytest.approx(estimate.backward, rel=1e-3), name  # bengal before snow
        assert mirrored.forward != pytest.approx(estimate.forward, rel=1e-3), name


@pytest.mark.parametrize("scheduler", ["heun", "pndm", "ddpm", "dpmsolvermultistep"])
def test_other_schedulers_on_the_default_model(default, scheduler):
    """Solvers of one equation agree roughly on what a trained model says."""
    estimate = conjure.distance(default.set(scheduler=scheduler), A, B, samples=2)
    assert estimate.distance == pytest.approx(conjure.distance(default, A, B, samples=2).distance, rel=0.7)
    assert len(estimate.per_step) == 10


def test_runge_kutta_stages_of_pndm_are_no_states(tiny_sd):
    process = conjure.load(tiny_sd, scheduler="pndm")
    scheduler = process.scheduler.from_config(process.scheduler.config, skip_prk_steps=False)
    process = replace(process, scheduler=scheduler)
    estimate = conjure.distance(process, A, B, samples=1)
    assert len(set(estimate.timesteps)) == 10
    assert list(estimate.snr) == sorted(estimate.snr)


def test_schedulers_without_levels_of_noise_are_refused(default):
    with pytest.raises(InputError, match="EDMEulerScheduler"):
        conjure.distance(default.set(scheduler="edmeuler"), A, B, samples=1)


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
        ({"unit": "metres"}, "unknown unit 'metres'; allowed are output, epsilon, x0, score, velocity"),
        ({"sampels": 2}, "unknown setting 'sampels'"),
        ({"store": "results.sqlite"}, r"store is 'results.sqlite'; give conjure.Store\('results.sqlite'\)"),
        ({"workers": 2}, r"workers is 2; give conjure.Workers\(2\)"),
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
        ((A, B), {"reduction": "max"}, "unknown reduction 'max'; allowed are sum, mean"),
        ((A, B), {"precision": 0}, "precision is 0; allowed are numbers above 0"),
        ((A, B), {"precision": float("nan")}, "precision is nan"),
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
    with pytest.raises(InputError, match="numbers are not finite"):
        conjure.distance(default.set(guidance=1e30), A, B, samples=1)


@pytest.mark.filterwarnings("ignore::conjure.TextCutWarning")
def test_a_cut_text_is_told_once(default, monkeypatch):
    """diffusers would log what is cut as well, with the padding of all other texts of the batch; other users still hear it."""
    said: list[str] = []
    log = logging.getLogger(type(default.pipeline).__module__)
    monkeypatch.setattr(log, "handle", lambda record: said.append(record.getMessage()) if log.filter(record) else None)
    monkeypatch.setattr(log, "level", logging.WARNING)
    long = "a very long story " * 40
    conjure.distance(default.set(steps=1), A, long, samples=1)
    assert said == []
    default.pipeline.encode_prompt(long, do_classifier_free_guidance=False, max_sequence_length=64, clean_caption=False)
    assert [line.partition(" because")[0] for line in said] == ["The following part of your input was truncated"]


def test_a_cut_text_is_noticed(default, tiny_sd):
    long = "a very long story " * 40
    with pytest.warns(conjure.TextCutWarning, match=r"encoder takes 64: .*does not count"):
        conjure.distance(default, A, long, samples=1)
    with pytest.warns(conjure.TextCutWarning, match="encoder takes 77"):
        conjure.distance(conjure.load(tiny_sd, steps=2), A, long, samples=1)
    conjure.distance(default, A, "word " * 62, samples=1)  # 64 tokens with both ends: just fits, and warns of nothing

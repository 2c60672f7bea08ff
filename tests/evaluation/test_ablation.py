"""Each point of an ablation is the result of its process; one run gives the results of settings that need no other run."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

import conjure
from conjure import InputError
from conjure.diffusion.noise_levels import NoiseLevel
from conjure.divergence.differences import PairDifferences
from conjure.divergence.divergences import DivergenceConfig
from conjure.engine.runner import iter_result_batches
from conjure.evaluation.ablation import POST_HOC_AXES, _make_processes, figure_name
from conjure.evaluation.axes import check_axes
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.evaluation.report import markdown
from conjure.evaluation.results import Evaluation
from conjure.evaluation.task_statistics import compute_distances, compute_task_result
from rated_pairs import write_pairs

TEXTS = ("puppy", "poodle", "shark", "red apple", "green apple", "train")
ROWS = [(a, b, float((3 * i + 5 * j) % 7)) for i, a in enumerate(TEXTS) for j, b in enumerate(TEXTS) if i < j]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_file(write_pairs(tmp_path_factory.mktemp("data") / "own.tsv", ROWS))


@pytest.fixture(scope="module")
def fast_process(default_process):
    return default_process.set(steps=3)


def spearman_of(process, pairs, **options):
    """Return the rank correlation of the distances of `process`, computed without an evaluation."""
    distances = [estimate.distance for estimate in conjure.distances(process, pairs.texts, **options)]
    return stats.spearmanr(-np.array(distances), pairs.scores).statistic


def test_points_are_the_results_of_their_processes(fast_process, pairs):
    vary: dict[str, list[object]] = {"steps": [2, 3], "guidance": [1.5], "scheduler": ["ddim"], "model": ["default"]}
    points = {(point.axis, point.value): point for point in conjure.ablate(fast_process, [pairs], vary).points}
    assert set(points) == {("steps", "2"), ("steps", "3"), ("guidance", "1.5"), ("scheduler", "ddim"), ("model", "default")}
    for key, process in {
        ("steps", "2"): fast_process.set(steps=2), ("guidance", "1.5"): fast_process.set(guidance=1.5),
        ("scheduler", "ddim"): fast_process.set(scheduler="ddim"), ("model", "default"): fast_process,
    }.items():  # fmt: skip
        assert points[key].agreements["own"].spearman == pytest.approx(spearman_of(process, pairs, samples=1)), key
        assert points[key].fingerprint == process.fingerprint()


def test_other_models_keep_unit_size_and_negative_prompt(tiny_sd, tmp_path):
    process = conjure.load(tiny_sd, steps=3, unit="x0", height=32, width=32, negative_prompt="blurry")
    conjure.load(tiny_sd).save(tmp_path / "other")
    other = _make_processes(process, "model", [str(tmp_path / "other")])[str(tmp_path / "other")]()
    changed = {name for name, value in other.settings().items() if value != process.settings()[name]}
    assert changed <= {"model", "guidance", "scheduler", "scheduler_config", "batch_prompts"}
    assert (other.default_unit, other.height, other.pipeline_kwargs) == ("x0", 32, process.pipeline_kwargs)


def test_one_run_gives_priors_samples_and_weightings(fast_process, pairs, tmp_path):
    ablation = conjure.ablate(fast_process, [pairs], {"prior": None, "samples": None, "weighting": None}, samples=2)
    stored = fast_process.set(store=conjure.Store(tmp_path / "store.sqlite"))  # the calls below share trajectories
    spearman = {(point.axis, point.value): point.agreements["own"].spearman for point in ablation.points}
    for k in (1, 2):
        assert spearman["samples", str(k)] == pytest.approx(spearman_of(stored, pairs, samples=k))
    first, *_, last = conjure.distance(stored, *pairs.texts[0]).timesteps
    for axis, value, divergence in (
        ("single step", f"{first:.0f}", "initial"),
        ("single step", f"{last:.0f}", "final"),
        ("prior", f"{first:.0f} to {last:.0f}", "jeffreys"),
    ):
        assert spearman[axis, value] == pytest.approx(spearman_of(stored, pairs, samples=2, divergence=divergence))
    assert [axis for axis, _ in spearman][:6] == ["prior"] * 3 + ["single step"] * 3
    for unit in ("epsilon", "x0", "score", "velocity", "output"):
        assert spearman["weighting", unit] == pytest.approx(spearman_of(stored, pairs, samples=2, unit=unit))
    assert spearman["weighting", "nats"] == pytest.approx(spearman_of(stored, pairs, samples=2, weighting="girsanov"))


def test_stored_results_are_not_computed_again(fast_process, pairs, tmp_path, monkeypatch):
    """The folder of an evaluation is used, and a second call computes nothing."""
    evaluate(fast_process, [pairs], out=tmp_path / "run")
    num_run = []

    def count_jobs(process, jobs, **options):
        num_run.append(len(jobs))
        return iter_result_batches(process, jobs, **options)

    monkeypatch.setattr("conjure.similarity.trajectory_cache.iter_result_batches", count_jobs)
    vary: dict[str, list[int] | None] = {"steps": [2, 3], "prior": None}
    for expected in ([0, len(TEXTS), 0], [0, 0, 0]):
        num_run.clear()
        conjure.ablate(fast_process, [pairs], vary, out=tmp_path / "run")
        assert num_run == expected
    assert json.loads((tmp_path / "run" / "run.json").read_text())["fingerprint"] == fast_process.fingerprint()


def test_ablate_command(conjure_command, tmp_path):
    path = write_pairs(tmp_path / "own.tsv", ROWS)
    vary = ("--vary", "steps=2", "--vary", "steps=3", "--vary", "prior")
    arguments = ("--data", path, "--steps", 2, "--out", tmp_path / "out", *vary)
    code, out, err = conjure_command("ablate", *arguments, "--json")
    cells = json.loads(out)["cells"]
    assert (code, "steps 3" in err) == (0, True)
    assert [cell["value"] for cell in cells if cell["axis"] == "steps"] == ["2", "3"]
    assert set(cells[0]) == {"axis", "value", "task", "spearman", "low", "high", "pairs", "fingerprint"}
    rows = list(csv.DictReader((tmp_path / "out" / "ablation.csv").read_text().splitlines()))
    assert [float(row["spearman"]) for row in rows] == [cell["spearman"] for cell in cells]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "ablation.json", "ablation.md", "ablation.html", "steps.png", "prior.png", "single-step.png"
    }  # fmt: skip
    assert (tmp_path / "out" / "ablation.html").read_text().count("data:image/png") == 3
    code, out, _ = conjure_command("ablate", *arguments)
    assert (code, "## " in (tmp_path / "out" / "ablation.md").read_text(), "steps" in out) == (0, True, True)


INVALID_AXES = [
    ({}, "no axis is given to vary; must be one or more of steps"),
    ({"colour": None}, "unknown axis 'colour'; must be one of steps, guidance"),
    ({"prior": [1]}, "takes no values, because one run gives all of them"),
    ({"size": None}, "needs values, for example size=512,768"),
    ({"model": None}, "needs values, for example model=MODEL,MODEL"),
]
INVALID_VALUES = [
    ({"steps": ["many"]}, "'many' is not a value of steps; must be an integer"),
    ({"steps": [0]}, "steps is 0; must be"),
    ({"steps": [2.9]}, "2.9 is not a value of steps; must be an integer"),
    ({"guidance": [-1]}, "guidance is -1"),
    ({"scheduler": ["nope"]}, "unknown scheduler 'nope'"),
]


@pytest.mark.parametrize(("vary", "message"), INVALID_AXES + INVALID_VALUES)
def test_invalid_settings_are_refused_before_anything_is_computed(fast_process, pairs, vary, message, monkeypatch):
    monkeypatch.setattr("conjure.evaluation.ablation.evaluate", None)
    with pytest.raises(InputError, match=message):
        conjure.ablate(fast_process, [pairs], vary)


@pytest.mark.parametrize(("vary", "message"), INVALID_AXES)
def test_invalid_axes_are_refused_without_a_model(vary, message):
    with pytest.raises(InputError, match=message):
        check_axes(vary)


def test_weightings_of_a_flow(pairs):
    """A flow starts at pure noise, where all units exist."""
    from analytic_pipelines import gaussian, process_of

    texts = {text: gaussian(float(i)) for i, text in enumerate(TEXTS)}
    ablation = conjure.ablate(process_of(texts, "flow", steps=4), [pairs], {"weighting": None})
    assert {point.value for point in ablation.points} == {"epsilon", "x0", "score", "velocity", "output", "nats"}


def test_distances_of_zero_at_pure_noise_are_left_out(pairs):
    """A flow starts at pure noise, where the unit of the noise has the weight 0: only this step has no correlation."""
    from analytic_pipelines import gaussian, process_of

    texts = {text: gaussian(float(i)) for i, text in enumerate(TEXTS)}
    process = process_of(texts, "flow", steps=4).set(default_unit="epsilon")
    ablation = conjure.ablate(process, [pairs], {"prior": None})
    assert "initial" not in ablation.base.tasks["own"].divergences
    assert {"jeffreys", "kl"} <= set(ablation.base.tasks["own"].divergences)
    assert [point.axis for point in ablation.points] == ["prior"] * 3 + ["single step"] * 3
    assert "| dataset | jeffreys | kl | final | direct |" in markdown(ablation.base)


def test_units_that_do_not_exist_are_left_out(pairs):
    """A noise model has no x0 at pure noise: the axis leaves that unit out, whereas the unit alone is an error."""
    rng = np.random.default_rng(0)
    levels = (NoiseLevel(0.0, 1.0), NoiseLevel(0.6, 0.8), NoiseLevel(0.8, 0.6))
    differences = [
        PairDifferences(
            forward=rng.uniform(size=(1, 3)), backward=rng.uniform(size=(1, 3)), direct=rng.uniform(size=1),
            prediction_type="epsilon", timesteps=(999.0, 500.0, 1.0), noise_levels=levels, dimensions=4,
        )
        for _ in range(len(pairs))
    ]  # fmt: skip
    with pytest.raises(InputError):
        compute_distances(differences, DivergenceConfig(unit="x0"))
    result = compute_task_result(pairs, differences, DivergenceConfig())
    base = Evaluation({"own": result}, result.config, {}, "fingerprint", samples=1, seed=0, antithetic=False, version="1")
    units = {point.value for point in POST_HOC_AXES["weighting"](base)}
    assert "x0" not in units
    assert {"epsilon", "output"} <= units


def test_old_names(fast_process, pairs):
    old_arguments: dict[str, Any] = {"over": {"samples": None}}
    with pytest.warns(DeprecationWarning, match="'over' of ablate\\(\\) was renamed to 'vary'"):
        ablation = conjure.ablate(fast_process, [pairs], **old_arguments)
    for data, old, new in (
        (ablation, "cells", "points"),
        (ablation, "broken", "non_finite_texts"),
        (ablation.points[0], "found", "agreements"),
        (ablation.points[0], "identity", "fingerprint"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old} was renamed to .*{new}"):
            assert getattr(data, old) is getattr(data, new)


def test_figure_names():
    assert figure_name("single step") == "single-step.png"

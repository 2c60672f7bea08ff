"""The comparison of two runs equals that of their tables, and images are those of the models of the runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from pyarrow import parquet
from scipy import stats

import conjure
from conjure import InputError
from conjure.diffusion.seeding import noise_seed
from conjure.errors import SafetyCheckerWarning
from conjure.evaluation.comparison import _generate, generate_images
from conjure.evaluation.datasets import read_file
from conjure.evaluation.evaluate import evaluate
from conjure.plotting.media import COLUMNS, MEL_BINS
from rated_pairs import write_pairs
from safe_pipelines import overflow_in_bfloat16, set_safety_checker
from tiny_pipelines import FAMILIES

TEXTS = ("puppy", "poodle", "shark", "red apple", "green apple", "train", "the sun", "a house")
ROWS = [(a, b, float((3 * i + 5 * j) % 11)) for i, a in enumerate(TEXTS) for j, b in enumerate(TEXTS) if i < j]


@pytest.fixture(scope="module")
def runs(default_process, tmp_path_factory):
    """The folder of two runs of the same pairs: the default model with two and with three steps."""
    folder = tmp_path_factory.mktemp("runs")
    pairs = read_file(write_pairs(folder / "own.tsv", ROWS))
    for steps in (2, 3):
        evaluate(default_process.set(steps=steps), [pairs], samples=2, out=folder / str(steps))
    return folder


def test_comparison_equals_that_of_the_tables(runs):
    task = conjure.diff(runs / "2", runs / "3").tasks["own"]
    tables = [parquet.read_table(runs / name / "own.parquet").to_pydict() for name in ("2", "3")]
    scores = np.array(tables[0]["score"])
    spearman = [stats.spearmanr(-np.array(table["distance"]), scores).statistic for table in tables]
    assert [agreement.spearman for agreement in task.agreements] == pytest.approx(spearman)
    assert task.difference.spearman == pytest.approx(spearman[0] - spearman[1])
    rank_correlation = stats.spearmanr(*(table["distance"] for table in tables)).statistic
    assert task.difference.rank_correlation == pytest.approx(rank_correlation)
    ranks = [stats.rankdata(-np.array(table["distance"])) for table in tables]
    changes = abs(ranks[0] - ranks[1]) * 100 / (len(scores) - 1)
    largest = task.rank_changes[0]
    assert abs(largest.ranks[0] - largest.ranks[1]) == pytest.approx(changes.max())
    assert len(task.rank_changes) == min(20, len(scores))
    with pytest.warns(DeprecationWarning, match="TaskComparison.moved was renamed to TaskComparison.rank_changes"):
        assert task.moved is task.rank_changes
    with pytest.warns(DeprecationWarning, match="RankChange.people was renamed to RankChange.human_rank"):
        assert largest.people == largest.human_rank


def test_run_compared_with_itself(runs):
    comparison = conjure.diff(runs / "2", runs / "2")
    difference = comparison.tasks["own"].difference
    assert (difference.spearman, difference.ci95, difference.rank_correlation) == (0, (0, 0), pytest.approx(1))
    assert difference.p == 1
    assert comparison.tasks["own"].rank_changes == []
    assert "rank changes" not in comparison.document().to_markdown()
    assert "Ranks are" not in comparison.document().to_markdown()
    assert generate_images(comparison, 2) == {}


def test_data_frame(runs):
    comparison = conjure.diff(runs / "2", runs / "3")
    (row,) = comparison.to_pandas().to_dict("records")
    difference = comparison.tasks["own"].difference.summary()
    assert (row["task"], row["pairs"], row["difference"]) == ("own", 28, difference["spearman"])
    assert row["spearman_first"] - row["spearman_second"] == pytest.approx(row["difference"], abs=0.011)


def test_runs_of_a_pipeline_in_memory_are_compared_without_images(conjure_command, runs, tmp_path):
    """It cannot be loaded again."""
    for guidance in ("2", "3"):
        shutil.copytree(runs / guidance, tmp_path / guidance)
        path = tmp_path / guidance / "summary.json"
        summary = json.loads(path.read_text())
        summary["process"]["model"] = "pipeline"
        path.write_text(json.dumps(summary))
    page = tmp_path / "diff.html"
    code, _, err = conjure_command("diff", tmp_path / "2", tmp_path / "3", "--images", 1, "--out", page)
    assert (code, "2 minus 3" in page.read_text(), "data:image" in page.read_text()) == (0, True, False)
    assert err.count("\n") == 2
    assert "images of the run" in err.splitlines()[0]
    assert err.splitlines()[0].endswith("; the comparison is written without images")
    assert "This page has no images: images of the run" in page.read_text()


def test_diff_command(conjure_command, runs, tmp_path):
    code, out, _ = conjure_command("diff", runs / "2", runs / "3", "--json")
    summary = json.loads(out)
    assert set(summary) == {"runs", "fingerprints", "measures", "antithetic", "tasks", "notes"}
    assert (code, set(summary["tasks"]["own"])) == (0, {"title", "pairs", "spearman", "ci95", "difference", "rank_changes"})
    assert set(summary["tasks"]["own"]["rank_changes"][0]) == {"texts", "ranks", "human_rank"}
    page = tmp_path / "diff.html"
    code, out, err = conjure_command("diff", runs / "2", runs / "3", "--images", 2, "--out", page)
    assert (code, "two runs" in out, err) == (0, True, f"wrote {page}\n")
    assert "2 minus 3" in page.read_text()
    assert page.read_text().count(", seed 0, ") == 2
    assert 'rank in 2</th><th class="number">rank in 3' in page.read_text()
    assert page.read_text().count("data:image/png;base64") == 2
    assert "http" not in page.read_text()


def test_the_measure_of_each_run_is_stated(default_process, runs, tmp_path):
    """Two runs of one process may have measured nats, or started from opposite noise."""
    pairs = read_file(runs / "own.tsv")
    evaluate(default_process.set(steps=2), [pairs], weighting="girsanov", antithetic=True, out=tmp_path / "nats", floors=False)
    comparison = conjure.diff(runs / "2", tmp_path / "nats")
    plain, nats = comparison.document().settings[:2]
    assert plain.startswith("2: jeffreys, uniform, squared norm of noise; default (PixArtAlphaPipeline), lms, T = 2")
    assert plain.endswith(f"k = 2, seed 0, {runs / '2'}")
    assert nats.startswith("nats: jeffreys, girsanov, nats; default (PixArtAlphaPipeline), lms, T = 2")
    assert nats.endswith(f"k = 1, seed 0, antithetic, {tmp_path / 'nats'}")
    assert "unit epsilon" not in plain + nats
    assert [measure["unit"] for measure in comparison.summary()["measures"]] == ["squared norm of noise", "nats"]
    assert comparison.summary()["antithetic"] == [False, True]


def test_images_of_an_antithetic_run_have_its_noise(default_process, runs, tmp_path):
    process = default_process.set(steps=2)
    pairs = read_file(write_pairs(tmp_path / "own.tsv", ROWS[:3]))
    for seed in (0, 1):
        evaluate(process, [pairs], antithetic=True, seed=seed, out=tmp_path / str(seed), floors=False)
    run = conjure.diff(tmp_path / "0", tmp_path / "1").runs[1]
    images = _generate(run, [("shark", "poodle")], "cpu")["shark", "poodle"]
    expected = process.run(["shark", "poodle"], [-noise_seed(1, 0), noise_seed(1, 0)], "np")
    np.testing.assert_allclose(images, expected, atol=1e-4)


def test_images_are_those_of_both_models(runs, default_process, monkeypatch):
    sheets = []

    def contact_sheet(images, rows, columns):
        sheets.append((images, columns))
        return b""

    monkeypatch.setattr("conjure.evaluation.comparison.contact_sheet", contact_sheet)
    generate_images(conjure.diff(runs / "2", runs / "3"), 1)
    ((images, titles),) = sheets
    texts = [title.strip("“”") for title in titles]
    seed = noise_seed(0, 0)
    for row, steps in zip(images, (2, 3), strict=True):
        expected = default_process.set(steps=steps).run(texts, [seed] * 2, "np")
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_images_are_neither_filtered_nor_overflow(runs, monkeypatch):
    """As in figures, the safety checker is off, and an autoencoder that overflows decodes again in float32."""
    family = FAMILIES["Stable Diffusion 1.x"]
    process = conjure.load(family.build(), steps=2, **family.settings)
    monkeypatch.setattr("conjure.evaluation.comparison.process_from_settings", lambda *_: process)
    grids = []

    def record(images, **_):
        grids.append(np.array(images))
        return b""

    monkeypatch.setattr("conjure.evaluation.comparison.contact_sheet", record)
    comparison = conjure.diff(runs / "2", runs / "3")
    generate_images(comparison, 1)
    set_safety_checker(process.pipeline)
    with pytest.warns(SafetyCheckerWarning):
        generate_images(comparison, 1)
    overflow_in_bfloat16(process.pipeline.vae)
    generate_images(comparison, 1)
    assert grids[0].std() > 0.01
    np.testing.assert_array_equal(grids[1], grids[0])
    np.testing.assert_allclose(grids[2], grids[0], atol=0.05)
    process.pipeline.vae.decode = lambda latents, *_, **__: (torch.full((len(latents), 3, 64, 64), torch.nan),)
    with pytest.raises(InputError, match="not finite, also in float32"):
        generate_images(comparison, 1)


def test_runs_that_cannot_be_compared_are_refused(runs, default_process, conjure_command, tmp_path):
    def error_of(first, second, *arguments):
        code, out, err = conjure_command("diff", first, second, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "contains no finished run" in error_of(runs / "2", tmp_path)
    pairs = read_file(runs / "own.tsv")
    evaluate(default_process.set(steps=2), [pairs.head(5)], out=tmp_path / "fewer")
    assert "different pairs for the task 'own' (28 and 5 pairs)" in error_of(runs / "2", tmp_path / "fewer")
    shutil.copy(runs / "own.tsv", tmp_path / "another.tsv")
    evaluate(default_process.set(steps=2), [read_file(tmp_path / "another.tsv")], out=tmp_path / "renamed")
    assert "no common task; they have own and another" in error_of(runs / "2", tmp_path / "renamed")
    assert "must end with .html or .md" in error_of(runs / "2", runs / "3", "--out", "x.txt")
    assert "give --out FILE.html" in error_of(runs / "2", runs / "3", "--images", 2)
    shutil.copytree(runs / "2", tmp_path / "corrupted")
    (tmp_path / "corrupted" / "own.parquet").write_bytes(b"no table")
    assert "contains no finished run" in error_of(runs / "3", tmp_path / "corrupted")


def test_images_of_a_model_that_has_changed_are_refused(runs, tmp_path):
    shutil.copytree(runs / "2", tmp_path / "changed")
    path = tmp_path / "changed" / "summary.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["fingerprint"], "0" * 64))
    with pytest.raises(InputError, match="images of the run '.*changed' cannot be generated: the model 'default' is not the one"):
        generate_images(conjure.diff(tmp_path / "changed", runs / "3"), 1)


def test_videos_and_sounds_are_shown_as_pictures(runs, tiny_video, tiny_sound, monkeypatch):
    processes = iter((tiny_video, tiny_sound))
    monkeypatch.setattr("conjure.evaluation.comparison.process_from_settings", lambda *_: next(processes))
    rows = []

    def record(images, **_):
        rows.extend(images)
        return b""

    monkeypatch.setattr("conjure.evaluation.comparison.contact_sheet", record)
    generate_images(conjure.diff(runs / "2", runs / "3"), 1)
    videos, sounds = rows
    assert [video.shape for video in videos] == [(4 * 32, 32, 3)] * 2
    assert [sound.shape for sound in sounds] == [(MEL_BINS, COLUMNS, 3)] * 2

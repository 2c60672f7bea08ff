"""The result of `conjure.drift`: tables, files and figures."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

import conjure
from conjure.diffusion.seeding import noise_seed
from conjure.errors import InputError
from conjure.process_drift.agreement import process_labels
from conjure.process_drift.images import final_images
from conjure.process_drift.results import Drift
from conjure.process_drift.statistics import Mean

TEXTS = ["snow leopard", "=bengal tiger", "house"]


@pytest.fixture(scope="module")
def processes(tiny_sd) -> tuple[conjure.Process, conjure.Process]:
    process = conjure.load(tiny_sd, steps=3, guidance=2.0)
    return process, process.set(guidance=3.0)


@pytest.fixture(scope="module")
def result(processes) -> Drift:
    return conjure.drift(processes[0], processes[1], TEXTS, samples=2, images=1)


def test_texts_are_sorted_by_their_divergence(result):
    divergences = [text.divergence.value for text in result.texts]
    assert divergences == sorted(divergences, reverse=True)
    assert {text.text for text in result.texts} == set(TEXTS)
    assert result.labels == ("A: guidance 2", "B: guidance 3")


def test_json_has_no_nan(result):
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False, default=str))
    first = data["texts"][0]
    assert first["divergence"]["ci95"][0] < first["divergence"]["value"] < first["divergence"]["ci95"][1]
    assert first["divergence"]["value"] == pytest.approx(sum(first["per_step"]))
    assert data["summary"]["divergence"]["mean"]["value"] == pytest.approx(
        np.mean([text["divergence"]["value"] for text in data["texts"]])
    )
    assert data["summary"]["relative"]["quantiles"]["0.5"]["ci95"] == [None, None]  # three texts are too few


def test_one_sample_has_no_errors(processes):
    single = conjure.drift(processes[0], processes[1], TEXTS[:1], samples=1)
    data = json.loads(json.dumps(single.to_dict(), allow_nan=False, default=str))
    assert data["texts"][0]["nats"]["stderr"] is None
    assert data["texts"][0]["per_step_ci95"] is None
    assert "use at least 3 samples" in single.document().note


def test_files_of_tables(result, tmp_path):
    for suffix in ("csv", "json", "parquet"):
        result.save_table(tmp_path / f"table.{suffix}")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [float(row["relative_high"]) for row in rows] == [text.relative.ci95[1] for text in result.texts]
    assert "'=bengal tiger" in {row["text"] for row in rows}  # a spreadsheet does not run it
    table = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["text"] for row in table] == [text.text for text in result.texts]
    assert table[0]["nats_forward_stderr"] == result.texts[0].nats_forward.stderr
    assert json.loads((tmp_path / "table.json").read_text())["noise"] == result.noise
    frame = result.to_pandas()
    assert frame.to_dict("records") == table


def test_the_report_names_only_settings_that_both_processes_have(result):
    line = result.document().settings[0]
    assert f"model {result.process_a['model']}, {result.process_a['scheduler']}, T = {result.process_a['steps']}; " in line
    other = replace(result, process_b=result.process_b | {"model": "another", "steps": 99})
    assert f"; {result.process_a['scheduler']}; " in other.document().settings[0]


def test_the_report_of_videos_and_sounds(result):
    length = {"frames": 9, "fps": 12}
    videos = replace(result, kind="video", process_a=result.process_a | length, process_b=result.process_b | length | {"fps": 8})
    document = videos.document()
    assert "T = 3, 9 frames; " in document.settings[0]
    assert document.tables[0].columns[-1] == "final video, relative"
    assert "Final videos from the same noise: the texts with the largest and the smallest divergences" in document.images
    assert replace(result, kind="audio").document().tables[0].columns[-1] == "final sound, relative"


def test_other_suffixes_are_refused(result, processes, tmp_path):
    for save, name, what in ((result.save_table, "x.png", "table"), (result.save, "x.csv", "figure")):
        with pytest.raises(InputError, match=f"^{what} '.*' ends with '.*'; allowed are"):
            save(tmp_path / name)
    without_images = conjure.drift(processes[0], processes[1], TEXTS[:1], samples=1)
    with pytest.raises(InputError, match="has no images"):
        without_images.save(tmp_path / "figure.png")
    with pytest.raises(InputError, match="no images of trajectories"):
        result.figure("another text")


def test_figures(result, tmp_path):
    for suffix in ("png", "svg", "pdf"):
        result.save(tmp_path / f"figure.{suffix}")
        assert (tmp_path / f"figure.{suffix}").stat().st_size > 10_000
    result.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<img alt="') == 3  # the final images, and the trajectories of two texts
    assert "guidance 2" in page


def test_the_report_begins_with_the_result(result):
    document = result.document()
    mean = result.summary["relative"].mean.as_percentage()
    assert document.headline == (
        f"Process B differs from process A by {mean}% of the distance between a text and the empty text (mean over 3 texts; "
        f"95% CI: {mean.interval}%)."
    )
    assert document.headline in document.to_markdown().replace("\\", "")
    assert {"nats", "latent shape", result.process_a["scheduler"], "guidance"} <= set(document.glossary)
    page = document.to_html()
    assert page.index(document.headline) < page.index("Glossary") < page.index("<table")
    without_relative = replace(result, summary={"divergence": result.summary["divergence"]})
    assert f"differs from process A by {result.summary['divergence'].mean}, {result.unit} (mean" in without_relative.verdict


def test_positions_of_small_differences_are_visible(result, monkeypatch):
    """Divergences of texts differ by orders of magnitude, so that each map has its own scale."""
    sheets = []

    def contact_sheet(rows, *_, **options):
        sheets.append((rows, options))
        return b""

    monkeypatch.setattr("conjure.process_drift.images.contact_sheet", contact_sheet)
    first = result.images[0]
    assert first.heatmap is not None
    faint = replace(first, heatmap=first.heatmap / 1000)
    final_images([first, faint], ["1", "0.001"], result.labels, "png")
    rows, options = sheets[0]
    np.testing.assert_allclose(rows[0][2], rows[1][2], atol=0.02)
    assert options == {"heatmap_limit": "largest of the text"}


def test_images_belong_to_the_two_processes(result, processes):
    assert [image.text for image in result.images] == [result.texts[0].text, result.texts[-1].text]
    image = result.images[0]
    for process, final in zip(processes, (image.final_a, image.final_b), strict=True):
        expected = process.run([image.text], [noise_seed(0, 0)], output_type="np")[0]
        assert final == pytest.approx(expected, abs=1e-3)
    trajectories = image.trajectories
    assert trajectories is not None
    assert image.heatmap is not None
    assert (trajectories.forward.text, trajectories.backward.text) == result.labels
    heatmaps = sum(np.sum(direction.heatmaps) for direction in (trajectories.forward, trajectories.backward))
    assert heatmaps == pytest.approx(result.texts[0].samples[0], rel=1e-6)
    assert image.heatmap.sum() == pytest.approx(heatmaps)
    title = result.figure(image.text).get_suptitle()
    assert title.startswith(f"“{image.text}” under two processes")


def test_images_at_different_steps(processes):
    a, b = processes
    result = conjure.drift(a, b.set(steps=5), TEXTS[:2], samples=1, images=3)
    assert len(result.images) == 2
    assert [image.trajectories for image in result.images] == [None, None]
    for image in result.images:
        forward = next(text for text in result.texts if text.text == image.text).forward.value
        assert image.heatmap is not None
        assert image.heatmap.sum() == pytest.approx(forward, rel=1e-6)
    assert result.document().images.keys() == {"Final images from the same noise"}


def test_long_tables_are_shortened(result):
    document = result.document(max_rows=1)
    assert len(document.tables[0].rows) == 1
    assert "2 more texts in the output file" in document.note


def test_only_errors_that_are_pooled_are_called_so(result):
    """At least ten texts are pooled, without those whose divergence is 0."""
    texts = (result.texts * 4)[:11]
    unchanged = replace(texts[0], samples=(0.0, 0.0))
    assert "pooled over 11 texts." in replace(result, texts=texts).document().note
    assert "pooled over 10 texts." in replace(result, texts=(*texts[1:], unchanged)).document().note
    assert "pooled" not in replace(result, texts=(*texts[2:], unchanged, unchanged)).document().note
    assert "pooled" not in result.document().note


def test_what_is_undefined_is_shown_as_such(result):
    undefined = Mean(math.nan)
    text = replace(result.texts[0], relative=undefined, nats=undefined, is_above_noise=False)
    cells = text.to_cells()
    assert cells[1].endswith(" (noise)")
    assert cells[3:6] == ["undefined", "", "undefined"]


def test_labels_name_the_settings_that_differ(processes):
    a, b = processes
    assert process_labels(a.settings(), a.settings()) == ("A", "B")
    assert process_labels(a.settings(), b.set(steps=7).settings()) == ("A: steps 3, guidance 2", "B: steps 7, guidance 3")
    loras = [{"name": "style", "weight": 0.5, "sha256": "1"}, {"name": "cat", "weight": 1.0, "sha256": "2"}]
    with_loras = a.settings() | {"lora": loras, "textual_inversion": [{"name": "toy", "token": "<toy>", "sha256": "3"}]}
    assert process_labels(a.settings(), with_loras) == (
        "A: lora none, textual_inversion none", "B: lora style x 0.5 + cat x 1, textual_inversion toy"
    )  # fmt: skip
    negative = a.settings() | {"pipeline_kwargs": a.pipeline_kwargs | {"negative_prompt": "blurry"}}
    assert process_labels(a.settings(), negative) == ("A: negative_prompt none", "B: negative_prompt blurry")

"""The command `calibrate`, and the similarities that other commands print afterwards."""

from __future__ import annotations

import json

import pytest

from conjure.divergence.reference_scale import UNCALIBRATED
from conjure.similarity import calibration

PAIRS = {"unrelated": [("a", "b"), ("c", "d"), ("e", "f")], "paraphrases": [("a", "g"), ("c", "h")]}


@pytest.fixture
def tiny_model(tiny_sd, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "calibration_pairs", lambda: PAIRS)
    monkeypatch.setattr(calibration, "_in_memory", {})
    return ("--model", tiny_sd, "--steps", 2, "--guidance", 2, "--store", tmp_path / "store")


def test_similarities_are_printed_after_a_calibration(conjure_command, tiny_model, tmp_path):
    (tmp_path / "texts").write_text("moon\nsea\n")
    matrix = ("matrix", "sun", "moon", "sea", "--samples", 2, *tiny_model)
    nearest = ("nearest", "sun", "--candidates", tmp_path / "texts", "--samples", 2, *tiny_model)
    code, out, _ = conjure_command("compare", "sun", "moon", *tiny_model)
    assert code == 0
    assert UNCALIBRATED in out
    assert UNCALIBRATED in conjure_command(*nearest)[1]
    code, _, error = conjure_command(*matrix, "--similarity")
    assert code == 2
    assert UNCALIBRATED in error

    code, out, _ = conjure_command("calibrate", *tiny_model)
    assert code == 0
    assert "3 unrelated pairs: median" in out
    assert "AUC of paraphrases against unrelated pairs: " in out
    summary = json.loads(conjure_command("calibrate", *tiny_model, "--json", "--divergence", "kl")[1])
    assert {"auc", "auc_ci95", "unrelated", "paraphrases", "fingerprint"} <= set(summary)

    out = conjure_command("compare", "sun", "moon", *tiny_model)[1]
    assert "  similarity " in out
    assert "unrelated pairs" in out
    assert UNCALIBRATED not in out
    assert json.loads(conjure_command("compare", "sun", "moon", *tiny_model, "--json")[1])["similarity"] is not None
    assert "similarity" in conjure_command(*nearest)[1]
    assert "1.00" in conjure_command(*matrix, "--similarity")[1]
    assert conjure_command(*matrix, "--similarity", "--csv")[1].splitlines()[1].startswith("sun,1.0,")
    figure = tmp_path / "figure.html"
    assert conjure_command("compare", "sun", "moon", *tiny_model, "--figure", figure)[0] == 0
    assert "unrelated pairs" in figure.read_text()


def test_a_calibration_needs_a_file_to_be_kept_in(conjure_command, tiny_model):
    code, _, error = conjure_command("calibrate", *tiny_model[:-2])
    assert code == 2
    assert "--store" in error
    assert len(error.splitlines()) == 1


def test_an_unknown_divergence_is_reported_before_the_model_is_loaded(conjure_command):
    code, _, error = conjure_command("calibrate", "--model", "missing", "--divergence", "wasserstein")
    assert code == 2
    assert "unknown divergence 'wasserstein'" in error


@pytest.mark.skipif(not calibration.packaged_calibration(), reason="the package contains no calibration")
def test_the_default_model_is_calibrated_already(conjure_command):
    code, out, _ = conjure_command("calibrate")
    assert code == 0
    assert "300 unrelated pairs" in out

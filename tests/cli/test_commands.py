"""The commands: what they print, as text and as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import conjure
from conjure.cli.options import parse_fraction

QUICK = ("--samples", 1, "--steps", 1)


def test_json_contains_the_documented_keys(conjure_command, default_process):
    code, out, _ = conjure_command("compare", "snow leopard", "bengal tiger", "--json", "--samples", 2, "--steps", 4, "--seed", 5)
    output = json.loads(out)
    assert code == 0
    documented = {
        "distance", "stderr", "ci95", "forward", "backward", "per_step", "samples", "texts", "process", "fingerprint", "version"
    }  # fmt: skip
    assert documented <= set(output)
    assert output["texts"] == ["snow leopard", "bengal tiger"]
    assert (len(output["per_step"]), len(output["samples"]), output["process"]["steps"], output["seed"]) == (4, 2, 4, 5)
    assert output["process"]["model"] == "default"
    low, high = output["ci95"]
    assert low < output["distance"] < high
    estimate = conjure.distance(default_process.set(steps=4), "snow leopard", "bengal tiger", samples=2, seed=5)
    assert output["distance"] == pytest.approx(estimate.distance, rel=1e-6)
    assert output["stderr"] == pytest.approx(np.std(estimate.samples, ddof=1) / 2**0.5, rel=1e-5)


def test_json_contains_the_notes_of_the_text(conjure_command):
    arguments = ("compare", "apple", "pear", "--steps", 1, "--samples", 2)
    notes = json.loads(conjure_command(*arguments, "--json")[1])["notes"]
    assert notes == ["an error from 2 samples is very uncertain; use at least 3 samples"]
    assert f"note: {notes[0]}" in conjure_command(*arguments)[1]
    texts = ("matrix", "a", "b", "c", "d", "e", "--steps", 1, "--samples", 2)
    notes = json.loads(conjure_command(*texts, "--json")[1])["notes"]
    assert notes == [
        "the standard errors are pooled over 10 pairs",
        "an error from 2 samples is very uncertain; use at least 3 samples",
    ]
    out = conjure_command(*texts)[1]
    assert all(f"note: {note}" in out for note in notes)


def test_one_sample_has_no_interval(conjure_command):
    code, out, _ = conjure_command("compare", "sun", "moon", "--json", "--samples", 1, "--steps", 2)
    assert (code, json.loads(out)["stderr"], json.loads(out)["ci95"]) == (0, None, None)


def test_compare_prints_a_short_answer(conjure_command, tmp_path):
    figure = tmp_path / "grid.png"
    texts = ("snow [red]leopard[/]", "bengal tiger")
    code, out, err = conjure_command("compare", *texts, "--figure", figure, "--samples", 2, "--steps", 5)
    assert (code, err) == (0, "")
    assert 4 <= len(out.splitlines()) <= 9  # the two directions may differ significantly
    assert re.match(r"[\d.]+ ± [\d.]+ \(95% CI: [-\d.]+ to [\d.]+\)  jeffreys, squared norm of noise\n", out)
    assert "along the trajectory of “snow [red]leopard[/]”" in out
    assert re.search(r"  2 samples, 5 steps; largest difference at t = \d+\n", out)
    assert "  model default, lms, guidance 7.5, seed 0\n" in out
    assert out.endswith(f"  wrote {figure}\n")
    image = np.asarray(Image.open(figure).convert("RGB"))
    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    assert image.std() > 20


def test_equal_texts_do_not_differ(conjure_command):
    code, out, _ = conjure_command("compare", "cat", "cat", *QUICK)
    assert code == 0
    assert "1 sample, 1 step; no difference" in out


def test_numbers_end_at_the_second_digit_of_the_error(conjure_command):
    """All numbers that add up have the same last digit."""
    _, out, _ = conjure_command("compare", "sun", "moon", "--steps", 2)
    numbers = re.match(r"([\d.]+) ± ([\d.]+) \(95% CI: ([-\d.]+) to ([\d.]+)\)", out)
    assert numbers
    directions = re.findall(r"([\d.]+)  along", out)
    assert len({len(number.partition(".")[2]) for number in (*numbers.groups(), *directions)}) == 1
    assert len(numbers[2].replace(".", "").lstrip("0")) == 2


def test_words_and_replacements(conjure_command, tiny_sd):
    quick = ("--model", tiny_sd, "--steps", 2, "--samples", 2)
    code, out, _ = conjure_command("compare", "red fox", "dog", "--replace", "red=blue", *quick)
    assert code == 0
    assert re.findall(r"([+-][\d.]+) ± [\d.]+  (.*)\n", out.replace("in “dog”", "in “red fox”"))
    for label in ("without “red” in “red fox”", "“red” → “blue” in “red fox”", "without “fox” in “red fox”", "without “dog” in"):
        assert label in out
    _, as_json, _ = conjure_command("compare", "red fox", "dog", "--replace", "red=blue", "--json", *quick)
    assert [effect["replacement"] for effect in json.loads(as_json)["words"]] == ["", "blue", "", ""]


def test_texts_do_not_control_the_terminal(conjure_command, tmp_path):
    """Escape sequences, which files from elsewhere may contain, are not printed: neither in texts nor in error messages."""
    hostile = "red\x1b[2J\x9b31m\u202efox"
    (tmp_path / "texts").write_text(f"{hostile}\ndog\n")
    for arguments in (("compare", hostile, "dog", *QUICK), ("matrix", "--file", tmp_path / "texts", *QUICK),
                      ("compare", "a", "b", "--scheduler", hostile)):  # fmt: skip
        code, out, err = conjure_command(*arguments)
        assert code in (0, 2)
        assert not set("\x1b\x9b\u202e") & set(out + err)


def test_a_truncated_text_causes_a_warning(conjure_command):
    code, out, err = conjure_command("compare", "long " * 100, "b", "--samples", 1, "--steps", 2, "--json")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("warning: text of 102 tokens")
    assert json.loads(out)["distance"] > 0


def test_a_truncated_text_causes_a_warning_also_if_its_results_are_stored(conjure_command, tmp_path):
    arguments = ("compare", "dog " * 100, "cat", "--samples", 1, "--steps", 2, "--store", tmp_path / "s")
    (code, out, warning), again = conjure_command(*arguments), conjure_command(*arguments)
    assert (code, "is truncated" in warning) == (0, True)
    assert again == (code, out, warning)
    code, out, err = conjure_command(*arguments, "--strict")
    assert (code, out, "is truncated" in err) == (2, "", True)


def test_a_matrix_with_truncated_texts_prints_one_warning(conjure_command, tmp_path):
    (tmp_path / "texts").write_text("long " * 100 + "\n" + "wide " * 100 + "\ndog\n")
    code, _, err = conjure_command("matrix", "--file", tmp_path / "texts", *QUICK)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("warning: 2 texts were truncated or contain unknown tokens; the first: text of 102 tokens")


def test_matrix_of_groups(conjure_command, tiny_sd, tmp_path):
    (tmp_path / "texts").write_text("cat\ndog\n\nsun\nmoon\n")
    arguments = ("matrix", "--file", tmp_path / "texts", "--model", tiny_sd, "--steps", 2, "--samples", 2)
    code, out, _ = conjure_command(*arguments)
    assert code == 0
    assert "2 samples, 2 steps, model" in out
    assert "mean silhouette of the groups: " in out
    separation = json.loads(conjure_command(*arguments, "--json")[1])["separation"]
    assert set(separation) == {"silhouette", "ci95", "per_text"}
    assert set(separation["per_text"]) == {"cat", "dog", "sun", "moon"}
    assert len(separation["ci95"]) == 2
    one_sample = json.loads(conjure_command(*arguments, "--samples", 1, "--json")[1])["separation"]
    assert one_sample["ci95"] is None
    names = "cat,dog,sun,moon"
    errors = ",".join(f"stderr: {name}" for name in names.split(","))
    assert conjure_command(*arguments, "--csv")[1].splitlines()[0] == f",{names},{errors}"
    assert conjure_command(*arguments, "--samples", 1, "--csv")[1].splitlines()[0] == f",{names}"


def test_compare_prints_only_what_counts(conjure_command, tiny_sd):
    arguments = ("compare", "red apple", "pear", "--model", tiny_sd, "--steps", 2)
    code, out, _ = conjure_command(*arguments, "--divergence", "kl")
    assert code == 0
    assert "along the trajectory of “red apple”" in out
    assert "along the trajectory of “pear”" not in out
    assert "difference of the two directions" not in out
    assert "note: " not in out
    two_samples = conjure_command(*arguments, "--samples", 2)[1]
    assert "along the trajectory of “pear”" in two_samples
    assert "note: an error from 2 samples is very uncertain; use at least 3 samples" in two_samples
    assert "CI: 0 to " in two_samples.splitlines()[0]


@pytest.mark.parametrize(("text", "fraction"), [("0.05", 0.05), ("5%", 0.05), (" 5 % ", 0.05), ("0.5%", 0.005), ("95%", 0.95)])
def test_fractions_may_be_percentages(text, fraction):
    assert parse_fraction(text, "--confidence") == pytest.approx(fraction, rel=1e-12)


@pytest.mark.parametrize("text", ["5", "0", "1", "-5%", "100%", "0%", "nan", "nan%", "inf", "five", "", "%", "5%%"])
def test_other_fractions_are_refused(conjure_command, tmp_path, text):
    """The message names both forms."""
    (tmp_path / "candidates").write_text("cat\ndog\n")
    expected = f"is {text!r}; must be a fraction between 0 and 1, or a percentage: 0.05 and 5% are the same\n"
    for option, arguments in (
        ("--target-relative-error", ("compare", "a", "b")),
        ("--confidence", ("nearest", "a", "--candidates", tmp_path / "candidates")),
    ):
        code, _, err = conjure_command(*arguments, f"{option}={text}")
        assert (code, err) == (2, f"error: {option} {expected}")


def test_percentages_are_used(conjure_command, tiny_sd, tmp_path):
    (tmp_path / "candidates").write_text("cat\ndog\n")
    arguments = ("--model", tiny_sd, "--steps", 1, "--samples", 2, "--json")
    compared, percentage = (
        json.loads(conjure_command("compare", "cat", "dog", *arguments, "--target-relative-error", value)[1])
        for value in ("0.3", "30%")
    )
    assert compared == percentage
    _, out, _ = conjure_command("nearest", "bird", "--candidates", tmp_path / "candidates", *arguments, "--confidence", "90%")
    assert json.loads(out)["confidence"] == 0.9


def test_nearest_reports_whether_it_is_certain(conjure_command, tiny_sd, tmp_path):
    (tmp_path / "candidates").write_text("cat\ndog\n")
    arguments = ("nearest", "bird", "--candidates", tmp_path / "candidates", "--model", tiny_sd, "--steps", 1)
    code, out, _ = conjure_command(*arguments, "--samples", 1)
    assert code == 0
    assert "nearest text not certain at 95%: increase --samples; 3 of 3 trajectories run" in out
    certain = conjure_command(*arguments, "--top", 2, "--samples", 1)[1]
    assert "2 nearest texts certain at 95%; " in certain
    assert json.loads(conjure_command(*arguments, "--samples", 1, "--json")[1])["is_certain"] is False


def test_check_prints_one_line_per_check(conjure_command, tiny_sd, monkeypatch):
    code, out, _ = conjure_command("check", tiny_sd, "--steps", 2)
    first, *lines = out.splitlines()
    assert code == 0
    assert first.endswith("StableDiffusionPipeline, lms (the model's own: pndm), predicts epsilon")
    assert [line.split()[0] for line in lines] == ["pass"] * len(lines)
    monkeypatch.setattr("conjure.pipeline_checks.CHECKS", {"a": lambda process: (True, "1"), "b": lambda process: (False, "2")})
    code, out, _ = conjure_command("check", tiny_sd, "--steps", 2)
    assert (code, [line.split() for line in out.splitlines()[1:]]) == (1, [["pass", "a", "1"], ["FAIL", "b", "2"]])
    code, out, _ = conjure_command("check", tiny_sd, "--steps", 2, "--json")
    report = json.loads(out)
    assert (code, report["passed"], report["process"]["steps"]) == (1, False, 2)
    assert report["checks"] == [{"name": "a", "passed": True, "detail": "1"}, {"name": "b", "passed": False, "detail": "2"}]


def test_store_commands(conjure_command, tiny_sd, tmp_path):
    store = tmp_path / "store"
    assert conjure_command("compare", "a", "b", "--model", tiny_sd, *QUICK, "--store", store)[0] == 0
    (summary,) = json.loads(conjure_command("store", "info", store, "--json")[1])
    assert (summary["trajectories"], summary["evaluations"], summary["pairs"]) == (2, 2, 0)
    table = conjure_command("store", "info", store)[1]
    assert summary["fingerprint"][:12] in table
    assert "evaluations" in table
    code, out, _ = conjure_command("store", "verify", store)
    assert (code, re.fullmatch(r"(\d+) of \1 rows are valid\n", out) is not None) == (0, True)
    assert re.fullmatch(
        r"the store is [\d.-]+ MB smaller\n", conjure_command("store", "prune", store, summary["fingerprint"][:6])[1]
    )
    assert json.loads(conjure_command("store", "info", store, "--json")[1]) == []


def test_a_corrupted_row_is_reported(conjure_command, tiny_sd, tmp_path):
    import contextlib
    import sqlite3

    store = tmp_path / "store"
    assert conjure_command("compare", "a", "b", "--model", tiny_sd, *QUICK, "--store", store)[0] == 0
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("UPDATE squared_differences SET target = 'c' WHERE text = 'a'")
    code, out, _ = conjure_command("store", "verify", store)
    assert code == 1
    assert "corrupted in squared_differences: 'a' / " in out


def test_python_m_conjure_prints_the_options():
    """`python -m conjure` is a new process, and prints the help without the imports of a model."""
    completed = subprocess.run([sys.executable, "-m", "conjure", "compare", "--help"], capture_output=True, text=True, check=True)
    for option in ("--model", "--samples", "--steps", "--guidance", "--scheduler", "--seed", "--divergence", "--weighting",
                   "--figure", "--json", "--strict"):  # fmt: skip
        assert option in completed.stdout
    assert "--precision" not in completed.stdout


def test_imports_are_light():
    """Neither `import conjure` nor the command line imports torch or matplotlib."""
    code = "import sys, conjure, conjure.cli.commands; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.filterwarnings("ignore::conjure.TextTruncationWarning")
def test_long_texts_are_shortened(conjure_command):
    code, out, _ = conjure_command("compare", "word " * 1800, "dog", "--steps", 1, "--samples", 1)
    assert code == 0
    assert max(map(len, out.splitlines())) < 150

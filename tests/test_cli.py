"""The command as a user meets it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conjure

ROOT = Path(__file__).parent.parent


def test_json_has_the_agreed_fields(conjure_command, default):
    code, out, _ = conjure_command("compare", "snow leopard", "bengal tiger", "--json", "--samples", 2, "--steps", 4, "--seed", 5)
    told = json.loads(out)
    assert code == 0
    assert {"distance", "stderr", "ci95", "forward", "backward", "per_step", "samples", "texts", "process", "version"} <= set(
        told
    )
    assert told["texts"] == ["snow leopard", "bengal tiger"]
    assert (len(told["per_step"]), len(told["samples"]), told["process"]["steps"], told["seed"]) == (4, 2, 4, 5)
    assert told["process"]["model"] == "default"
    low, high = told["ci95"]
    assert low < told["distance"] < high
    again = conjure.distance(default.set(steps=4), "snow leopard", "bengal tiger", samples=2, seed=5)
    assert told["distance"] == pytest.approx(again.distance, rel=1e-6)
    assert told["stderr"] == pytest.approx(np.std(again.samples, ddof=1) / 2**0.5, rel=1e-5)


def test_one_sample_has_no_error_bar(conjure_command):
    code, out, _ = conjure_command("compare", "sun", "moon", "--json", "--samples", 1, "--steps", 2)
    assert (code, json.loads(out)["stderr"], json.loads(out)["ci95"]) == (0, None, None)


def test_people_get_a_short_answer(conjure_command, tmp_path):
    figure = tmp_path / "grid.png"
    code, out, err = conjure_command("compare", "snow [red]leopard[/]", "bengal tiger", "--figure", figure)
    assert (code, err) == (0, "")
    assert 4 <= len(out.splitlines()) <= 8
    assert "±" in out
    assert "lms, guidance 3, seed 0" in out
    assert "snow [red]leopard[/]" in out
    picture = np.asarray(Image.open(figure).convert("RGB"))
    assert picture.shape[0] > 600
    assert picture.shape[1] > 1000
    assert picture.std() > 20


def test_texts_do_not_steer_the_terminal(conjure_command, tmp_path):
    """Escape sequences, which files from elsewhere may hold, are not sent on: not as text, and not in an error."""
    steering = "red\x1b[2J\x9b31m\u202efox"
    (tmp_path / "texts").write_text(f"{steering}\ndog\n")
    quick = ("--samples", 1, "--steps", 1)
    for arguments in (("compare", steering, "dog", *quick), ("matrix", "--file", tmp_path / "texts", *quick),
                      ("compare", "a", "b", "--scheduler", steering)):  # fmt: skip
        code, out, err = conjure_command(*arguments)
        assert code in (0, 2)
        assert not set("\x1b\x9b\u202e") & set(out + err)


def test_html_figure_is_one_file_and_texts_stay_text(conjure_command, tmp_path):
    figure = tmp_path / "grid.html"
    hostile = "<script>alert('x')</script> & \"quotes\" $x_1$ مرحبا 🐆"
    code, _, _ = conjure_command("compare", hostile, "tiger", "--figure", figure, "--samples", 1, "--steps", 2)
    assert code == 0

    class Reader(HTMLParser):
        tags: list[str] = []  # noqa: RUF012
        links: list[str] = []  # noqa: RUF012
        said = ""

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            self.links += [value for name, value in attributes if name in ("src", "href")]

        def handle_data(self, data):
            self.said += data

    reader = Reader()
    reader.feed(figure.read_text(encoding="utf-8"))
    assert reader.tags.count("script") == 2  # its own: the data and what moves the sliders
    assert hostile in reader.said
    assert not reader.links


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_vector_figures(conjure_command, tmp_path, ending):
    figure = tmp_path / f"grid.{ending}"
    code, _, _ = conjure_command("compare", "a <b> & c", "tiger", "--figure", figure, "--samples", 1, "--steps", 2)
    assert (code, figure.read_bytes()[:5]) == (0, b"<?xml" if ending == "svg" else b"%PDF-")


def test_grid_shows_what_was_compared(default):
    """Both middle rows start from the same noise; on its own trajectory a text's last x0 is the end of that trajectory."""
    shown = conjure.explain(default, "red apple", "blue whale", samples=1)
    for direction in (shown.forward, shown.backward):
        assert direction.noisy.shape == direction.first.shape == direction.second.shape == (10, 64, 64, 3)
    np.testing.assert_allclose(shown.forward.noisy[0], shown.backward.noisy[0], atol=1e-4)
    assert np.abs(shown.forward.noisy[-1] - shown.backward.noisy[-1]).mean() > 0.02
    assert sum(shown.forward.per_step) == pytest.approx(shown.estimate.forward, rel=1e-5)
    assert sum(shown.backward.per_step) == pytest.approx(shown.estimate.backward, rel=1e-5)
    seed = conjure.estimate.noise_seed(0, 0)
    ends = default.run(["red apple", "blue whale"], [seed, seed], output_type="np")
    assert np.abs(shown.forward.first[-1] - ends[0]).mean() < 0.02
    assert np.abs(shown.backward.second[-1] - ends[1]).mean() < 0.02
    assert shown._repr_png_().startswith(b"\x89PNG")
    assert "<b>" in shown.estimate._repr_html_()


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "", "b"),
        ("compare", "a", "  "),
        ("compare", "a"),
        ("compare", "a", "b", "--samples", 0),
        ("compare", "a", "b", "--samples", "two"),
        ("compare", "a", "b", "--steps", 0),
        ("compare", "a", "b", "--steps", "-3"),
        ("compare", "a", "b", "--scheduler", "nope"),
        ("compare", "a", "b", "--divergence", "nope"),
        ("compare", "a", "b", "--weighting", "nope"),
        ("compare", "a", "b", "--guidance", "nan"),
        ("compare", "a", "b", "--seed", "-1"),
        ("compare", "a", "b", "--model", "/no/such/folder"),
        ("compare", "a", "b", "--figure", "/no/such/folder/x.png"),
        ("compare", "a", "b", "--figure", "picture.jpg"),
        ("compare", "a", "b", "--figure", "."),
        ("compare", "a", "b", "--instead", "snow"),
        ("compare", "a", "b", "--instead", "snow=desert"),
        ("nearest", "a", "--among", "/no/such/file"),
        ("app", "--runs", "/no/such/folder"),
        ("app", "--user", "me"),
        ("app", "--models", "/no/such/folder"),
        ("matrix", "a", "b", "--map", "x.html"),
        ("compare", "a", "b", "--dtype", "int8"),
        ("compare", "a", "b", "--nope"),
        ("compare", "a", "b", "--scheduler", "edmeuler"),
        ("compare", "a", "b", "--scheduler", "unipcmultistep", "--steps", 1),
        ("compare", "a", "b", "--scheduler", "pndm", "--steps", 2),
        ("compare", "a", "b", "--device", "abacus"),
        ("compare", "a", "b", "--figure", "x" * 300 + ".png"),
        ("compare", "a\udcff", "b"),
        ("compare", "long " * 100, "b", "--strict"),
        ("nope",),
        (),
    ],
)
def test_bad_input_is_one_line_and_exit_2(conjure_command, arguments):
    code, out, err = conjure_command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_figure_path_is_tried_before_the_model_is_loaded(conjure_command, tmp_path, monkeypatch):
    monkeypatch.setattr("conjure.load", lambda *_, **__: pytest.fail("the model was loaded"))
    os.chmod(tmp_path, 0o500)
    place = "/proc/grid.png" if os.access(tmp_path, os.W_OK) else tmp_path / "grid.png"  # root may write anywhere but there
    assert conjure_command("compare", "a", "b", "--figure", place)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "", "b"),
        ("compare", "a", "b", "--samples", 0),
        ("compare", "a", "b", "--steps", 0),
        ("compare", "a", "b", "--guidance", "-1"),
        ("compare", "a", "b", "--seed", "-1"),
        ("compare", "a", "b", "--precision", 0),
        ("compare", "a", "b", "--divergence", "nope"),
        ("compare", "a", "b", "--unit", "nope"),
        ("compare", "a", "b", "--reduction", "nope"),
        ("compare", "a", "b", "--figure", "picture.jpg"),
        ("compare", "a", "b", "--instead", "snow=desert"),
        ("compare", "a", "b", "--instead", "a= "),
        ("matrix", "a", " "),
        ("matrix", "a", "b", "--weighting", "nope"),
        ("nearest", "a", "--among", "README.md", "--top", 0),
        ("nearest", "", "--among", "README.md"),
        ("bench", "--samples", 0),
        ("ablate", "--over", "nope"),
        ("ablate", "--samples", 0),
    ],
)
def test_slips_are_told_before_anything_is_loaded(arguments):
    """Not even torch, which takes seconds."""
    code = "import sys, conjure.cli as cli\ntry: cli.main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "False\n", 1)


def test_texts_that_do_not_differ(conjure_command):
    code, out, _ = conjure_command("compare", "cat", "cat", "--samples", 1, "--steps", 1)
    assert code == 0
    assert "1 sample of 1 step; they differ at none" in out


def test_digits_end_with_the_error_s(conjure_command):
    """The second digit of the error is the last of all numbers that add up."""
    _, out, _ = conjure_command("compare", "sun", "moon", "--steps", 2)
    numbers = re.match(r"([\d.]+) ± ([\d.]+) \(95 %: ([-\d.]+) to ([\d.]+)\)", out)
    assert numbers
    parts = re.findall(r"([\d.]+)  along", out)
    assert len({len(number.partition(".")[2]) for number in (*numbers.groups(), *parts)}) == 1
    assert len(numbers[2].replace(".", "").lstrip("0")) == 2


def test_cut_text_warns_and_goes_on(conjure_command):
    code, out, err = conjure_command("compare", "long " * 100, "b", "--samples", 1, "--steps", 2, "--json")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("warning: text of 102 tokens")
    assert json.loads(out)["distance"] > 0


def test_help_is_quick_and_import_pulls_in_no_torch():
    code = "import sys, conjure, conjure.cli; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    told = subprocess.run(
        [sys.executable, "-m", "conjure", "compare", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in ("--model", "--samples", "--steps", "--guidance", "--scheduler", "--seed", "--divergence", "--weighting",
                   "--figure", "--json", "--strict"):  # fmt: skip
        assert option in told

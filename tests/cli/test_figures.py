"""The figures that `compare` writes."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

import conjure
from conjure.diffusion.process import Process
from conjure.diffusion.seeding import noise_seed

QUICK = ("--samples", 1, "--steps", 2)


class PageParser(HTMLParser):
    """Collects the tags, the addresses and the visible text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_an_html_figure_is_one_file_and_texts_are_no_markup(conjure_command, tmp_path):
    figure = tmp_path / "grid.html"
    hostile = "<script>alert('x')</script> & \"quotes\" $x_1$ مرحبا 🐆"
    assert conjure_command("compare", hostile, "tiger", "--figure", figure, *QUICK)[0] == 0
    page = PageParser()
    page.feed(figure.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2  # the data of the page and the code of its sliders
    assert hostile in page.text
    assert not page.addresses


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_vector_figures(conjure_command, tiny_sd, tmp_path, suffix):
    figure = tmp_path / f"grid.{suffix}"
    code, _, _ = conjure_command("compare", "a <b> & c", "tiger", "--figure", figure, "--model", tiny_sd, *QUICK)
    assert (code, figure.read_bytes()[:5]) == (0, b"<?xml" if suffix == "svg" else b"%PDF-")


@pytest.mark.parametrize(("suffix", "samples_shown"), [("png", 1), ("html", 2)])
def test_images_are_decoded_in_one_batch_and_only_those_that_are_shown(
    conjure_command, default_process, tmp_path, monkeypatch, suffix, samples_shown
):
    """Other figures than pages show one sample."""
    decoded: list[int] = []
    decode = Process.decode

    def count(self, latents, **options):
        decoded.append(len(latents))
        return decode(self, latents, **options)

    monkeypatch.setattr(Process, "decode", count)
    monkeypatch.setattr(conjure, "load", lambda **_: default_process.set(steps=2))
    assert conjure_command("compare", "sun", "tiger", "--figure", tmp_path / f"grid.{suffix}", "--samples", 2)[0] == 0
    # in both directions the final image, and at each of two steps x_t and the predictions for both texts
    assert decoded == [samples_shown * 2 * (1 + 2 * 3)]


def test_the_images_are_those_of_the_trajectories(default_process):
    """Both trajectories start from the same noise, and end in what the text of the trajectory predicts last."""
    process = default_process.set(steps=5)
    explanation = conjure.explain(process, "red apple", "blue whale", samples=1)
    forward, backward = explanation.forward, explanation.backward
    for images in (forward, backward):
        assert images.x_t.shape == images.x0_first.shape == images.x0_second.shape == (5, 64, 64, 3)
    np.testing.assert_allclose(forward.x_t[0], backward.x_t[0], atol=1e-4)
    assert np.abs(forward.x_t[-1] - backward.x_t[-1]).mean() > 0.02
    assert sum(forward.per_step) == pytest.approx(explanation.estimate.forward, rel=1e-5)
    assert sum(backward.per_step) == pytest.approx(explanation.estimate.backward, rel=1e-5)
    seed = noise_seed(0, 0)
    final_images = process.run(["red apple", "blue whale"], [seed, seed], output_type="np")
    assert np.abs(forward.x0_first[-1] - final_images[0]).mean() < 0.02
    assert np.abs(backward.x0_second[-1] - final_images[1]).mean() < 0.02
    assert explanation._repr_png_().startswith(b"\x89PNG")
    assert "<b>" in explanation.estimate._repr_html_()

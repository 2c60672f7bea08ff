"""Every family keeps the contract, and whatever breaks it is found."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import supported
import torch
from families import FAMILIES

import conjure
from conjure import InputError
from conjure.contract import CHECKS, check_model

TABLE = (Path(__file__).parent.parent / "docs" / "families.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    """As `conjure check` does it; and the table of the documentation says the same."""
    process = supported.load(name, tmp_path)
    findings = list(check_model(process))
    assert [finding.name for finding in findings] == list(CHECKS)
    assert not [finding for finding in findings if not finding.passed]
    assert supported.row(name, process, passed=True) in TABLE.splitlines()
    if (limit := FAMILIES[name].limit) is not None:
        told = findings[-1].detail
        assert "takes" in told
        assert int(told.split()[-1]) >= limit  # templates count, too


def test_table_is_whole():
    assert TABLE.startswith(supported.HEAD)
    assert TABLE.endswith(supported.TAIL)
    assert TABLE.count("\n| ") == len(FAMILIES) + 1


@pytest.mark.parametrize("name", ["SDXL", "Flux dev", "DeepFloyd IF", "CogView4"])
def test_figures_of_families(name, tmp_path):
    """Packed latents are unpacked, and models of pixels need no autoencoder."""
    process = supported.load(name, tmp_path)
    shown = conjure.explain(process, "a red apple", "a blue whale", samples=1)
    height, width = (FAMILIES[name].settings[side] for side in ("height", "width"))
    for direction in (shown.forward, shown.backward):
        for pictures in (direction.noisy, direction.first, direction.second):
            assert pictures.shape == (4, height, width, 3)
            assert 0 <= pictures.min() <= pictures.max() <= 1
    shown.save(tmp_path / "grid.png")


def failed(process):
    return [finding.name for finding in check_model(process) if not finding.passed]


def test_one_step_cannot_be_checked(tiny_sd):
    with pytest.raises(InputError, match="a check takes at least 2"):
        list(check_model(conjure.load(tiny_sd, steps=1)))


@pytest.fixture
def tiny(tiny_sd):
    return conjure.load(tiny_sd, steps=3)


def test_company_that_counts_is_found(tiny, monkeypatch):
    stock = tiny.pipeline.encode_prompt

    def encode_prompt(*args, **kwargs):
        words, empty = stock(*args, **kwargs)
        return words + words.mean(0) * (len(words) > 1), empty

    monkeypatch.setattr(tiny.pipeline, "encode_prompt", encode_prompt)
    assert "company and batch size change nothing" in failed(tiny)


def test_texts_cut_in_silence_are_found(tiny, monkeypatch):
    stock = tiny.pipeline.encode_prompt

    def encode_prompt(prompt, *args, **kwargs):
        return stock([text[:20] for text in prompt], *args, **kwargs)

    monkeypatch.setattr(tiny.pipeline, "encode_prompt", encode_prompt)
    assert failed(tiny) == ["the end of a long text is not lost in silence"]


def test_a_pipeline_that_does_not_listen_is_found(tiny, monkeypatch):
    stock = tiny.pipeline.encode_prompt

    def encode_prompt(prompt, *args, **kwargs):
        return stock([""] * len(prompt), *args, **kwargs)

    monkeypatch.setattr(tiny.pipeline, "encode_prompt", encode_prompt)
    assert "two texts have a distance" in failed(tiny)


def test_a_wrong_engine_is_found(tiny, monkeypatch):
    """Were rows taken for equal that are not, the stock pipeline would tell."""
    monkeypatch.setattr("conjure.once._first_equal", lambda rows, known: [0] * len(rows))
    assert {"two texts have a distance", "judges answer as the stock pipeline"} <= set(failed(tiny))


def test_a_wrong_decoder_is_found(tiny, monkeypatch):
    decode = conjure.Process.decode
    monkeypatch.setattr(conjure.Process, "decode", lambda self, latents: decode(self, latents * 0.9))
    assert failed(tiny) == ["latents are decoded as by the pipeline"]


def test_a_pipeline_that_breaks_is_reported(tiny, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no such part")

    monkeypatch.setattr(tiny.pipeline.unet, "forward", broken)
    findings = list(check_model(tiny))
    assert not any(finding.passed for finding in findings)
    assert findings[0].detail == "OSError: no such part"


def test_a_pipeline_that_does_not_step_is_refused(tiny, monkeypatch):
    """A family that nobody has seen and that does not keep the seam: no number comes out."""
    monkeypatch.setattr(type(tiny.pipeline), "__call__", lambda self, prompt, num_inference_steps, generator, output_type:
                        SimpleNamespace(images=torch.zeros(len(prompt), 4, 8, 8)))  # fmt: skip
    with pytest.raises(InputError, match="visited 0 states in 3 steps; it does not keep the seam"):
        conjure.distance(replace(tiny, guidance=None), "a", "b", samples=1)
    assert len(failed(replace(tiny, guidance=None))) == len(CHECKS)


def test_check_command(tiny_sd, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "conjure", "check", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(tiny_sd, "--steps", 2, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"], len(told["checks"])) == (0, True, len(CHECKS))
    refused = run(tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)

"""A tiny pipeline of every supported family passes the checks, and the table of the documentation has the same results."""

from __future__ import annotations

from pathlib import Path

import pytest

import conjure
import generate_families_table
from conjure.pipeline_checks import CHECKS, check_model
from generate_families_table import ALL_FAMILIES
from tiny_media_pipelines import AUDIO_FAMILIES, VIDEO_FAMILIES
from tiny_pipelines import FAMILIES

TABLE = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
STEPS = 3  # a multistep solver takes steps of first and of higher order

# The quick tests cover every structure that the engine treats differently
QUICK = {
    "Stable Diffusion 1.x": "UNet that predicts epsilon",
    "Stable Diffusion 2.x": "UNet that predicts v",
    "Stable Diffusion 3": "flow model with several text encoders",
    "Flux dev": "packed latents",
    "DeepFloyd IF": "pixels, with a learned variance",
    "CogView4": "one prompt per batch",
    "CogVideoX": "videos with the frames before the channels",
    "LTX-Video": "videos with packed latents",
    "Stable Audio": "sounds with latents over time",
}


def by_speed(*names):
    """Return parameters of tests, with the mark `slow` for all families that are not in `QUICK`."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def load_family(tmp_path_factory):
    """A function from the name of a family to its process, which is loaded once."""
    processes: dict[str, conjure.Process] = {}

    def load(name: str) -> conjure.Process:
        if name not in processes:
            processes[name] = generate_families_table.load(name, tmp_path_factory.mktemp("family")).set(steps=STEPS)
        return processes[name]

    return load


@pytest.mark.parametrize("name", by_speed(*ALL_FAMILIES))
def test_family_passes_all_checks(name, load_family):
    """The checks are those of `conjure check`."""
    process = load_family(name)
    findings = list(check_model(process))
    assert [finding.name for finding in findings] == list(CHECKS)
    assert not [finding for finding in findings if not finding.passed]
    assert generate_families_table.row(name, process, passed=True) in TABLE.splitlines()
    if (limit := ALL_FAMILIES[name].limit) is not None:
        detail = findings[-1].detail
        assert "takes" in detail
        assert int(detail.split()[-1]) >= limit  # the limit of the encoder includes the tokens of a template


def test_table_has_one_row_per_family():
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| family")]
    assert generate_families_table.page(dict(zip(ALL_FAMILIES, rows, strict=True))) == TABLE
    assert len(ALL_FAMILIES) == len(FAMILIES) + len(VIDEO_FAMILIES) + len(AUDIO_FAMILIES)


@pytest.mark.parametrize("name", by_speed("SDXL", "Flux dev", "DeepFloyd IF", "CogView4"))
def test_images_of_an_explanation(name, load_family, tmp_path):
    """Packed latents are unpacked, and pixel-space models need no autoencoder."""
    explanation = conjure.explain(load_family(name), "a red apple", "a blue whale", samples=1)
    height, width = (FAMILIES[name].settings[side] for side in ("height", "width"))
    for trajectory in (explanation.forward, explanation.backward):
        for images in (trajectory.x_t, trajectory.x0_first, trajectory.x0_second):
            assert images.shape == (STEPS, height, width, 3)
            assert 0 <= images.min() <= images.max() <= 1
    explanation.save(tmp_path / "grid.png")

"""The fingerprint covers content only: not the folder of a model, not what saved it, and not the order of sets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import conjure
from conjure.diffusion import fingerprint
from conjure.diffusion.code_state import Describer
from tiny_pipelines import FAMILIES

ROOT = Path(__file__).parents[2]


def check_copies(process, folder, monkeypatch, **settings):
    """One model in memory, saved, copied and by a relative path has one fingerprint, before and after a run."""
    expected = process.fingerprint()
    process.pipeline.save_pretrained(folder / "saved")
    shutil.copytree(folder / "saved", folder / "elsewhere" / "copy")
    monkeypatch.chdir(folder)
    conjure.distance(process, "a", "b", samples=1)
    fingerprint._cached_fingerprints.clear()
    assert process.fingerprint() == expected
    for place in (folder / "saved", folder / "elsewhere" / "copy", "saved", "elsewhere/copy"):
        other = conjure.load(place, **settings)
        assert other.set(pipeline_kwargs=process.pipeline_kwargs).fingerprint() == expected, place
    other.pipeline.save_pretrained(folder / "again")
    assert conjure.load("again", **settings).set(pipeline_kwargs=process.pipeline_kwargs).fingerprint() == expected


def test_copies_of_a_model_have_one_fingerprint(tmp_path, monkeypatch):
    family = FAMILIES["Stable Diffusion 1.x"]
    check_copies(conjure.load(family.build(), steps=2, **family.settings), tmp_path, monkeypatch, steps=2, **family.settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_copies_of_every_family_have_one_fingerprint(name, tmp_path, monkeypatch):
    family = FAMILIES[name]
    settings = {"steps": 4, **family.settings}
    process = conjure.load(family.build(), **settings).set(pipeline_kwargs=family.pipeline_kwargs)
    check_copies(process, tmp_path, monkeypatch, **settings)


def test_the_order_of_sets_does_not_change_a_description():
    first, second = {0, 8}, {8, 0}
    assert list(first) != list(second)
    assert Describer().describe(first, "set") == Describer().describe(second, "set")
    assert fingerprint._clean_config({"key": first}) == fingerprint._clean_config({"key": second})


@pytest.mark.slow
def test_the_fingerprint_does_not_depend_on_hash_seeds_or_folders(default_process, tmp_path):
    """The package in another folder and another order of sets, in new processes."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    code = "import conjure; print(conjure.load().fingerprint())"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == default_process.fingerprint()


@pytest.mark.parametrize("page", ["docs/results.md", "docs/asymmetry.md"])
def test_printed_fingerprints_are_those_of_the_default_model(default_process, page):
    printed = re.findall(r"fingerprint ([0-9a-f]{12})", (ROOT / page).read_text())
    assert printed
    assert set(printed) == {default_process.fingerprint()[:12]}

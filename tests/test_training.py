"""The recipe keeps its promises: benchmark texts and unseen names are not trained on, and words find what they look like."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

TRAINING = Path(__file__).parent.parent / "training"


@pytest.fixture(scope="module")
def recipe():
    pytest.importorskip("resvg_py", reason="the recipe needs the extra train")
    sys.path.insert(0, str(TRAINING))
    yield
    sys.path.remove(str(TRAINING))


@pytest.fixture
def allowed(recipe, monkeypatch, tmp_path):
    import left_out

    known = tmp_path / "left_out.txt"
    known.write_text("\n".join(left_out.digests("The act of constructing something!")))
    monkeypatch.setattr(left_out, "LIST", known)
    meanings = [SimpleNamespace(label=name) for name in ("coat", "Hard drive", "fish", "dog")]
    data: Any = SimpleNamespace(meanings=meanings, unseen=np.array([0, 1, 2]))
    return left_out.Allowed(data)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("the act of constructing something", False),
        ("Building construction: the act of constructing something.", False),
        ("the act of constructing something else", True),
        ("a red coat", False),
        ("two coats", False),
        ("coatings", True),
        ("harddrive", False),
        ("hard-drives", False),
        ("Fishes", False),
        ("a dog", True),
    ],
)
def test_left_out(allowed, text, fine):
    assert allowed(text) is fine


def test_short_texts_are_names(recipe):
    from left_out import digests

    assert digests("red apple") == set()
    assert digests("a red apple") == digests("A red apple.") != set()


def test_benchmarks_are_all_in_the_list(recipe, judgements):
    """What the recipe's list was made of is what it is to be made of: texts of the sets, by their hashes."""
    from conftest import SIMILARITY

    from left_out import LIST, digests, texts_of

    known = {one for text in texts_of(SIMILARITY) for one in digests(text)}
    assert set(LIST.read_text().split()) <= known

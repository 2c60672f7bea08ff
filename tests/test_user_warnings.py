"""Warnings name the user's line, however many functions of the package lie between."""

from __future__ import annotations

import warnings

import pytest

import conjure
from conjure.errors import ReadOnlyStoreWarning, TextTruncationWarning

SAME_TOKENS = ("Cat", "cat")
CALLS = {
    "distance": lambda process: conjure.distance(process, *SAME_TOKENS, samples=1),
    "distances": lambda process: conjure.distances(process, [SAME_TOKENS], samples=1),
    "matrix": lambda process: conjure.matrix(process, SAME_TOKENS, samples=2),
    "nearest": lambda process: conjure.nearest(process, "cat", ["Cat"], top=1, samples=2),
    "a truncated text": lambda process: conjure.distance(process, "cat", "dog " * 200, samples=1),
    "an old argument": lambda process: conjure.nearest(process, "cat", among=["dog"], top=1, samples=2),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_warnings_point_to_the_users_line(tiny_sd, call):
    process = conjure.load(tiny_sd, steps=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(process)
    own = [
        warning for warning in caught if isinstance(warning.message, TextTruncationWarning) or "renamed" in str(warning.message)
    ]
    assert own
    assert {(warning.filename, warning.lineno) for warning in own} == {(__file__, call.__code__.co_firstlineno)}


def test_the_warning_of_a_read_only_store_points_to_the_users_line(tiny_sd, tmp_path):
    process = conjure.load(tiny_sd, steps=1)
    conjure.distance(process.set(store=conjure.Store(tmp_path / "s")), "a", "b", samples=1)
    store = conjure.Store(tmp_path / "s")
    store.database._warns_of_new_rows = True
    with pytest.warns(ReadOnlyStoreWarning) as caught:
        conjure.distance(process.set(store=store), "a", "c", samples=1)
    assert [warning.filename for warning in caught if warning.category is ReadOnlyStoreWarning] == [__file__]

"""The numbers of record_golden.py are what they were: to the bit on the machine that recorded them, to 1e-6 elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from record_golden import GOLDEN, machine, measure_in_new_process


def differences(now: Any, then: Any, exact: bool, path: str = "") -> Iterator[str]:
    """The places at which two trees of plain data differ."""
    if isinstance(then, dict):
        if not isinstance(now, dict) or now.keys() != then.keys():
            yield f"{path}: other keys"
            return
        for key in then:
            yield from differences(now[key], then[key], exact, f"{path}/{key}")
    elif isinstance(then, list):
        if not isinstance(now, list) or len(now) != len(then):
            yield f"{path}: another length"
            return
        for number, pair in enumerate(zip(now, then, strict=True)):
            yield from differences(*pair, exact, f"{path}/{number}")
    elif isinstance(then, float) and isinstance(now, float):
        both_nan = math.isnan(now) and math.isnan(then)
        if not (now == then or both_nan or (not exact and math.isclose(now, then, rel_tol=1e-6, abs_tol=1e-9))):
            yield f"{path}: {now!r} instead of {then!r}"
    elif now != then:
        yield f"{path}: {now!r} instead of {then!r}"


def test_numbers_are_what_they_were():
    golden = json.loads(GOLDEN.read_text())
    found = list(differences(measure_in_new_process(), golden["numbers"], exact=machine() == golden["machine"]))
    assert not found, found[:20]


def test_a_changed_number_is_noticed():
    golden = json.loads(GOLDEN.read_text())["numbers"]
    changed = json.loads(json.dumps(golden))
    changed["default"]["estimates"]["plain"]["distance"] *= 1 + 1e-12
    assert list(differences(changed, golden, exact=True))
    assert not list(differences(changed, golden, exact=False))
    changed["default"]["estimates"]["plain"]["distance"] *= 1 + 1e-5
    assert len(list(differences(changed, golden, exact=False))) == 1

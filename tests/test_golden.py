"""Golden numbers are unchanged: to the bit on the machine that recorded them, to 1e-3 elsewhere (errors to 2e-2)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from record_golden import GOLDEN, LIBRARIES, machine, measure_in_new_process


def differences(actual: Any, golden: Any, exact: bool, path: str = "") -> Iterator[str]:
    """Yield the places at which two trees of plain data differ."""
    if isinstance(golden, dict):
        if not isinstance(actual, dict) or actual.keys() != golden.keys():
            yield f"{path}: different keys"
            return
        for key in golden:
            yield from differences(actual[key], golden[key], exact, f"{path}/{key}")
    elif isinstance(golden, list):
        if not isinstance(actual, list) or len(actual) != len(golden):
            yield f"{path}: different lengths"
            return
        for number, pair in enumerate(zip(actual, golden, strict=True)):
            yield from differences(*pair, exact, f"{path}/{number}")
    elif isinstance(golden, float) and isinstance(actual, float):
        both_nan = math.isnan(actual) and math.isnan(golden)
        # Errors are small differences between samples, to which rounding contributes more
        tolerance = 2e-2 if "stderr" in path or "ci95" in path else 1e-3
        if not (actual == golden or both_nan or (not exact and math.isclose(actual, golden, rel_tol=tolerance, abs_tol=1e-9))):
            yield f"{path}: {actual!r} instead of {golden!r}"
    elif actual != golden:
        yield f"{path}: {actual!r} instead of {golden!r}"


def test_numbers_are_unchanged():
    golden, here = json.loads(GOLDEN.read_text()), machine()
    actual = measure_in_new_process()
    if any(here[name] != golden["machine"][name] for name in LIBRARIES):
        for numbers in (actual, golden["numbers"]):
            remove_fingerprints(numbers)
    found = list(differences(actual, golden["numbers"], exact=here == golden["machine"]))
    assert not found, found[:20]


def remove_fingerprints(numbers: dict[str, Any]) -> None:
    for model in numbers.values():
        model.pop("fingerprint", None)
        model["rows"][0].pop("key", None)


def test_a_changed_number_is_detected():
    golden = json.loads(GOLDEN.read_text())["numbers"]
    changed = json.loads(json.dumps(golden))
    changed["default"]["estimates"]["plain"]["distance"] *= 1 + 1e-12
    assert list(differences(changed, golden, exact=True))
    assert not list(differences(changed, golden, exact=False))
    changed["default"]["estimates"]["plain"]["distance"] *= 1 + 1e-2
    assert len(list(differences(changed, golden, exact=False))) == 1

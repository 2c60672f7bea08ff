"""The names that `conjure` exports: they are complete, in order, and documented."""

from __future__ import annotations

import inspect
from pathlib import Path

import conjure
import conjure.errors

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"


def error_classes() -> dict[str, type[Exception]]:
    """Return the errors and warnings of Conjure by name."""
    classes = vars(conjure.errors).items()
    return {name: value for name, value in classes if inspect.isclass(value) and issubclass(value, Exception)}


def test_every_exported_name_has_its_module():
    assert list(conjure._MODULES) == conjure.__all__ == sorted(conjure.__all__)
    for name, module in conjure._MODULES.items():
        assert getattr(conjure, name).__module__.startswith("conjure.")
        assert (Path(conjure.__file__).parent / f"{module.replace('.', '/')}.py").exists()


def test_all_errors_and_warnings_are_exported():
    """Users catch them."""
    exported = {name: getattr(conjure, name) for name in conjure.__all__}
    assert {"InputError", "OutputError", "ReadOnlyStoreWarning"} <= set(error_classes())
    assert error_classes().items() <= exported.items()


def test_the_reference_lists_all_errors_and_warnings():
    listed = [line.removeprefix("::: conjure.errors.") for line in REFERENCE.read_text().splitlines() if ".errors." in line]
    assert sorted(listed) == sorted(error_classes())


def test_an_output_error_holds_the_result():
    assert conjure.OutputError("the disk is full").result is None
    error = conjure.OutputError("the disk is full", result=3)
    assert (str(error), error.result) == ("the disk is full", 3)

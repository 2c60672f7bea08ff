"""A command with the default model imports no modules that this model does not use."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

import conjure
from conjure.cli import deferred_imports
from conjure.cli.deferred_imports import TypesPlaceholder, attributes_of, deferred, package_of, placeholders, types_of, unmarked
from conjure.cli.process import ProcessOptions

# The compiler and others that a distance does not use
UNUSED = {"torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp", "scipy.stats", "matplotlib",
          "pandas", "gradio", "ray"}  # fmt: skip


@pytest.fixture
def costly_module(tmp_path, monkeypatch) -> str:
    """The name of a module that was not imported before."""
    (tmp_path / "costly_module.py").write_text("def double(number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "costly_module", raising=False)
    return "costly_module"


def test_a_module_is_imported_when_its_function_is_called(costly_module):
    with placeholders([attributes_of(costly_module, double=deferred(costly_module, "double"))]):
        from costly_module import double  # type: ignore[import-not-found]

        assert find_spec(costly_module) is not None  # the module is installed
        with pytest.raises(ImportError):
            from costly_module import halve  # noqa: F401
    assert costly_module not in sys.modules
    assert double(4) == 8
    assert sys.modules[costly_module].__file__ is not None


def test_placeholders_are_removed_after_an_error(costly_module):
    with pytest.raises(ZeroDivisionError), placeholders([types_of(costly_module)]):
        raise ZeroDivisionError
    assert costly_module not in sys.modules


def test_imported_modules_stay():
    with placeholders([types_of("json")]):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_other_versions_of_the_libraries_are_imported_as_usual(costly_module, monkeypatch):
    monkeypatch.setattr(deferred_imports, "LIBRARIES", ())
    monkeypatch.setattr(deferred_imports, "COMPILER", costly_module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(deferred_imports, "all_placeholders", lambda: [types_of(costly_module)])
    with deferred_imports.deferred_imports():
        assert isinstance(sys.modules[costly_module], TypesPlaceholder)
    monkeypatch.setattr(deferred_imports, "TESTED_VERSIONS", {"torch": "0."})
    with deferred_imports.deferred_imports():
        assert costly_module not in sys.modules


def test_modules_of_a_package_are_imported_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "outer" / "costly").mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").touch()
    (tmp_path / "outer" / "costly" / "__init__.py").write_text("all_models = 1\n")
    (tmp_path / "outer" / "costly" / "part.py").write_text("value = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    with placeholders([package_of("outer.costly")]):
        from outer.costly.part import value  # type: ignore[import-not-found]

        assert value == 2
        assert not hasattr(sys.modules["outer.costly"], "all_models")
    from outer.costly import all_models  # type: ignore[import-not-found]

    assert all_models == 1
    for name in ("outer.costly.part", "outer.costly", "outer"):
        monkeypatch.delitem(sys.modules, name)


def test_installed_packages_are_searched_once(monkeypatch):
    searches = []
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: searches.append(1))
    search = importlib.metadata.packages_distributions
    with deferred_imports.one_search_for_packages():
        importlib.metadata.packages_distributions()
        importlib.metadata.packages_distributions()
    assert len(searches) == 1
    assert importlib.metadata.packages_distributions is search


def test_types_have_no_instances(costly_module):
    with placeholders([types_of(costly_module)]):
        from costly_module import Tensor

        assert Tensor is sys.modules[costly_module].Tensor
        assert not isinstance(object(), Tensor)
        assert isinstance(Tensor(0, size=1), Tensor)
        assert not hasattr(sys.modules[costly_module], "__path__")  # it is no package


def test_decorators_of_the_compiler_change_no_function():
    def function() -> None: ...

    assert unmarked(function, recursive=False) is function
    assert unmarked()(function) is function


@pytest.mark.parametrize(
    "option",
    [{"model": "folder"}, {"lora": ["x:1"]}, {"textual_inversion": ["x"]}, {"quantize": "int8"}, {"compile": True},
     {"offload": "model"}, {"workers": 2}, {"ray": "auto"}],
)  # fmt: skip
def test_everything_is_imported_for_other_models_and_changes_of_weights(option):
    assert ProcessOptions(steps=3, dtype="float16", lora=[], textual_inversion=[]).uses_default_weights()
    assert not ProcessOptions(**option).uses_default_weights()


@pytest.mark.slow
def test_a_comparison_imports_no_unused_module(default_process):
    """Its result is that of a Python process with all modules."""
    code = (
        "import sys\n"
        "from conjure.cli import main\n"
        "try:\n"
        "    main(['compare', 'sun', 'moon', '--steps', '2', '--samples', '1', '--json'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"print(' '.join({UNUSED} & set(sys.modules)))\n"
        "import torch._dynamo, torch.distributed.tensor, scipy.stats\n"
        "assert torch._dynamo.reset and torch.distributed.tensor.DTensor.__module__ and scipy.stats.beta"
    )
    completed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert completed.stderr == ""
    assert completed.returncode == 0
    output, unused = completed.stdout.splitlines()
    assert unused == ""
    result = json.loads(output)
    expected = conjure.distance(default_process.set(steps=2), "sun", "moon", samples=1)
    assert result["distance"] == pytest.approx(expected.distance, rel=1e-6)
    assert result["fingerprint"] == expected.fingerprint

"""The default model without modules that it does not use, whose imports would take half of the run time of a short command.

transformers and diffusers import torch's compiler to mark functions that it must not trace, PEFT and torch's distributed tensors
to recognise their objects, and statistics of scipy for noise levels that few models have. While the default model is loaded, the
libraries find placeholders of these modules. Afterwards the placeholders are removed, so that the real modules are imported where
something needs them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

# Placeholders depend on what the libraries import. With other versions everything is imported
TESTED_VERSIONS = {"diffusers": "0.42.", "torch": "2.13.", "transformers": "5.23."}
COMPILER = "torch._dynamo"
MASKS = f"{COMPILER}._trace_wrapped_higher_order_op"
# Each of them imports some of the modules, if it is imported before
LIBRARIES = ("diffusers.utils.torch_utils", "transformers.modeling_utils")
MODULES_OF_TYPES = (
    "peft.helpers",
    "peft.tuners.tuners_utils",
    "torch.distributed._composable.fsdp",
    "torch.distributed.checkpoint.hf_storage",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed.tensor._utils",
    "torch.distributed.tensor.placement_types",
)


def unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """Return a function as it is: the mark that a decorator of the compiler sets matters only where something is compiled."""
    return unmarked if function is None else function


def deferred(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a module when it is called, and calls the function `name` of this module."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(*args, **kwargs)

    return call


class TypesPlaceholder(ModuleType):
    """A module of which only types are used, mostly to recognise their instances. All its names are types that do nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        vars(self)[name] = type(name, (), {"__init__": lambda self, *args, **kwargs: None})
        return vars(self)[name]


def types_of(name: str) -> ModuleType:
    """Return a `TypesPlaceholder` with a name."""
    return TypesPlaceholder(name)


def attributes_of(name: str, **attributes: Any) -> ModuleType:
    """Return a placeholder of the module `name` with these attributes and no others."""
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


def package_of(name: str) -> ModuleType:
    """Return a placeholder of a package from which its modules can be imported, without the code of the package itself."""
    parent, _, last = name.rpartition(".")
    spec = find_spec(parent)
    assert spec is not None
    folders = [str(Path(folder) / last) for folder in spec.submodule_search_locations or ()]
    return attributes_of(name, __path__=folders)


def all_placeholders() -> list[ModuleType]:
    """Return new placeholders of all modules that the default model does not use."""
    return [
        attributes_of(
            COMPILER,
            allow_in_graph=unmarked,
            assume_constant_result=unmarked,
            disable=unmarked,
            eval_frame=types_of("eval_frame"),
        ),
        attributes_of(MASKS, TransformGetItemToIndex=deferred(MASKS, "TransformGetItemToIndex")),
        attributes_of("scipy.stats"),  # diffusers uses it as an attribute of scipy, which then imports it
        package_of("transformers.models"),  # it reads all its hundreds of folders, of which one is used
        *map(types_of, MODULES_OF_TYPES),
    ]


@contextlib.contextmanager
def placeholders(modules: list[ModuleType]) -> Iterator[None]:
    """Context manager in which imports return placeholders. Modules that were imported before stay.

    Args:
        modules: The placeholders, with the names of the modules.
    """
    used = {module.__name__: module for module in modules if module.__name__ not in sys.modules}
    for name, module in used.items():
        # Libraries ask for it to find out whether a module is installed
        module.__spec__ = ModuleSpec(name, None, is_package="__path__" in vars(module))
    sys.modules.update(used)
    try:
        yield
    finally:
        for name, module in used.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextlib.contextmanager
def deferred_imports() -> Iterator[None]:
    """Context manager in which the default model is imported and loaded without the modules that it does not use.

    All modules are imported as usual where a CUDA device may compile, in a Python process that has used the libraries before, and
    with versions of the libraries that were not tested.
    """
    import torch

    is_tested = all(importlib.metadata.version(name).startswith(prefix) for name, prefix in TESTED_VERSIONS.items())
    if torch.cuda.is_available() or not is_tested or any(name in sys.modules for name in (COMPILER, *LIBRARIES)):
        yield
        return
    with placeholders(all_placeholders()), one_search_for_packages():
        yield


@contextlib.contextmanager
def one_search_for_packages() -> Iterator[None]:
    """Context manager in which the files of all installed packages are searched at most once, although two libraries ask."""
    search = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = functools.cache(search)
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = search

"""Descriptions of Python objects by their content: plain values, functions by their code, and objects by class and attributes.

Equal descriptions mean equal behaviour. They do not depend on addresses, on the order of sets and dictionaries, or on files.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Mapping, Set
from enum import Enum
from typing import Any

import numpy as np
import torch

# Behaviour of these packages is identified by names. All other code is hashed.
KNOWN_PACKAGES = frozenset((
    "torch", "diffusers", "transformers", "tokenizers", "peft", "accelerate", "sentence_transformers", "optimum", "torchao",
    "gguf", "bitsandbytes", "conjure", "numpy", "builtins", "functools", "collections", "math", "operator", "typing", "enum",
    "contextlib", "re", "warnings", "weakref", "inspect", "abc",
    "types", "huggingface_hub", "safetensors", "PIL", "jaxtyping", "beartype",  # they check types and shapes
))  # fmt: skip
MAX_DEPTH = 12
COMPUTED_TABLES = ("freqs_cis",)  # attributes that the first call of a network computes
PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size, slice, range, type(Ellipsis))


def is_known(module_name: str | None) -> bool:
    """Return whether code of a module is identified by its name: a known package or the standard library."""
    package = (module_name or "builtins").partition(".")[0]
    return package in sys.stdlib_module_names or package.lstrip("_") in KNOWN_PACKAGES


class Describer:
    """Describes objects, and collects what it cannot describe.

    Attributes:
        unknown: What cannot be described, as text for messages.
    """

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._place = ""
        self._active: set[int] = set()  # ids of the objects that are being described, since objects may contain themselves
        self._codes: dict[int, str] = {}
        self._classes: dict[type, Any] = {}

    def describe(self, value: Any, place: str) -> Any:
        """Return the description of `value` as plain data.

        Args:
            value: Any object.
            place: Where it was found, for messages.
        """
        self._place = place
        return self._describe(value)

    def class_of(self, cls: type, place: str) -> Any:
        """Return the description of a class: its name, and all its code that is not part of a known package."""
        self._place = place
        return self._class(cls)

    def _describe(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, Enum):
            return [type(value).__qualname__, value.name]
        if isinstance(value, PLAIN_TYPES):
            return [type(value).__name__, repr(value)]
        if isinstance(value, (torch.device, types.ModuleType, torch.Generator)):
            return type(value).__name__  # a device does not change a result, and a process passes its own generators
        if id(value) in self._active:
            return "recursive"
        if len(self._active) > MAX_DEPTH:
            return self._unknown(value)
        self._active.add(id(value))
        try:
            return self._compound(value)
        finally:
            self._active.discard(id(value))

    def _compound(self, value: Any) -> Any:
        if isinstance(value, torch.nn.Module):
            return self._class(type(value))  # its state is described where it is registered
        if isinstance(value, (torch.Tensor, np.ndarray)):
            array = (
                value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                if isinstance(value, torch.Tensor)
                else value
            )
            return [str(value.dtype), list(value.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        if isinstance(value, (list, tuple)):
            return [self._describe(item) for item in value]
        if isinstance(value, Set):
            return ["set", *sorted(repr(self._describe(item)) for item in value)]
        if isinstance(value, Mapping):
            return {"mapping": sorted([repr(self._describe(key)), self._describe(item)] for key, item in value.items())}
        if isinstance(value, type):
            return self._class(value)
        if callable(value) and isinstance(
            value, (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
        ):
            return self._callable(value)
        return self._object(value)

    def _callable(self, value: Any) -> Any:
        if (compiled := getattr(value, "_torchdynamo_orig_callable", None)) is not None:
            return self._describe(compiled)
        if isinstance(value, functools.partial):
            return [self._describe(value.func), self._describe(value.args), self._describe(value.keywords)]
        if isinstance(value, types.MethodType):
            return [self._describe(value.__func__), self._describe(value.__self__)]
        if isinstance(value, types.BuiltinFunctionType):
            return value.__qualname__ if is_known(value.__module__) else self._unknown(value)
        return self._function(value)

    def _function(self, function: types.FunctionType) -> Any:
        # Not `__module__`, which functools.wraps copies from another function
        module_name = function.__globals__.get("__name__", "")
        if is_known(module_name):
            return [module_name, function.__qualname__]
        closure = inspect.getclosurevars(function)
        variables = dict(closure.globals) | dict(closure.nonlocals)
        values = {name: self._describe(value) for name, value in sorted(variables.items())}
        defaults = [self._describe(function.__defaults__), self._describe(function.__kwdefaults__)]
        return [self._code(function.__code__), values, defaults]

    def _code(self, code: types.CodeType) -> str:
        """Return the hash of compiled code. It does not depend on names of files, on line numbers or on comments."""
        if id(code) not in self._codes:
            constants = [
                self._code(constant) if isinstance(constant, types.CodeType)
                else sorted(map(repr, constant)) if isinstance(constant, frozenset)
                else repr(constant)
                for constant in code.co_consts
            ]  # fmt: skip
            content = (code.co_code, code.co_names, code.co_argcount, code.co_kwonlyargcount, code.co_flags, constants)
            self._codes[id(code)] = hashlib.sha256(repr(content).encode()).hexdigest()
        return self._codes[id(code)]

    def _class(self, cls: type) -> Any:
        if cls not in self._classes:
            self._classes[cls] = name = [cls.__module__, cls.__qualname__]
            bodies: list[Any] = []
            for base in cls.__mro__:
                if base in (torch.nn.Module, object):
                    break
                functions = {key: _unwrapped(value) for key, value in vars(base).items()}
                # Methods of a known class that other code has replaced count too
                bodies += [
                    [key, self._function(function)]
                    for key, function in sorted(functions.items())
                    if isinstance(function, types.FunctionType) and not is_known(function.__globals__.get("__name__"))
                ]
                if not is_known(base.__module__):
                    plain = {key: value for key, value in functions.items() if isinstance(value, PLAIN_TYPES)}
                    hidden = ("__module__", "__doc__", "__firstlineno__", "__qualname__")
                    bodies.append({key: repr(value) for key, value in sorted(plain.items()) if key not in hidden})
            self._classes[cls] = [*name, *bodies]
        return self._classes[cls]

    def _object(self, value: Any) -> Any:
        slots = [
            name
            for base in type(value).__mro__
            for name in np.atleast_1d(vars(base).get("__slots__", ())).tolist()
            if name not in ("__dict__", "__weakref__") and hasattr(value, name)
        ]
        if not slots and not hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in KNOWN_PACKAGES:
            return self._unknown(value)
        attributes = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        state = {name: self._describe(item) for name, item in sorted(attributes.items()) if name not in COMPUTED_TABLES}
        return [self._class(type(value)), state]

    def _unknown(self, value: Any) -> str:
        name = f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        self.unknown.append(f"{self._place}: {name}")
        return f"unknown {name}"


def _unwrapped(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    return value.fget if isinstance(value, property) else value

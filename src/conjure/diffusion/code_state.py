"""Descriptions of Python objects by their content: plain values, functions by their code, and objects by class and attributes.

Equal descriptions mean equal behaviour. They do not depend on addresses, on the order of sets and dictionaries, or on files.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import inspect
import math
import types
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from typing import Any

import numpy as np
import torch

from conjure.diffusion.code_inspection import functions_of, hash_code, is_known, nested_codes, without_computed
from conjure.diffusion.weights import num_edits, plain_tensors, tensor_bytes

MAX_DEPTH = 12
PLAIN_TYPES = (
    bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.layout, torch.memory_format, torch.Size, slice, range,
    type(Ellipsis),
)  # fmt: skip
CALLABLE_TYPES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
DESCRIPTOR_TYPES = (types.MemberDescriptorType, types.GetSetDescriptorType)  # of attributes, which are described with an object


class Describer:
    """Describes objects, and collects what it cannot describe.

    Args:
        max_hashed_bytes: Larger tensors are described by type, shape and number of in-place edits instead of their content.

    Attributes:
        unknown: What cannot be described, as text for messages.
        has_added_code: Whether `describe_added` described code that is not part of a known package.
    """

    def __init__(self, max_hashed_bytes: float = math.inf) -> None:
        self.max_hashed_bytes = max_hashed_bytes
        self.unknown: list[str] = []
        self.has_added_code = False
        self._has_foreign_code = False
        self._place = ""
        self._active: set[int] = set()  # ids of the objects that are being described, since objects may contain themselves
        self._classes: dict[type, Any] = {}

    def describe(self, value: Any, place: str) -> Any:
        """Return the description of `value` as plain data.

        Args:
            value: Any object.
            place: Where it was found, for messages.
        """
        self._place = place
        return self._describe(value)

    def describe_added(self, value: Any, place: str) -> Any:
        """Return the description of something that was added to a network, such as a hook, as `describe` does."""
        self._has_foreign_code = False
        description = self.describe(value, place)
        self.has_added_code |= self._has_foreign_code
        return description

    def class_of(self, cls: type, place: str) -> Any:
        """Return the description of a class: its name, and all its code that is not part of a known package."""
        self._place = place
        return self._class(cls)

    def _describe(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, Enum):
            known = is_known(type(value).__module__)
            return [type(value).__qualname__, value.name, *([] if known else [self._describe(value.value)])]
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
            return self._module(value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, (np.ndarray, np.generic)):
            content = value.tolist() if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()
            return [str(value.dtype), list(value.shape), self._describe(content)]
        if isinstance(value, (list, tuple)):
            return [self._describe(item) for item in value]
        if isinstance(value, Set):
            return ["set", *sorted(repr(self._describe(item)) for item in value)]
        if isinstance(value, Mapping):
            items = [[repr(self._describe(key)), self._describe(item)] for key, item in value.items()]
            return {"mapping": sorted(items, key=repr)}  # different keys may have one description
        if isinstance(value, type):
            return self._class(value)
        return self._callable(value) if isinstance(value, CALLABLE_TYPES) else self._object(value)

    def _module(self, module: torch.nn.Module) -> Any:
        """Return the description of a module that an object refers to."""
        return self._class(type(module))

    def _tensor(self, tensor: torch.Tensor) -> Any:
        if tensor.device.type == "meta" or tensor.layout is not torch.strided:
            return self._unknown(tensor)
        if tensor.nbytes > self.max_hashed_bytes:
            return [str(tensor.dtype), list(tensor.shape), num_edits(tensor)]
        return [
            [part, str(inner.dtype), list(inner.shape), hashlib.sha256(tensor_bytes(inner).data).hexdigest()]
            for part, inner in plain_tensors(tensor)
        ]

    def _callable(self, value: Any) -> Any:
        if (compiled := getattr(value, "_torchdynamo_orig_callable", None)) is not None:
            return self._describe(compiled)
        if isinstance(value, functools.partial):
            return [self._describe(value.func), self._describe(value.args), self._describe(value.keywords)]
        if isinstance(value, types.MethodType):
            return [self._describe(value.__func__), self._describe(value.__self__)]
        if isinstance(value, types.BuiltinFunctionType):
            if not is_known(value.__module__):
                return self._unknown(value)
            bound = not isinstance(value.__self__, (types.ModuleType, type, type(None)))  # a method of a tensor, for example
            return [value.__qualname__, self._describe(value.__self__)] if bound else value.__qualname__
        return self._function(value)

    def _function(self, function: types.FunctionType) -> Any:
        # Not `__module__`, which functools.wraps copies from another function
        module_name = function.__globals__.get("__name__", "")
        if is_known(module_name):
            return [module_name, function.__qualname__]
        self._has_foreign_code = True
        names = {name for code in nested_codes(function.__code__) for name in code.co_names}
        variables = {name: value for name, value in function.__globals__.items() if name in names}
        variables |= inspect.getclosurevars(function).nonlocals
        values = {name: self._variable(value, names) for name, value in sorted(variables.items())}
        defaults = [self._describe(function.__defaults__), self._describe(function.__kwdefaults__)]
        return [hash_code(function.__code__), values, defaults]

    def _variable(self, value: Any, names: Set[str]) -> Any:
        """Return the description of a variable that code reads: of a module, that of the parts with names in this code.

        Installed packages are described by their names, since they consist of too many parts.
        """
        if not isinstance(value, types.ModuleType) or _is_installed(value) or id(value) in self._active:
            return self._describe(value)
        self._active.add(id(value))
        try:
            parts = {name: part for name, part in vars(value).items() if name in names}
            return {"module": {name: self._variable(part, names) for name, part in sorted(parts.items())}}
        finally:
            self._active.discard(id(value))

    def _class(self, cls: type) -> Any:
        if cls not in self._classes:
            self._classes[cls] = name = [cls.__module__, cls.__qualname__]
            bodies: list[Any] = []
            for base in cls.__mro__:
                if base in (torch.nn.Module, object):
                    break
                for key, value in sorted(vars(base).items()):
                    functions = functions_of(value)
                    # Methods of a known class that other code has replaced count too
                    bodies += [
                        [key, self._function(function)]
                        for function in functions
                        if not (is_known(base.__module__) and is_known(function.__globals__.get("__name__")))
                    ]
                    is_data = not functions and not key.startswith("__") and not isinstance(value, DESCRIPTOR_TYPES)
                    if is_data and key != "_abc_impl" and not is_known(base.__module__):
                        bodies.append([key, self._describe(value)])
            self._classes[cls] = [*name, *bodies]
        self._has_foreign_code |= len(self._classes[cls]) > 2  # more than its name
        return self._classes[cls]

    def _object(self, value: Any) -> Any:
        slots = [
            name
            for base in type(value).__mro__
            for name in np.atleast_1d(vars(base).get("__slots__", ())).tolist()
            if name not in ("__dict__", "__weakref__") and hasattr(value, name)
        ]
        if not slots and not hasattr(value, "__dict__"):
            return self._opaque(value)
        attributes = {name: getattr(value, name) for name in slots} | getattr(value, "__dict__", {})
        state = {name: self._describe(item) for name, item in without_computed(type(value), attributes).items()}
        return [self._class(type(value)), state]

    def _opaque(self, value: Any) -> Any:
        """Return the description of an object without visible attributes: by what pickle stores of it."""
        if isinstance(value, Iterator):
            return self._unknown(value)  # a call changes its state
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception:  # objects of other packages raise errors of any type
            return self._unknown(value)
        if isinstance(reduced, str):
            return [self._class(type(value)), reduced]
        _, arguments, state, items, entries = (*reduced, None, None, None)[:5]
        parts = (arguments, state, list(items or ()), list(entries or ()))
        return [self._class(type(value)), *(self._describe(part) for part in parts)]

    def _unknown(self, value: Any) -> str:
        name = f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        self.unknown.append(f"{self._place}: {name}")
        return f"unknown {name}"


def _is_installed(module: types.ModuleType) -> bool:
    """Return whether a module is a known one, or belongs to an installed package."""
    return is_known(module.__name__) or "site-packages" in (getattr(module, "__file__", None) or "")

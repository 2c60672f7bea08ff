"""Inspection of Python code: packages that are identified by name, hashes of functions, and attributes that calls compute."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch

# Behaviour of these packages is identified by names. All other code is hashed.
KNOWN_PACKAGES = frozenset((
    "torch", "diffusers", "transformers", "tokenizers", "peft", "accelerate", "sentence_transformers", "optimum", "torchao",
    "gguf", "bitsandbytes", "conjure", "numpy", "builtins", "functools", "collections", "math", "operator", "typing", "enum",
    "contextlib", "re", "warnings", "weakref", "inspect", "abc",
    "types", "huggingface_hub", "safetensors", "PIL", "jaxtyping", "beartype",  # they check types and shapes
))  # fmt: skip
CONSTRUCTORS = ("__init__", "__post_init__", "_init_")  # beginnings of the names of methods that construct an object
CLEARS_CACHE = re.compile("clear_.*cache")  # names of methods that reset a cache


def is_known(module_name: str | None) -> bool:
    """Return whether code of a module is identified by its name: a known package or the standard library."""
    package = (module_name or "builtins").partition(".")[0]
    return package in sys.stdlib_module_names or package.lstrip("_") in KNOWN_PACKAGES


def without_computed(cls: type, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an object without those that code of known packages computes during a call, sorted by name.

    Such an attribute follows from the rest of the state, and may not be there before the first call: a tensor that a method
    other than the constructor assigns, such as a rotary table, or anything that a method such as `clear_cache` resets. A tensor
    that replaces a value of the constructor becomes None.

    Args:
        cls: The class of the object.
        attributes: Its attributes by name.
    """
    in_constructor, in_calls, in_caches = _assigned_attributes(cls)
    kept: dict[str, Any] = {}
    for name, value in sorted(attributes.items()):
        is_computed = name in in_calls and _has_tensors(value)
        if name not in in_caches and (not is_computed or name in in_constructor):
            kept[name] = None if is_computed else value
    return kept


@functools.cache
def _assigned_attributes(cls: type) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the names of the attributes that methods of known packages assign.

    Returns:
        Those that methods assign which construct an object, those of all other methods, and those that are reset with a cache.
    """
    in_constructor, in_calls, in_caches = set[str](), set[str](), set[str]()
    for base in cls.__mro__:
        for name, value in vars(base).items() if base not in (torch.nn.Module, object) else ():
            for method in map(inspect.unwrap, functions_of(value)):
                if is_known(method.__globals__.get("__name__")):
                    names = {step.argval for step in dis.get_instructions(method.__code__) if step.opname == "STORE_ATTR"}
                    if name.startswith(CONSTRUCTORS):
                        in_constructor |= names
                    else:
                        in_calls |= names
                        in_caches |= names if CLEARS_CACHE.search(name) else set()
    return frozenset(in_constructor), frozenset(in_calls), frozenset(in_caches)


def _has_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_tensors, value.values()))
    return any(map(_has_tensors, value)) if isinstance(value, (list, tuple)) else isinstance(value, torch.Tensor)


def functions_of(value: Any) -> list[types.FunctionType]:
    """Return the Python functions that an attribute of a class consists of: a method, or those of a decorator."""
    if isinstance(value, property):
        return [function for part in (value.fget, value.fset, value.fdel) for function in functions_of(part)]
    for name in ("__func__", "func", "__wrapped__"):  # static methods, cached properties, cached functions
        if not isinstance(value, (types.FunctionType, type)) and hasattr(value, name):
            value = getattr(value, name)
    return [value] if isinstance(value, types.FunctionType) else []


def hash_code(code: types.CodeType) -> str:
    """Return the hash of compiled code. It does not depend on names of files, on line numbers or on comments."""
    constants = [
        hash_code(constant) if isinstance(constant, types.CodeType)
        else sorted(map(repr, constant)) if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    ]  # fmt: skip
    content = (
        code.co_code, code.co_exceptiontable, code.co_names, code.co_argcount, code.co_kwonlyargcount, code.co_flags, constants,
    )  # fmt: skip
    return hashlib.sha256(repr(content).encode()).hexdigest()


def nested_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield compiled code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested_codes(constant)

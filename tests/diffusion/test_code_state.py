"""Descriptions of objects differ where behaviour differs, and are equal for equal content."""

from __future__ import annotations

import collections
import enum
import functools
import itertools
import re

import numpy as np
import pytest
import torch

from conjure.diffusion.code_state import Describer

FACTOR = 1.0


def describe(value):
    describer = Describer()
    description = describer.describe(value, "value")
    assert not describer.unknown, describer.unknown
    return description


def class_with(**attributes):
    return type("Custom", (), attributes)


def scale_enum(value):
    return enum.Enum("Scale", {"LARGE": value}, module="elsewhere")


def cached(factor):
    @functools.lru_cache
    def method(self, x):
        return x * factor

    return method


def setter(factor):
    def set_value(self, value):
        self.stored = value * factor

    return property(lambda self: self.stored, set_value)


def lazily(factor):
    return functools.cached_property(lambda self: factor)


def handled(caught):
    def inside(x):
        try:
            x = x + 1
            x = x * 2
        except ValueError:
            x = 0
        return x

    def outside(x):
        x = x + 1
        try:
            x = x * 2
        except ValueError:
            x = 0
        return x

    return inside if caught else outside


MAKERS = {
    "tensor": torch.tensor,
    "complex tensor": lambda value: torch.tensor([value * 1j, 1]).conj(),
    "tensor of a type without numpy": lambda value: torch.tensor([value], dtype=torch.bfloat16),
    "tensors in containers": lambda value: {"a": [(torch.tensor(value),)]},
    "numpy scalar": np.float32,
    "numpy integer": lambda value: np.int64(int(value)),
    "numpy objects": lambda value: np.array([None, {"a": value}], dtype=object),
    "pattern": lambda value: re.compile(str(value)),
    "deque": lambda value: collections.deque([value]),
    "bytearray": lambda value: bytearray([int(value)]),
    "member of an enumeration": lambda value: scale_enum(value).LARGE,
    "tensor of a class": lambda value: class_with(table=torch.tensor(value)),
    "list of a class": lambda value: class_with(scales=[value]),
    "class in a class": lambda value: class_with(Inner=class_with(scale=[value])),
    "cached method": lambda value: class_with(method=cached(value)),
    "setter": lambda value: class_with(value=setter(value)),
    "cached property": lambda value: class_with(value=lazily(value)),
    "static method": lambda value: class_with(value=staticmethod(lambda: value)),
    "method of a tensor": lambda value: torch.tensor(value).mul,
    "method of a type": lambda value: (torch.Tensor.add, torch.Tensor.mul)[int(value) - 1],
    "exceptions": lambda value: handled(value == 1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_content_and_behaviour_are_described(name):
    make = MAKERS[name]
    assert describe(make(1.0)) == describe(make(1.0))
    assert describe(make(1.0)) != describe(make(2.0))


def test_globals_of_inner_functions_are_described(monkeypatch):
    def hook(module, arguments, output):
        return [(lambda part: part * FACTOR)(part) for part in output]

    before = describe(hook)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert describe(hook) != before


@pytest.mark.parametrize(
    "value", [itertools.count(), iter([1]), torch.empty(2, device="meta"), torch.eye(2).to_sparse(), memoryview(b"a")]
)
def test_unknown_objects_are_collected(value):
    describer = Describer()
    describer.describe({"key": value}, "the place")
    assert len(describer.unknown) == 1
    assert describer.unknown[0].startswith("the place: ")


def test_large_tensors_may_be_described_by_their_edits():
    tensor, describer = torch.zeros(8), Describer(max_hashed_bytes=16)
    before = describer.describe(tensor, "tensor")
    assert describer.describe(torch.ones(8), "tensor") == before
    tensor += 1
    assert describer.describe(tensor, "tensor") != before
    assert describer.describe(torch.zeros(4), "tensor") != describer.describe(torch.ones(4), "tensor")

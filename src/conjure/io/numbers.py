"""Tests of numbers that callers give. `True` and `False` are integers in Python, but never the number that was meant."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_integer(value: Any, smallest: float = -math.inf, largest: float = math.inf) -> bool:
    """Return whether a value is an integer, of Python or NumPy, in a range. A bool is none.

    Args:
        value: Any value.
        smallest: The smallest allowed integer.
        largest: The largest allowed integer.

    Examples:
        >>> is_integer(3, 1), is_integer(0, 1), is_integer(3.0), is_integer(True)
        (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and smallest <= int(value) <= largest


def none_if_not_finite(value: Any) -> Any:
    """Return None for a float that is NaN or infinite, and every other value unchanged.

    Examples:
        >>> none_if_not_finite(0.5), none_if_not_finite(float("nan")), none_if_not_finite("text")
        (0.5, None, 'text')
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_finite_number(value: Any) -> bool:
    """Return whether a value is a finite real number, of Python or NumPy. A bool is none.

    Examples:
        >>> is_finite_number(3), is_finite_number(0.5), is_finite_number(float("nan")), is_finite_number(True)
        (True, True, False, False)
        >>> is_finite_number(10**400)
        False
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is larger than every float
        return False

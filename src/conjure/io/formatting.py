"""Formatting of numbers: a value is printed up to the second significant digit of its error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

MAX_TIMESTEP_DECIMALS = 9


def format_value(value: float, error: float = math.nan, sign: str = "") -> str:
    """Format a value up to the second significant digit of its error.

    Args:
        value: The value.
        error: The standard error of the value. If it is NaN (unknown) or 0, four significant digits are printed.
        sign: `+` to print the sign of positive values too.

    Examples:
        >>> format_value(26.2981, 1.0964), format_value(3.5281, 0.0751), format_value(12345.6, 987.6), format_value(-0.01, 1.2)
        ('26.3', '3.528', '12350', '0.0')
        >>> format_value(26.3001), format_value(0, 0), format_value(0.25, 0.042, sign="+")
        ('26.30', '0', '+0.250')
    """
    deciding, digits = (error, 2) if error > 0 else (value, 4)
    if not deciding:
        return "0"
    last_place = int(f"{deciding:.{digits - 1}e}".partition("e")[2]) - digits + 1  # a power of ten
    return f"{round(value, -last_place):{sign}z.{max(0, -last_place)}f}"


def format_with_error(value: float, error: float, sign: str = "") -> str:
    """Format a value with its standard error. An unknown error (NaN) is omitted.

    Examples:
        >>> format_with_error(26.3481, 1.0964), format_with_error(26.3481, math.nan)
        ('26.3 ± 1.1', '26.35')
    """
    return format_value(value, error, sign) + ("" if math.isnan(error) else f" ± {format_value(error, error)}")


def shared_decimals(values: Iterable[float], errors: Iterable[float]) -> int:
    """Return one number of decimals for many values, so that they can be compared at a glance.

    Args:
        values: The values; at least one.
        errors: Their standard errors. The second significant digit of the median error is the last decimal. If errors are NaN
            (unknown) or 0, it is the fourth significant digit of the median absolute value.

    Examples:
        >>> shared_decimals([303.2, 12.61], [15.1, 11.3]), shared_decimals([0.5, 0.25], [math.nan, math.nan])
        (0, 4)
    """
    known = [error for error in errors if error > 0]
    deciding, digits = (median(known), 2) if known else (median(abs(value) for value in values), 4)
    if not deciding:
        return 0
    return max(0, digits - 1 - int(f"{deciding:.{digits - 1}e}".partition("e")[2]))


def format_interval(interval: tuple[float, float], error: float | None = None, sign: str = "") -> str:
    """Format an interval. The result is empty if the interval is unknown (NaN).

    Args:
        interval: Lower and upper end.
        error: The standard error whose second significant digit is the last printed digit; None for half the width of the
            interval.
        sign: `+` to print the sign of positive values too.

    Examples:
        >>> format_interval((21.5793, 31.0169), 1.0964), format_interval((2.149, 4.4218), sign="+")
        ('21.6 to 31.0', '+2.1 to +4.4')
        >>> format_interval((math.nan, math.nan))
        ''
    """
    low, high = interval
    return "" if math.isnan(low) else " to ".join(format_value(end, error or (high - low) / 2, sign) for end in interval)


def format_timesteps(timesteps: Sequence[float]) -> list[str]:
    """Return the timesteps with as few decimals as keep them apart: integers for 999 to 0, more for schedulers from 1 to 0."""
    fewest = 0 if max(timesteps) > 10 else 2
    labels = ([f"{timestep:.{decimals}f}" for timestep in timesteps] for decimals in range(fewest, MAX_TIMESTEP_DECIMALS + 1))
    return next(
        (texts for texts in labels if len(set(texts)) == len(set(timesteps))), [f"{timestep:g}" for timestep in timesteps]
    )


def pluralize(number: int, noun: str) -> str:
    """Format a count with its noun.

    Examples:
        >>> pluralize(1, "sample"), pluralize(3, "sample")
        ('1 sample', '3 samples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Numbers as people are told them: no digit beyond the second of the error, and one thing in the singular."""

from __future__ import annotations

import math


def rounded(value: float, error: float = math.nan, sign: str = "") -> str:
    """`value` up to the second digit of its `error`; in four digits where none is known (NaN), or there is none (0).

    sign: `+` to show that of positive numbers too.

    >>> rounded(26.2981, 1.0964), rounded(3.5281, 0.0751), rounded(12345.6, 987.6), rounded(-0.01, 1.2)
    ('26.3', '3.528', '12350', '0.0')
    >>> rounded(26.3001), rounded(0, 0), rounded(0.25, 0.042, sign="+")
    ('26.30', '0', '+0.250')
    """
    deciding, digits = (error, 2) if error > 0 else (value, 4)
    if not deciding:
        return "0"
    place = int(f"{deciding:.{digits - 1}e}".partition("e")[2]) - digits + 1  # of the last digit, as a power of ten
    return f"{round(value, -place):{sign}z.{max(0, -place)}f}"


def with_error(value: float, error: float, sign: str = "") -> str:
    """`value` and its standard `error`, where that is known.

    >>> with_error(26.3481, 1.0964), with_error(26.3481, math.nan)
    ('26.3 ± 1.1', '26.35')
    """
    return rounded(value, error, sign) + ("" if math.isnan(error) else f" ± {rounded(error, error)}")


def between(interval: tuple[float, float], error: float | None = None, sign: str = "") -> str:
    """An interval in words, nothing where it is not known (NaN). error: whose second digit counts, half the width if not given.

    >>> between((21.5793, 31.0169), 1.0964), between((2.149, 4.4218), sign="+"), between((math.nan, math.nan))
    ('21.6 to 31.0', '+2.1 to +4.4', '')
    """
    low, high = interval
    return "" if math.isnan(low) else " to ".join(rounded(end, error or (high - low) / 2, sign) for end in interval)


def counted(number: int, what: str) -> str:
    """How many there are.

    >>> counted(1, "sample"), counted(3, "sample")
    ('1 sample', '3 samples')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"

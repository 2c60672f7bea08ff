"""Old public names that still work for one release and emit a `DeprecationWarning`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from conjure.user_warnings import warn_user

P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str) -> None:
    """Emit the warning that `old` was renamed to `new`.

    Args:
        old: The name that was used.
        new: The name to use.
    """
    warn_user(f"{old} was renamed to {new}; the old name will be removed in the next release", DeprecationWarning)


def renamed_keywords(**old_to_new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator with which a function also accepts old names of its keyword arguments.

    Args:
        old_to_new: The new name for each old name.

    Returns:
        The decorator. The decorated function raises `TypeError` if an argument is given under both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accept_old_names(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in old_to_new.keys() & kwargs.keys():
                new = old_to_new[old]
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got both {old!r} and {new!r}; give {new!r} alone")
                warn_renamed(f"the argument {old!r} of {function.__name__}()", repr(new))
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return accept_old_names

    return decorate


def deprecated_property(old: str, new: str) -> Any:
    """Return a read-only property that emits a `DeprecationWarning` and returns the value of the attribute `new`.

    Args:
        old: The name of the property in its class.
        new: The attribute that replaces it.
    """

    def get(self: Any) -> Any:
        warn_renamed(f"{type(self).__name__}.{old}", f"{type(self).__name__}.{new}")
        return getattr(self, new)

    get.__doc__ = f"Deprecated name of `{new}`."
    return property(get)

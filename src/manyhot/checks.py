"""Checks of arguments, with the error message of the caller."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeGuard

from manyhot.errors import InputError


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer; booleans are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_one_of(value: object, names: Iterable[str], message: str, *, where: object = None) -> None:
    """Check that a value is one of `names`.

    Raises
    ------
    InputError
        If it is not; the error lists the names.
    """
    names = tuple(names)
    if value not in names:
        raise InputError(message, where=where, got=value, allowed=", ".join(names))


def check_share(
    value: object,
    message: str,
    *,
    zero: bool = False,
    one: bool = True,
    where: object = None,
    got: object = None,
    allowed: str = "above 0, up to 1",
) -> None:
    """Check that a value is a number from 0 to 1.

    Parameters
    ----------
    value : object
    message : str
        The message of the error.
    zero, one : bool
        Whether 0, and 1, are allowed.
    where, got, allowed
        As in `InputError`; `got` is the value by default, and `allowed` describes `zero` and `one`.

    Raises
    ------
    InputError
        If it is not.
    """
    if is_number(value) and 0 <= value <= 1 and (zero or value != 0) and (one or value != 1):
        return
    raise InputError(message, where=where, got=value if got is None else got, allowed=allowed)


def check_count(
    value: object, message: str, *, least: int = 1, got: object = None, allowed: str | None = "1 and up"
) -> None:
    """Check that a value is an integer of at least `least`.

    Raises
    ------
    InputError
        If it is not.
    """
    if not is_whole(value) or value < least:
        raise InputError(message, got=value if got is None else got, allowed=allowed)


def check_draws(resamples: object, seed: object) -> None:
    """Check the number of resamples and the seed of a bootstrap.

    Raises
    ------
    InputError
        If one is negative or not an integer.
    """
    _check_not_negative("seed", seed, "0 or more")
    _check_not_negative("number of resamples", resamples, "0 (no intervals) or more")


def _check_not_negative(what: str, value: object, allowed: str) -> None:
    wrong = "negative" if is_whole(value) else "not an integer"
    got = value if is_whole(value) else repr(value)
    check_count(value, f"The {what} is {wrong}.", least=0, got=got, allowed=allowed)

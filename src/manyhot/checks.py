"""Checks of values that callers give: refused with our own message before anything is computed with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeGuard

from manyhot.errors import InputError


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether this is a whole number; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether this is a finite number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_one_of(value: object, names: Iterable[str], message: str, *, where: object = None) -> None:
    """Refuse what is none of some names, which the error lists.

    Raises
    ------
    InputError
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
    """Refuse what is no number from 0 to 1.

    Parameters
    ----------
    value : object
    message : str
        What is wrong.
    zero, one : bool
        Whether 0, and 1, are fine.
    where, got, allowed
        As in `InputError`; `got` is the value by default, and `allowed` says what `zero` and `one` do.

    Raises
    ------
    InputError
    """
    if is_number(value) and 0 <= value <= 1 and (zero or value != 0) and (one or value != 1):
        return
    raise InputError(message, where=where, got=value if got is None else got, allowed=allowed)


def check_count(
    value: object, message: str, *, least: int = 1, got: object = None, allowed: str | None = "1 and up"
) -> None:
    """Refuse what is no whole number, or one below the least.

    Raises
    ------
    InputError
    """
    if not is_whole(value) or value < least:
        raise InputError(message, got=value if got is None else got, allowed=allowed)


def check_draws(resamples: object, seed: object) -> None:
    """Refuse a bootstrap of a negative number of resamples, or from a negative seed.

    Raises
    ------
    InputError
        One is negative or no whole number.
    """
    _check_not_negative("seed", seed, "0 and up")
    _check_not_negative("number of resamples", resamples, "0 (no intervals) and up")


def _check_not_negative(what: str, value: object, allowed: str) -> None:
    wrong = "negative" if is_whole(value) else "no whole number"
    got = value if is_whole(value) else repr(value)
    check_count(value, f"The {what} is {wrong}.", least=0, got=got, allowed=allowed)

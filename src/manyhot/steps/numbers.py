"""Numbers that callers give: refused in our own words before anything is computed with them."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard

from manyhot.errors import InputError


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether this is a whole number; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether this is a finite number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_draws(resamples: object, seed: object) -> None:
    """Refuse a bootstrap of a negative number of resamples, or from a negative seed.

    Raises
    ------
    InputError
        One is negative or no whole number.
    """
    _check_count("seed", seed, "0 and up")
    _check_count("number of resamples", resamples, "0 (no intervals) and up")


def _check_count(what: str, value: object, allowed: str) -> None:
    if not is_whole(value):
        raise InputError(f"The {what} is no whole number.", got=repr(value), allowed=allowed)
    if value < 0:
        raise InputError(f"The {what} is negative.", got=value, allowed=allowed)

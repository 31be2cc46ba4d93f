"""Distinct values of large arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import Bytes, Ints, Ints64

_SAMPLE = 1000
"""Values that are sorted to find the distinct ones."""

FEW_VALUES = 256
"""Distinct values up to which they are searched for, and fit into a byte."""


def distinct_keys(keys: npt.NDArray[Any]) -> Ints64:
    """Return the sorted distinct whole numbers of an array, as ``numpy.unique`` does.

    Since version 2.3, ``numpy.unique`` puts whole numbers into a hash table. If most of five million numbers
    are different, this takes 7 s, and sorting them takes 0.3 s.
    """
    ordered = np.sort(keys, axis=None)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    found: Ints64 = ordered[is_new]
    return found


def distinct_values(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Ints]:
    """Return the sorted distinct values, and the position of each value among them, as ``numpy.unique`` does.

    Values of metrics are often shares with few different numerators and denominators. Looking up values among
    a few distinct ones takes a fifth of the time needed to sort all values.
    """
    distinct, number = _searched(values)
    if number is None:
        distinct, number = np.unique(values, return_inverse=True)
    return distinct, number


def few_values(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Bytes] | None:
    """Return what `distinct_values` does, with positions as bytes; None if there are too many values."""
    distinct, number = _searched(values)
    if number is None and len(distinct) <= FEW_VALUES:
        distinct, number = np.unique(values, return_inverse=True)
    return None if number is None or len(distinct) > FEW_VALUES else (distinct, number.astype(np.uint8))


def _searched(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Ints | None]:
    """Return some distinct values and, if they are all, the position of each value among them."""
    if len(values) <= 4 * _SAMPLE:
        distinct, number = np.unique(values, return_inverse=True)
        return distinct, number
    distinct = np.unique(values[:: len(values) // _SAMPLE])
    for _ in range(2):
        if len(distinct) > FEW_VALUES:
            break
        number = np.searchsorted(distinct, values)
        lacking = distinct.take(number, mode="clip") != values
        if not lacking.any():
            return distinct, number
        distinct = np.unique(np.concatenate([distinct, values[lacking][: 4 * _SAMPLE]]))
    return distinct, None

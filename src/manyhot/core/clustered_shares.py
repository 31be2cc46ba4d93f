"""Intervals of shares of cases that depend on each other, such as questions about the same image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.special import ndtri, stdtrit

from manyhot.core.array_types import Floats, Ints
from manyhot.core.resampling import LEVEL
from manyhot.core.share_intervals import wilson_interval

Total = Callable[[npt.NDArray[Any]], Floats]
"""Adds values of images up, of shape (n, …)."""


def totals(group: Ints, n: int) -> Total:
    """Return a function that adds values of images up by group, from 0 to n - 1."""
    return lambda values: np.bincount(group, values, n).astype(np.float64)


def clustered_interval(num: npt.ArrayLike, den: npt.ArrayLike, total: Total) -> tuple[Floats, Floats]:
    """Return the 95 % interval of ratios of sums over images; the ends are NaN for fewer than two images.

    Parameters
    ----------
    num, den : array-like, shape (n, …)
        For each image, the number of cases that count and of all cases.
    total : callable
        Adds an array of the same shape up over the images, for example ``lambda x: x.sum(axis=0)``.

    Notes
    -----
    The interval is Wilson's with counts divided by the design effect: the variance over images relative to
    that of independent cases, at least 1, times (t / z)² for Student's t with n - 1 degrees of freedom for n
    images. If all cases are equal, the variance is 0, and the cases of an image are taken to be equal.

    References
    ----------
    Korn and Graubard 1998, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 193-201.
    """
    num, den = np.asarray(num), np.asarray(den)
    k, n, images = total(num), total(den), total(den > 0)
    squares, mixed, own = total(num * num), total(num * den), total(den * den)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        spread = np.maximum(squares - 2 * p * mixed + p**2 * own, 0) * images / (images - 1) / n**2
    return effective_interval(k, n, spread, images, own / np.maximum(n, 1))


def effective_interval(
    k: Floats, n: Floats, variance: npt.ArrayLike, images: Ints | Floats, alike: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Return Wilson's interval of k / n with counts divided by the design effect; see `clustered_interval`.

    `alike` is the design effect if the cases of an image are equal.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        effect = np.where((k > 0) & (k < n), np.asarray(variance) / (p * (1 - p) / n), alike)
        tail = (1 + LEVEL) / 2
        effect = np.maximum(effect, 1) * (stdtrit(images - 1, tail) / ndtri(tail)) ** 2
    return wilson_interval(k, n, effect)

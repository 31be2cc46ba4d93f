"""Estimates, the results of metrics, which have a value under any weights of the images.

Slices and resamples are weights: a slice has weights of 0 and 1, a bootstrap resample has the number of times
that each image was drawn, and a skipped image has a weight of 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints

Weights = AnyFloats | Bools | Ints


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums over images, or the unweighted mean of such ratios over strata.

    Parameters
    ----------
    num, den : ndarray of bool or float64, shape (n,)
        The value is ``sum(w * num) / sum(w * den)``. Both are 0 if `scored` is False. If both are bool, the
        metric is a proportion of images.
    scored : ndarray of bool, shape (n,)
        False if the image is skipped.
    stratum : ndarray of int, shape (n,), optional
        With strata, the ratio is computed in each stratum and averaged over the strata with a positive
        denominator.
    """

    num: Bools | Floats
    den: Bools | Floats
    scored: Bools
    stratum: Ints | None = None

    def value(self, weights: Weights | None = None) -> float:
        """Return the metric's value under weights of shape (n,); NaN if no images count."""
        w = np.ones(len(self.num)) if weights is None else np.asarray(weights, np.float64)
        stratum = (
            np.zeros(len(self.num), np.intp)
            if self.stratum is None
            else np.where(self.scored, self.stratum, 0)
        )
        den = np.bincount(stratum, w * self.den)
        num = np.bincount(stratum, w * self.num)
        filled = den > 0
        return float(np.mean(num[filled] / den[filled])) if filled.any() else float("nan")


@dataclass(frozen=True)
class Pooled:
    """A metric that is not a ratio of sums over images, such as macro average precision.

    Parameters
    ----------
    value : callable
        Returns the metric's value under weights of shape (n,); with None instead of weights, the unweighted
        value.
    scored : ndarray of bool, shape (n,)
        False if the image is skipped.
    left_out : callable, optional
        Returns, for each image, the change of the value if the image is left out, shape (n,). Its argument is
        None or weights of 0 and 1. The changes are used for a jackknife interval of the metric
        (`manyhot.core.jackknife.jackknife_interval`) and for paired comparisons of models. A first-order
        approximation is sufficient.
    doubt : callable, optional
        Function that returns the reason why `left_out` gives no interval under the same weights; empty if it
        gives one.
    biased : str, optional
        The reason why resampled values give no interval; empty if they give one.
    """

    value: Callable[[Weights | None], float]
    scored: Bools
    left_out: Callable[[Weights | None], Floats] | None = None
    doubt: Callable[[Weights | None], str] = lambda _: ""
    biased: str = ""


Estimate = Ratio | Pooled


def undefined(n: int) -> Ratio:
    """Return the estimate of a metric that is undefined for all n images: NaN, with an `n` of 0."""
    nothing = np.zeros(n, bool)
    return Ratio(nothing, nothing, nothing)


def mean_over(values: npt.NDArray[Any], scored: Bools) -> Ratio:
    """Return the mean of `values` over the scored images as an estimate."""
    if values.dtype == bool:
        return Ratio(values & scored, scored, scored)
    return Ratio(np.where(scored, values, 0.0), scored, scored)

"""Temperatures: one number a model that makes its probabilities as sure as they are right.

A list of the best k of C classes tells their probabilities and, since all add up to one, what is left to the
other C - k. How that is spread among them is not in the file; it is taken as equal shares. With dense scores
of all C classes nothing is left, and the temperature is the usual one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from manyhot.core.sets import NO_LABEL, LabelSets

RANGE = (0.05, 20.0)
"""Temperatures that are looked through."""

Target = npt.NDArray[np.float64] | Callable[[float], npt.NDArray[np.float64]]

_LEAST = 1e-12
"""Least probability; half precision makes zeros of what is under 6e-8."""


@dataclass(frozen=True)
class Tail:
    """The log probabilities of listed classes, and of one class outside the list.

    Attributes
    ----------
    listed : ndarray of float64, shape (n, k)
        -inf where a ragged list has no class.
    other : ndarray of float64, shape (n, 1)
        Log probability of each class that is not listed.
    n_other : ndarray of int64, shape (n, 1)
        How many these are.
    """

    listed: npt.NDArray[np.float64]
    other: npt.NDArray[np.float64]
    n_other: npt.NDArray[np.int64]

    @classmethod
    def of(cls, top: npt.NDArray[np.integer], probability: npt.NDArray[np.floating], n_classes: int) -> Tail:
        """Take logs; `top` and `probability` have shape (n, k)."""
        there = top != NO_LABEL
        p = np.where(there, probability, 0).astype(np.float64)
        n_other = n_classes - there.sum(1, keepdims=True)
        left = np.maximum(1 - p.sum(1, keepdims=True), _LEAST) / np.maximum(n_other, 1)
        logs = np.log(np.maximum(p, _LEAST))
        return cls(np.where(there, logs, -np.inf), np.log(left), n_other)

    def __len__(self) -> int:
        return len(self.other)

    def take(self, images: npt.NDArray[np.integer]) -> Tail:
        """Return the given images."""
        return Tail(self.listed[images], self.other[images], self.n_other[images])


def calibrated(tail: Tail, temperature: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the probabilities at a temperature: of listed classes (n, k), and of each other class (n, 1).

    At temperature 1 they are what they were: sigmoids, which do not add up to 1, stay so.
    """
    listed, other = np.exp(tail.listed / temperature), np.exp(tail.other / temperature)
    if temperature == 1:
        return listed, other
    total = listed.sum(1, keepdims=True) + tail.n_other * other
    return listed / total, other / total


def fit_temperature(tail: Tail, target: Target) -> float:
    """Return the temperature of the highest likelihood, at an end of `RANGE` if it lies beyond.

    Parameters
    ----------
    tail : Tail
        Of n images.
    target : ndarray of float64, shape (n,), or callable
        The mean log probability of each image's right classes at temperature 1, as `set_target` gives it; or
        a function of 1 / T that gives it where its weights depend on that, as `mass_target` does.

    Notes
    -----
    With b = 1 / T the negative log likelihood of an image is ``-b * target + log(sum(exp(b * log p)))``. It
    is convex in b: its slope has one root, which Brent's method finds in about ten passes. With a function
    it need not be; where the slope has several roots, the likelihood has a peak at the one that is found.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """

    def slope(b: float) -> float:
        p, share = calibrated(tail, 1 / b)
        logs = np.where(np.isfinite(tail.listed), tail.listed, 0)
        mean = (p * logs).sum(1) + (tail.n_other * share * tail.other)[:, 0]
        return float((mean - (target(b) if callable(target) else target)).mean())

    return 1 / sloping_root(slope, 1 / RANGE[1], 1 / RANGE[0])


def sloping_root(slope: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function is 0, or the end that is nearest to it."""
    if slope(low) >= 0:
        return low
    if slope(high) <= 0:
        return high
    return float(brentq(slope, low, high, xtol=1e-6))


def set_target(tail: Tail, top: npt.NDArray[np.integer], sets: LabelSets) -> npt.NDArray[np.float64]:
    """Return the mean log probability of the classes of each label set, shape (n,); sets are not empty.

    One class of the set, drawn at random, stands for the single label of the usual definition.
    """
    hit = sets.hits(top)
    listed = np.where(hit, tail.listed, 0).sum(1)
    outside = (sets.size - hit.sum(1)) * tail.other[:, 0]
    return np.asarray((listed + outside) / sets.size)


def mass_target(
    tail: Tail, top: npt.NDArray[np.integer], sets: LabelSets
) -> Callable[[float], npt.NDArray[np.float64]]:
    """Return the function of 1 / T that raises the summed probability of each label set, none empty.

    The slope of its logarithm is the mean log probability of the set's classes at temperature 1, each counted
    by its share of the set at temperature T.
    """
    hit = sets.hits(top)
    outside = (sets.size - hit.sum(1))[:, None]
    logs = np.column_stack([np.where(hit, tail.listed, -np.inf), np.where(outside > 0, tail.other, -np.inf)])
    count = np.column_stack([np.ones(hit.shape), outside])
    best = logs.max(1, keepdims=True)

    def target(b: float) -> npt.NDArray[np.float64]:
        share = count * np.exp(b * (logs - best))
        found = (share * np.where(share > 0, logs, 0)).sum(1) / share.sum(1)
        return np.asarray(found)

    return target

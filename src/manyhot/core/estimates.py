"""Estimates, the results of metrics, which have a value under any weights of the images.

Slices and resamples are weights: a slice has weights of 0 and 1, a bootstrap resample has the number of times
that each image was drawn, and a skipped image has a weight of 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Bytes, Floats, Ints, Ints64, Positions

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
        If strata are passed, the ratio is computed in each stratum and averaged over the strata with a
        positive denominator.
    """

    num: Bools | Floats
    den: Bools | Floats
    scored: Bools
    stratum: Ints | None = None

    @property
    def strata(self) -> Ints:
        """The stratum of each image, shape (n,): 0 for skipped images, and for all if there are no strata."""
        if self.stratum is None:
            return np.zeros(len(self.scored), np.intp)
        return np.where(self.scored, self.stratum, 0)

    def value(self, weights: Weights | None = None) -> float:
        """Return the metric's value under weights of shape (n,); NaN if no image is counted."""
        w = np.ones(len(self.num)) if weights is None else np.asarray(weights, np.float64)
        strata = self.strata
        den = np.bincount(strata, w * self.den)
        num = np.bincount(strata, w * self.num)
        filled = den > 0
        return float(np.mean(num[filled] / den[filled])) if filled.any() else float("nan")


@dataclass(frozen=True)
class Pooled:
    """A metric that is not a ratio of sums over images, such as macro average precision.

    Parameters
    ----------
    value : callable
        Returns the metric's value under weights of shape (n,) or, if they are None, the unweighted value.
    scored : ndarray of bool, shape (n,)
        False if the image is skipped.
    left_out : callable, optional
        Returns, for each image, the change in the value if the image is left out, shape (n,). Its argument is
        None or weights of 0 and 1. The changes are used for a jackknife interval of the metric
        (`manyhot.core.jackknife.jackknife_interval`) and for paired comparisons of models. It is sufficient
        if they are exact to first order.
    doubt : callable, optional
        Function that returns the reason why `left_out` gives no interval under the same weights; empty if it
        gives one.
    biased : str, optional
        The reason why resampled values give no interval; empty if they give one.
    is_smoothed : bool
        Whether `left_out` gives the changes of a smoothed version of the value, because those of the value
        itself say nothing about its variation.
    is_additive : bool
        Whether the changes without single images of a cluster add up to about the change without the cluster.
    compared : Pooled, optional
        The value that is compared between models, if the value itself is a mean over other classes for other
        models.
    own_classes : ndarray of int, optional
        The classes that only the value itself includes.
    """

    value: Callable[[Weights | None], float]
    scored: Bools
    left_out: Callable[[Weights | None], Floats] | None = None
    doubt: Callable[[Weights | None], str] = lambda _: ""
    biased: str = ""
    is_smoothed: bool = False
    is_additive: bool = True
    compared: Pooled | None = None
    own_classes: Ints = field(default_factory=lambda: np.empty(0, np.intp))


Estimate = Ratio | Pooled


def undefined(n: int) -> Ratio:
    """Return the estimate of a metric that is undefined for all n images: a value of NaN with an `n` of 0."""
    nothing = np.zeros(n, bool)
    return Ratio(nothing, nothing, nothing)


def mean_over(values: npt.NDArray[Any], scored: Bools) -> Ratio:
    """Return the mean of `values` over the scored images as an estimate."""
    if values.dtype == bool:
        return Ratio(values & scored, scored, scored)
    return Ratio(np.where(scored, values, 0.0), scored, scored)


@dataclass(frozen=True)
class Cells:
    """Disjoint cells. The images of a cell are in exactly the same slices.

    Attributes
    ----------
    cell : ndarray of int, shape (n,)
        The cell of each image.
    order : ndarray of int, shape (n,)
        Images sorted by cell.
    edges : ndarray of int, shape (K + 1,)
        Cell k is ``order[edges[k]:edges[k + 1]]``.
    member : ndarray of float64, shape (S, K)
        1 if slice s contains cell k.
    packed : ndarray of uint64, shape (S, ceil(n / 64))
        The slices as bits.
    """

    cell: Positions
    order: Positions
    edges: Positions
    member: Floats
    packed: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, masks: Bools) -> Cells:
        """Split images by the slices that contain them; `masks` has shape (S, n)."""
        patterns, cell = _distinct(np.packbits(masks, axis=0))
        size = np.bincount(cell, minlength=patterns.shape[1])
        member = np.unpackbits(patterns, axis=0, count=len(masks)).astype(np.float64)
        edges = np.concatenate([[0], np.cumsum(size)])
        # Few numbers of 16 bits are sorted in linear time.
        narrow = cell.astype(np.uint16) if len(size) <= 65_536 else cell
        return cls(cell, np.argsort(narrow, kind="stable"), edges, member, packed_bits(masks))

    def count(self, flags: Bools) -> Ints64:
        """Return how many of the n flags are set in each slice, shape (S,)."""
        # Models share the same array of denominators, so the last few counts are cached.
        for counted, cached in self._counted:
            if counted is flags:
                return cached
        # Counting bits of 64 images at a time is twenty times faster than adding them by cell.
        counts: Ints64 = np.bitwise_count(self.packed & packed_bits(flags)).sum(1, dtype=np.int64)
        self._counted.append((flags, counts))
        return counts

    @cached_property
    def sizes(self) -> Ints64:
        """The number of images in each slice, shape (S,)."""
        sizes: Ints64 = np.bitwise_count(self.packed).sum(1, dtype=np.int64)
        return sizes

    @cached_property
    def _counted(self) -> deque[tuple[Bools, Ints64]]:
        return deque(maxlen=8)

    def value(self, ratio: Ratio) -> Floats:
        """Return ``ratio.value`` of each slice, shape (S,); NaN if no image is counted."""
        num, den = self.sums(ratio, ratio.num), self.sums(ratio, ratio.den)
        filled = den > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            values: Floats = np.where(filled, num / den, 0).sum(0) / filled.sum(0)
        return values

    def sums(self, ratio: Ratio, values: npt.NDArray[Any], n_strata: int = 1) -> Floats:
        """Return the sums of values by stratum and slice, shape (G, S); G is at least `n_strata`."""
        if ratio.stratum is None and values.dtype == bool:
            return self.count(values)[None].astype(np.float64)
        if ratio.stratum is None:
            return (self.member @ np.add.reduceat(values[self.order], self.edges[:-1]))[None]
        k = self.member.shape[1]
        if not (self._split and self._split[0][0] is ratio):  # numerators come just before denominators
            strata = ratio.strata
            self._split.append((ratio, strata * k + self.cell, int(strata.max(initial=0)) + 1))
        _, at, n = self._split[0]
        n_strata = max(n, n_strata)
        return np.bincount(at, values, n_strata * k).reshape(n_strata, k) @ self.member.T

    @cached_property
    def _split(self) -> deque[tuple[Ratio, Positions, int]]:
        """The stratum and the cell of each image as one number, for the last ratio."""
        return deque(maxlen=1)


def packed_bits(flags: Bools) -> npt.NDArray[np.uint64]:
    """Return flags of shape (…, n) as bits, shape (…, ceil(n / 64)), padded with 0."""
    packed = np.packbits(flags, axis=-1)
    padded = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), np.uint8)
    padded[..., : packed.shape[-1]] = packed
    return padded.view(np.uint64)


def _distinct(packed: Bytes) -> tuple[Bytes, Positions]:
    """Return the distinct columns in ascending order, and which of them each column is."""
    if len(packed) > 2:
        patterns, cell = np.unique(packed, axis=1, return_inverse=True)
        return patterns, cell.ravel()
    # Up to 16 slices are numbers below 65,536, which are counted and not sorted.
    key = packed[0].astype(np.intp) if len(packed) == 1 else packed[0].astype(np.intp) << 8 | packed[-1]
    present = np.bincount(key, minlength=1) > 0 if len(key) else np.zeros(1, bool)
    keys = np.flatnonzero(present)
    patterns = np.stack([keys, keys] if len(packed) == 1 else [keys >> 8, keys & 255]).astype(np.uint8)
    # In the order of memory of numpy.unique, on which the last digits of sums over cells depend.
    return np.asfortranarray(patterns[: len(packed)]), (np.cumsum(present) - 1)[key]

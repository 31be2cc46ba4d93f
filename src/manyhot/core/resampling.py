"""Intervals: the percentile bootstrap over images for many models at once, and Student's for a mean.

A resample is a row of counts: how often each image was drawn. The value of a ratio metric under resamples is
the matrix product of counts and per-image numerators, divided by that of counts and denominators. All models
are computed in one call from the same resamples, so differences of models are paired.

Overlapping slices are unions of disjoint `Cells`, so that one pass over the images serves all slices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.special import stdtrit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.estimates import Ratio

LEVEL = 0.95
"""Coverage of all intervals."""

_CHUNK = 125
"""Resamples per block in float32: 25 MB for 50,000 images."""


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of n images. All models and slices share them.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
        The images of each slice.
    resamples : int
        Number of resamples R.
    seed : int
        The same seed gives the same resamples of n images for all slices and models.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """

    masks: Bools
    resamples: int
    seed: int

    @cached_property
    def _counts(self) -> npt.NDArray[np.uint8]:
        # The number of images is part of the seed: from one stream, resamples of n and of n + 1 images would
        # be correlated.
        n = self.masks.shape[1]
        return draw_counts(n, self.resamples, np.random.default_rng([self.seed, n]))

    @cached_property
    def cells(self) -> Cells:
        """The slices as unions of disjoint cells."""
        return Cells.of(self.masks)

    def ratios(self, num: Floats32, den: Floats32, den_of: npt.NDArray[np.intp]) -> Floats32:
        """Return resampled ratios of sums.

        Parameters
        ----------
        num : ndarray of float32, shape (n, m)
            Numerators of m metrics and models.
        den : ndarray of float32, shape (n, d)
            The distinct denominators.
        den_of : ndarray of int, shape (m,)
            The denominator of each numerator.

        Returns
        -------
        ndarray of float32, shape (S, R, m)
            NaN if no images of a resample count.
        """
        return _ratios(self.cells, self._counts, num, den, den_of)

    def means_over_few_strata(
        self, num: Floats32, den: Floats32, den_of: npt.NDArray[np.intp], stratum: Ints
    ) -> Floats32:
        """Return the result of `means_over_strata` for few strata, with separate sums for each stratum.

        As in `ratios`, each numerator may have its own denominator.

        Parameters
        ----------
        num, den, den_of
            As in `ratios`.
        stratum : ndarray of int, shape (n,)

        Returns
        -------
        ndarray of float32, shape (S, R, m)
        """
        shape = (len(self.masks), self.resamples, num.shape[1])
        total, filled = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        for value in np.unique(stratum):
            inside = np.flatnonzero(stratum == value)
            cells = Cells.of(self.masks[:, inside])
            ratios = _ratios(cells, self._counts[:, inside], num[inside], den[inside], den_of)
            defined = ~np.isnan(ratios)
            filled += defined
            np.add(total, ratios, out=total, where=defined)
        with np.errstate(invalid="ignore"):
            return np.divide(total, filled, out=total)

    def means_over_strata(
        self, num: Floats32, den: Floats32, stratum: Ints, slices: Collection[int] | None = None
    ) -> Floats32:
        """Return resampled means over strata of ratios of sums.

        Images are drawn from all images, and the metric is applied to the resample. Strata without drawn
        images are left out, as in `Ratio.value`. Resampling within strata would give the same interval for
        large strata: with 50 images per class, the variance differs by 2 %. For a slice with one image per
        class, it would give no interval.

        Parameters
        ----------
        num : ndarray of float32, shape (n, m)
        den : ndarray of float32, shape (n,)
            Shared by the m numerators.
        stratum : ndarray of int, shape (n,)
        slices : collection of int, optional
            The slices to resample. By default, all. Values of other slices are NaN.

        Returns
        -------
        ndarray of float32, shape (S, R, m)
        """
        strata = _Strata.of(stratum, self.cells)
        num, den = num[strata.order], den[strata.order]
        samples = np.full((len(self.masks), self.resamples, num.shape[1]), np.nan, np.float32)
        parts = [
            (s, part, num[part.images])
            for s, part in strata.parts(self.masks)
            if slices is None or s in slices
        ]
        for rows in _chunks(self.resamples):
            # Images are rows, so that the values of an image are contiguous.
            counts = np.ascontiguousarray(self._counts[rows].T)[strata.order]
            sums = strata.groups @ (counts * den[:, None])
            for s, part, values in parts:
                shares = part.shares(sums)
                shares *= counts[part.images]
                samples[s, rows] = shares.T @ values
        return samples


@dataclass(frozen=True)
class _Strata:
    """Images sorted by stratum and, within it, by cell; a group is a cell of a stratum.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
    stratum : ndarray of int, shape (n,)
        The stratum of each image in this order, counted from 0.
    groups : sparse matrix of float32, shape (G, n)
        1 if an image is in a group.
    group_stratum : ndarray of int, shape (G,)
    member : ndarray of bool, shape (S, G)
        Whether a slice contains a group.
    """

    order: npt.NDArray[np.intp]
    stratum: npt.NDArray[np.intp]
    groups: Any
    group_stratum: npt.NDArray[np.intp]
    member: Bools

    @classmethod
    def of(cls, stratum: Ints, cells: Cells) -> _Strata:
        order = np.lexsort((cells.cell, stratum))
        key = stratum[order].astype(np.int64) * cells.member.shape[1] + cells.cell[order]
        _, edges, group = np.unique(key, return_index=True, return_inverse=True)
        _, dense = np.unique(stratum[order], return_inverse=True)
        member = cells.member[:, cells.cell[order][edges]] > 0
        return cls(order, dense, _membership(group, len(edges)), dense[edges], member)

    def parts(self, masks: Bools) -> Iterator[tuple[int, _Part]]:
        """Yield the number and the images of each slice that contains images."""
        n_strata = int(self.stratum.max(initial=-1)) + 1
        for s, mask in enumerate(masks):
            images = np.flatnonzero(mask[self.order])
            if len(images):
                strata = _membership(self.group_stratum, n_strata, self.member[s])
                # A slice with all images is a view, without copying.
                whole = len(images) == len(self.order)
                yield s, _Part(slice(None) if whole else images, self.stratum[images], strata)


@dataclass(frozen=True)
class _Part:
    """A slice of images sorted by stratum: the images, their strata, and the matrix that sums groups."""

    images: slice | npt.NDArray[np.intp]
    stratum: npt.NDArray[np.intp]
    strata: Any

    def shares(self, sums: Floats32) -> Floats32:
        """Return the contribution of each image to the mean over strata, shape (images, R)."""
        den = self.strata @ sums
        filled = den > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(filled, 1 / den, 0) / np.count_nonzero(filled, axis=0)
        shares: Floats32 = scale.astype(np.float32)[self.stratum]
        return shares


def _membership(part: npt.NDArray[np.intp], n: int, inside: Bools | None = None) -> Any:
    """Return a sparse matrix that sums the elements of each of n parts, restricted to `inside`."""
    from scipy.sparse import csr_array

    ones = np.ones(len(part), np.float32) if inside is None else inside.astype(np.float32)
    return csr_array((ones, (part.ravel(), np.arange(len(part)))), shape=(n, len(part)))


def draw_counts(n: int, resamples: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw n images with replacement `resamples` times and count how often each was drawn.

    Returns
    -------
    ndarray of uint8, shape (resamples, n)
        The probability that an image is drawn more than 255 times is below 1e-500.
    """
    counts = np.empty((resamples, n), np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, n, n, np.int32), minlength=n)
    return counts


def percentile_interval(
    samples: AnyFloats,
) -> tuple[Floats, Floats]:
    """Return the ends of the percentile interval over the last axis. NaN samples are ignored.

    Quantiles are interpolated linearly, as by default in ``numpy.quantile``.

    Parameters
    ----------
    samples : ndarray of float, shape (…, R)
    """
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    flat = samples.reshape(-1, samples.shape[-1])
    # Only rows with NaN, whose sum is NaN, need slow quantiles.
    holed = np.isnan(flat.sum(1))
    ends = np.empty((len(flat), 2))
    ends[~holed] = _quantiles(flat[~holed] if holed.any() else flat, tails)
    ends[holed] = _nan_quantiles(flat[holed], tails)
    ends = ends.reshape(*samples.shape[:-1], 2)
    return ends[..., 0], ends[..., 1]


def centred_interval(samples: AnyFloats, value: float) -> tuple[float, float]:
    """Return the ends of the percentile interval, shifted from the samples' median to the value.

    A calibration error is a sum of absolute deviations, which resampling increases. Its samples are biased
    upwards, and often all samples are above the value. Their spread is still a valid estimate of the
    variation over images. If all samples are within [0, 1], so are the ends.

    Parameters
    ----------
    samples : ndarray of float, shape (R,)
        NaN samples are ignored.
    value : float
        The value of the images themselves.
    """
    lo, hi = (float(end) for end in percentile_interval(samples))
    if np.isnan(lo):
        return lo, hi
    moved = value - float(np.nanmedian(samples))
    least = 0.0 if np.nanmin(samples) >= 0 else -np.inf
    most = 1.0 if np.nanmax(samples) <= 1 else np.inf
    return max(lo + moved, least), min(hi + moved, most)


def _quantiles(samples: AnyFloats, tails: Floats) -> Floats:
    r = samples.shape[-1]
    at = tails * (r - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, r - 1)
    # Two selections cost a fifth of a full sort.
    ranked = np.partition(samples, np.unique(np.concatenate([below, above])), axis=-1)
    low, high = ranked[..., below].astype(np.float64), ranked[..., above].astype(np.float64)
    return np.asarray(low + (at - below) * (high - low))


def student_interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the mean of values and its Student's t interval; the ends are NaN if all values are equal."""
    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    if not error > 0:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - half, mean + half


def _ratios(
    cells: Cells, counts: npt.NDArray[np.uint8], num: Floats32, den: Floats32, den_of: npt.NDArray[np.intp]
) -> Floats32:
    """Return ratios of sums under each row of counts and in each slice, shape (S, R, m)."""
    num, den = num[cells.order], den[cells.order]
    samples = np.empty((len(cells.member), len(counts), num.shape[1]), np.float32)
    for rows in _chunks(len(counts)):
        drawn = counts[rows][:, cells.order]
        with np.errstate(invalid="ignore", divide="ignore"):
            totals = _slice_sums(cells, drawn, den)[:, :, den_of]
            np.divide(_slice_sums(cells, drawn, num), totals, out=samples[:, rows])
    return samples


def _slice_sums(cells: Cells, counts: npt.NDArray[np.uint8], values: Floats32) -> Floats32:
    """Return ``counts @ values`` within each slice, shape (S, R, m); images are in the order of cells."""
    per_cell = np.empty((len(cells.edges) - 1, len(counts), values.shape[1]), np.float32)
    for i, (start, stop) in enumerate(zip(cells.edges[:-1], cells.edges[1:], strict=True)):
        np.matmul(counts[:, start:stop].astype(np.float32), values[start:stop], out=per_cell[i])
    sums: Floats32 = np.tensordot(cells.member.astype(np.float32), per_cell, axes=1)
    return sums


def _chunks(resamples: int) -> Iterator[slice]:
    for start in range(0, resamples, _CHUNK):
        yield slice(start, min(start + _CHUNK, resamples))


def _nan_quantiles(samples: AnyFloats, tails: Floats) -> Floats:
    ends = np.full((len(samples), 2), np.nan)
    some = ~np.isnan(samples).all(1)
    if some.any():
        ends[some] = np.nanquantile(samples[some].astype(np.float64), tails, axis=1).T
    return ends


@dataclass(frozen=True)
class Cells:
    """Disjoint cells of images. The images of a cell are in the same slices.

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

    cell: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    edges: npt.NDArray[np.intp]
    member: Floats
    packed: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, masks: Bools) -> Cells:
        """Split images by the slices that contain them; `masks` has shape (S, n)."""
        patterns, cell = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)
        cell = cell.ravel()
        size = np.bincount(cell, minlength=patterns.shape[1])
        member = np.unpackbits(patterns, axis=0, count=len(masks)).astype(np.float64)
        edges = np.concatenate([[0], np.cumsum(size)])
        return cls(cell, np.argsort(cell, kind="stable"), edges, member, _pack(masks))

    def count(self, flags: Bools) -> npt.NDArray[np.int64]:
        """Return the number of set flags within each slice, shape (S,)."""
        # Models share the same array of denominators, so the last few counts are cached.
        for counted, cached in self._counted:
            if counted is flags:
                return cached
        # Counting bits of 64 images at a time is twenty times faster than adding them by cell.
        counts: npt.NDArray[np.int64] = np.bitwise_count(self.packed & _pack(flags)).sum(1, dtype=np.int64)
        self._counted.append((flags, counts))
        return counts

    @cached_property
    def _counted(self) -> deque[tuple[Bools, npt.NDArray[np.int64]]]:
        return deque(maxlen=8)

    def value(self, ratio: Ratio) -> Floats:
        """Return ``ratio.value`` of each slice, shape (S,); NaN if no images count."""
        num, den = self.sums(ratio, ratio.num), self.sums(ratio, ratio.den)
        filled = den > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            values: Floats = np.where(filled, num / den, 0).sum(0) / filled.sum(0)
        return values

    def sums(self, ratio: Ratio, values: npt.NDArray[Any], n_strata: int = 1) -> Floats:
        """Return the sums of values by stratum and slice, shape (G, S). G is at least `n_strata`."""
        if ratio.stratum is None and values.dtype == bool:
            return self.count(values)[None].astype(np.float64)
        if ratio.stratum is None:
            return (self.member @ np.add.reduceat(values[self.order], self.edges[:-1]))[None]
        k = self.member.shape[1]
        stratum = np.where(ratio.scored, ratio.stratum, 0)
        at, n_strata = stratum * k + self.cell, max(int(stratum.max(initial=0)) + 1, n_strata)
        sums: Floats = np.bincount(at, values, n_strata * k).reshape(n_strata, k) @ self.member.T
        return sums


def _pack(flags: Bools) -> npt.NDArray[np.uint64]:
    """Return flags of shape (…, n) as bits, shape (…, ceil(n / 64)), padded with 0."""
    packed = np.packbits(flags, axis=-1)
    padded = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), np.uint8)
    padded[..., : packed.shape[-1]] = packed
    return padded.view(np.uint64)

"""What is computed from resamples of images: ratios of sums, and means over strata of such ratios.

Each statistic is filled block by block of resamples. Values of many images are read in blocks of images, too,
so that no matrix of all images, metrics and models has to be in memory.

Sums are exact, so that the values of a model do not depend on the other models, although BLAS adds in an
order that depends on the number of columns. Flags and small whole numbers are added in float32, which is
exact up to 2^24. Other values are whole numbers of a unit (`FixedPoint`), added in float64, which is exact up
to 2^53. Values of many images with few distinct values are stored as a byte each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Floats32, Ints, Positions
from manyhot.core.distinct import FEW_VALUES, few_values
from manyhot.core.estimates import Cells

Counts = npt.NDArray[np.uint8]
"""How often each image was drawn, with images as rows: those of some images are read as they are stored."""

_IMAGES = 16_384
"""Images per block of a product: 16 MB of the counts of 125 resamples in float64."""

_KEPT = 100_000_000
"""Maximum number of bytes of values that are sorted only once, not for each block of resamples."""


Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` of Python or of a pool of threads: calls a function for each item, with results in order."""


@dataclass(frozen=True, eq=False)
class ValueColumns:
    """Values of n images, with one array for each of m metrics and models.

    Attributes
    ----------
    arrays : sequence of ndarray, shape (n,), or FixedPoint
    """

    arrays: Sequence[npt.NDArray[Any] | FixedPoint]


ValueMatrix = Floats32 | ValueColumns
"""Values of n images for m metrics and models, shape (n, m)."""


class _Drawn:
    """How often some images were drawn, shape (resamples, b), in both precisions."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts.T

    @cached_property
    def single(self) -> Floats32:
        return self._counts.astype(np.float32)

    @cached_property
    def double(self) -> Floats:
        return self._counts.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Block:
    """Values of b images: flags and small numbers in float32, others in float64.

    `of` are the columns of both; None if all are small and in their order.
    """

    small: Floats32
    integers: Floats
    of: tuple[list[int], list[int]] | None

    def sums(self, drawn: _Drawn, some: slice = slice(None)) -> Floats:
        """Return the sums under each resample, shape (resamples, m), over all images or some of them."""
        if self.of is None:
            return (drawn.single[:, some] @ self.small[some]).astype(np.float64)
        sums = np.empty((len(drawn.single), self.small.shape[1] + self.integers.shape[1]))
        sums[:, self.of[0]] = drawn.single[:, some] @ self.small[some]
        if self.of[1]:
            sums[:, self.of[1]] = drawn.double[:, some] @ self.integers[some]
        return sums


class _Sorted:
    """Values of some images in their order, which become blocks; `units` are of the sums, shape (m,)."""

    def __init__(self, values: ValueMatrix, images: Ints) -> None:
        arrays = values.arrays if isinstance(values, ValueColumns) else list(values.T)
        columns = [column if isinstance(column, FixedPoint) else compact(column) for column in arrays]
        self.width = len(columns)
        self.units = np.array([column.unit if isinstance(column, FixedPoint) else 1 for column in columns])
        # Flags take a byte each, so that the values of 60 models and 50,000 images are sorted once.
        is_kept = len(images) * sum(column.dtype.itemsize for column in columns) <= _KEPT
        self._images = None if is_kept else images
        groups: tuple[dict[Any, list[int]], dict[Any, list[int]]] = ({}, {})
        for c, column in enumerate(columns):
            is_large = isinstance(column, FixedPoint) and not column.is_small
            groups[is_large].setdefault(column.dtype if is_kept else c, []).append(c)
        small, large = ([c for group in of.values() for c in group] for of in groups)
        self._of = (small, large)
        grouped = [[[columns[c] for c in group] for group in of.values()] for of in groups]
        # Columns of a type are one array: to convert 600 columns one by one takes a sixth of a resampling.
        self._stacks = [[_stacked(g, images) for g in of] if is_kept else [] for of in grouped]
        self._columns = [[] if is_kept else [column for (column,) in of] for of in grouped]

    def __getitem__(self, block: slice) -> _Block:
        """Return the values of a block of the images."""
        # A row is a metric and model: its values are written one after another.
        small, numbers = (
            np.empty((len(of), block.stop - block.start), kind)
            for of, kind in zip(self._of, (np.float32, np.float64), strict=True)
        )
        for rows, stacks, columns in zip((small, numbers), self._stacks, self._columns, strict=True):
            first = 0
            for stack in stacks:
                rows[first : first + len(stack)] = stack[:, block]
                first += len(stack)
            for row, column in zip(rows[first:], columns, strict=True):
                assert self._images is not None  # for the type checker
                row[:] = _whole(column.take(self._images[block]))
        is_plain = self._of[0] == list(range(self.width))
        return _Block(small.T, numbers.T, None if is_plain else self._of)


def _stacked(columns: Sequence[npt.NDArray[Any] | FixedPoint], images: Ints) -> npt.NDArray[Any]:
    """Return the numbers of some images, shape (m, n), of columns of one type."""
    stacked = np.empty((len(columns), len(images)), columns[0].dtype)
    for row, column in zip(stacked, columns, strict=True):
        row[:] = _whole(column.take(images))
    return stacked


def _whole(column: npt.NDArray[Any] | FixedPoint) -> npt.NDArray[Any]:
    return column.integers() if isinstance(column, FixedPoint) else column


class MeansOf(NamedTuple):
    """Ratios of some numerators and denominators, or their means over few strata.

    Attributes
    ----------
    num_of, den_of : ndarray of int, shape (m,)
        The columns of the numerators and of the denominators.
    stratum : ndarray of int, shape (n,), optional
    slices : collection of int, optional
        The slices to resample; all by default. Values of other slices are NaN.
    """

    num_of: Positions
    den_of: Positions
    stratum: Ints | None = None
    slices: Collection[int] | None = None


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of sums within slices, and means of such ratios over few strata, from sums within cells.

    Numerators and denominators are multiplied by the resamples only once, even if several means need them.

    Attributes
    ----------
    images : ndarray of int, shape (n,)
        The images by cell. Cells are split by stratum.
    edges : ndarray of int, shape (K + 1,)
        As those of `Cells`.
    num, den
        The values of `images`, in the same order.
    """

    images: Ints
    edges: Ints
    num: _Sorted
    den: _Sorted
    means: list[_MeansOfCells]

    @classmethod
    def of(
        cls, cells: Cells, resamples: int, num: ValueMatrix, den: ValueMatrix, means_of: Sequence[MeansOf]
    ) -> Ratios:
        """Return the statistics before they are filled."""
        cell, images, edges = cells.cell, cells.order, cells.edges
        for stratum in {id(w.stratum): w.stratum for w in means_of if w.stratum is not None}.values():
            # Often, slices split the images by stratum already: then, nothing changes.
            _, cell = np.unique(cell * (int(stratum.max(initial=0)) + 1) + stratum, return_inverse=True)
            images = np.argsort(cell, kind="stable")
            edges = np.append(0, np.cumsum(np.bincount(cell)))
        first = images[edges[:-1]]
        member, nums, dens = cells.member[:, cells.cell[first]], _Sorted(num, images), _Sorted(den, images)
        means = [
            _MeansOfCells.of(one, member, first, resamples, nums.units[one.num_of] / dens.units[one.den_of])
            for one in means_of
        ]
        return cls(images, edges, nums, dens, means)

    def fill(self, rows: slice, counts: Counts, each: Each = map) -> None:
        """Compute the ratios for a batch of resamples; `counts` has shape (n, resamples in the batch)."""
        sums = self._sums(counts, each)
        for means in self.means:
            means.fill(rows, *sums)

    def _sums(self, counts: Counts, each: Each) -> list[Floats]:
        """Return the sums of numerators and denominators within each cell, shape (K, resamples, ·)."""
        values, shape = (self.num, self.den), (len(self.edges) - 1, counts.shape[1])
        by_cell = [np.zeros((*shape, v.width)) for v in values]
        cells = [
            (k, slice(first, min(first + _IMAGES, stop)))
            for k, (start, stop) in enumerate(pairwise(self.edges))
            for first in range(start, stop, _IMAGES)
        ]

        def products(cell: tuple[int, slice]) -> list[Floats]:
            drawn = _Drawn(counts[self.images[cell[1]]])
            return [v[cell[1]].sums(drawn) for v in values]

        for (k, _), found in zip(cells, each(products, cells), strict=True):
            for sums, more in zip(by_cell, found, strict=True):
                sums[k] += more
        return by_cell


@dataclass(frozen=True, eq=False)
class _MeansOfCells:
    """Means over strata of ratios; `members` says which cells are in each slice and stratum, shape (G, s, K).

    Without strata, `members` has one element. `samples` has the shape (S, R, m), and `unit` is that of the
    ratios, shape (m,).
    """

    means_of: MeansOf
    members: list[Floats]
    unit: Floats
    slices: Ints
    samples: Floats32

    @classmethod
    def of(
        cls, means_of: MeansOf, member: Floats, first: Ints, resamples: int, unit: Floats
    ) -> _MeansOfCells:
        """Return the means, still to be filled; `first` is one image of each cell."""
        slices = np.arange(len(member)) if means_of.slices is None else np.array([*means_of.slices], int)
        members = [member[slices]]
        if means_of.stratum is not None:
            stratum = means_of.stratum[first]
            members = [member[slices] * (stratum == value) for value in np.unique(stratum)]
        samples = np.full((len(member), resamples, len(means_of.num_of)), np.nan, np.float32)
        return cls(means_of, members, unit, slices, samples)

    def fill(self, rows: slice, num: Floats, den: Floats) -> None:
        """Compute the means under some of the resamples, from sums within cells."""
        if not np.array_equal(self.means_of.num_of, np.arange(num.shape[2])):
            num = num[:, :, self.means_of.num_of]
        if len(self.members) == 1:
            self.samples[self.slices, rows] = self._ratios(self.members[0], num, den)
            return
        shape = (len(self.slices), *num.shape[1:])
        total, filled = np.zeros(shape), np.zeros(shape, np.uint8)
        for member in self.members:
            ratios = self._ratios(member, num, den)
            defined = ~np.isnan(ratios)
            filled += defined
            np.add(total, ratios, out=total, where=defined)
        with np.errstate(invalid="ignore"):
            self.samples[self.slices, rows] = np.divide(total, filled, out=total)

    def _ratios(self, member: Floats, num: Floats, den: Floats) -> Floats:
        """Return the ratios of a stratum in each slice; NaN if no image counts."""
        sums, weights = np.tensordot(member, num, axes=1), np.tensordot(member, den, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            sums /= weights[:, :, self.means_of.den_of]
        sums *= self.unit
        return sums


@dataclass(frozen=True, eq=False)
class MeansOverStrata:
    """Resampled means, over many strata, of ratios of sums with a common denominator.

    Each resample is drawn from all images, and the metric is applied to it. Strata without drawn images are
    left out, as in `Ratio.value`. Resampling within strata would give nearly the same interval for large
    strata: with 50 images per class, the variance differs by 2 %. For a slice with one image per class, it
    would give no interval.

    Attributes
    ----------
    samples : ndarray of float32, shape (S, R, m)
    """

    parts: list[_Part]
    samples: Floats32

    @classmethod
    def of(
        cls,
        masks: Bools,
        resamples: int,
        num: ValueMatrix,
        den: npt.NDArray[Any],
        stratum: Ints,
        slices: Collection[int] | None = None,
    ) -> MeansOverStrata:
        """Return the statistic, still to be filled, for all slices or for some of them."""
        columns = num.arrays if isinstance(num, ValueColumns) else list(num.T)
        order, values = np.argsort(stratum, kind="stable"), ValueColumns([*columns, den])
        samples = np.full((len(masks), resamples, len(columns)), np.nan, np.float32)
        parts = []
        for s in range(len(masks)) if slices is None else slices:
            images = order[masks[s][order]]
            if len(images):
                edges = np.flatnonzero(np.diff(stratum[images], prepend=-1, append=-1))
                parts.append(_Part(s, images, edges, _Sorted(values, images)))
        return cls(parts, samples)

    def fill(self, rows: slice, counts: Counts, each: Each = map) -> None:
        """Compute the means under some of the resamples."""
        for part in self.parts:
            self.samples[part.place, rows] = part.means(counts, each)


Statistic = Ratios | MeansOverStrata
"""A statistic under resamples, which its method `fill` computes for a batch of resamples."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A slice of images sorted by stratum; stratum k is ``images[edges[k]:edges[k + 1]]``.

    The last of `values` are the denominators.
    """

    place: int
    images: Ints
    edges: Ints
    values: _Sorted

    def means(self, counts: Counts, each: Each) -> Floats:
        """Return means over strata, shape (resamples, m)."""
        parts = each(partial(self._sums, counts), self._strata())
        total, n_filled = (sum(part) for part in zip(*parts, strict=True))
        with np.errstate(invalid="ignore"):
            means: Floats = total / n_filled[:, None] * (self.values.units[:-1] / self.values.units[-1])
        return means

    def _sums(self, counts: Counts, strata: tuple[slice, list[int]]) -> tuple[Floats, Ints]:
        """Return the sums of the ratios of some strata, and the number of those in which images count."""
        block, edges = strata
        total = np.zeros((counts.shape[1], self.values.width - 1))
        n_filled = np.zeros(counts.shape[1], np.int64)
        drawn, values = _Drawn(counts[self.images[block]]), self.values[block]
        for start, stop in pairwise(edges):
            sums = values.sums(drawn, slice(start, stop))
            filled = sums[:, -1] > 0
            n_filled += filled
            sums[:, -1] = np.where(filled, sums[:, -1], 1)  # without images, numerators are 0
            total += sums[:, :-1] / sums[:, -1:]
        return total, n_filled

    def _strata(self) -> Iterator[tuple[slice, list[int]]]:
        """Yield blocks of whole strata, and the edges of the strata within each block."""
        first = 0
        while first < len(self.edges) - 1:
            last = max(first + 1, int(np.searchsorted(self.edges, self.edges[first] + _IMAGES, "right")) - 1)
            edges = self.edges[first : last + 1]
            yield slice(int(edges[0]), int(edges[-1])), (edges - edges[0]).tolist()
            first = last


MANY_IMAGES = 200_000
"""With more images than this, values are stored as bytes."""


_BITS, _EXACT_BITS = 30, 53
"""Bits of a whole number without its sign, and of an exact sum in float64."""

_SMALL = 2**24 // (2 * _IMAGES)
"""Numbers whose sums in a block are exact in float32, even if its images are drawn twice as often as others.

Float64 takes twice the time.
"""

_PARTS = (60.0, 420.0)
"""Shares of label sets of up to six, and of up to seven, classes are whole numbers of such parts."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Values of n images as integer multiples of a unit, so that sums do not depend on their order.

    Attributes
    ----------
    codes : ndarray, shape (n,)
        The integers or, if only a few values differ, their positions in `table`, as uint8.
    unit : float
        1 / 60, 1 / 420, or a power of two. No value changes by more than 2^-31 of the largest value.
    table : ndarray of int, shape (256,), optional
    is_small : bool
        Whether the integers are small enough for sums within a block to be exact in float32.
    """

    codes: npt.NDArray[Any]
    unit: float
    table: npt.NDArray[Any] | None = None
    is_small: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the whole numbers."""
        return (self.codes if self.table is None else self.table).dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.codes.nbytes

    def take(self, images: Ints) -> FixedPoint:
        """Return those of some images."""
        return replace(self, codes=self.codes.take(images))

    def integers(self) -> npt.NDArray[Any]:
        """Return the whole numbers, shape (n,)."""
        return self.codes if self.table is None else self.table.take(self.codes)


def compact(values: npt.NDArray[Any]) -> npt.NDArray[Any] | FixedPoint:
    """Return flags unchanged, and other values in fixed point, as bytes if many values are repeated."""
    if values.dtype == bool:
        return values
    if len(values) > MANY_IMAGES and (few := few_values(values)) is not None:
        found = _fixed(few[0], len(values))
        return replace(found, codes=few[1], table=np.resize(found.codes, FEW_VALUES))
    return _fixed(values, len(values))


def _fixed(values: npt.NDArray[Any], n: int) -> FixedPoint:
    """Return values in fixed point, of which n are drawn in each resample."""
    for parts in _PARTS:
        scaled = values * parts
        numbers, most = np.rint(scaled), np.abs(scaled).max(initial=0)
        if most <= _SMALL and np.abs(scaled - numbers).max(initial=0) <= most * 2.0**-31:
            return FixedPoint(numbers.astype(np.int16), 1 / parts, is_small=True)
    size = np.abs(values.astype(np.float64))
    is_finite = np.isfinite(size)
    exponent = int(np.frexp(size.max(where=is_finite, initial=0))[1])
    bits = min(_BITS, _EXACT_BITS - n.bit_length())
    unit = float(np.ldexp(1.0, exponent - bits))
    numbers = np.rint(values / unit)
    return FixedPoint(numbers.astype(np.int32) if is_finite.all() else numbers, unit)
